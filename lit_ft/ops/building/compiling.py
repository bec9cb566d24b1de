"""torch.compile for the layers of a model, which repeat: one compilation serves all of them."""

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def compile_layers(model: nn.Module) -> int:
    """Compiles each layer for any batch size and length, at its first call; embeddings and heads stay as they are.

    Args:
        model: a transformers model; its weights keep their names.

    Returns:
        How many layers there are; 0 = none is known, and the whole model is compiled.
    """
    from torch._dynamo import config  # a second to import

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    # a layer's number is part of what it was compiled for: by default only the first eight would be
    config.recompile_limit = max(config.recompile_limit, 4 * len(layers))
    for module in layers or [model]:
        module.compile(dynamic=True)
    return len(layers)
