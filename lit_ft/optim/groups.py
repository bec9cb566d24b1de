"""Parameter groups of AdamW: no decay on biases and norms, and a learning rate that falls with the depth."""

import re
from typing import Any

from torch import nn
from transformers.pytorch_utils import ALL_LAYERNORM_LAYERS

NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""Names that Hugging Face's Trainer keeps from decaying."""

SECOND = re.compile(r"\.lora_(embedding_)?B(\.|$)")
"""LoRA's matrices that start as zeros."""


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    layerwise_lr_decay: float | None = None,
    loraplus_lr_ratio: float | None = None,
) -> list[dict[str, Any]]:
    """Groups the trainable parameters as Hugging Face's Trainer does.

    Args:
        model: the model.
        learning_rate: of the head, and of everything without `layerwise_lr_decay`.
        weight_decay: of all parameters but biases and norms.
        layerwise_lr_decay: factor from each layer to the one below it (ULMFiT's discriminative fine-tuning, Howard
            and Ruder 2018); embeddings are the lowest.
        loraplus_lr_ratio: factor for LoRA's matrices B, which start as zeros (LoRA+, Hayou et al. 2024).

    Returns:
        Groups for a torch optimizer, decaying ones first.
    """
    from transformers.trainer_pt_utils import get_parameter_names  # imports PEFT where that is installed: a second

    decaying = set(get_parameter_names(model, ALL_LAYERNORM_LAYERS, NO_DECAY))
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    depths = layer_depths(_body(model)) if layerwise_lr_decay else {}
    groups: dict[tuple[bool, int, bool], list[nn.Parameter]] = {}
    for name, parameter in trainable:
        second = bool(loraplus_lr_ratio) and SECOND.search(name) is not None
        groups.setdefault((name not in decaying, depths.get(name, 0), second), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": 0.0 if spared else weight_decay,
            "lr": learning_rate
            * (layerwise_lr_decay or 1.0) ** depth
            * ((loraplus_lr_ratio or 1.0) if second else 1.0),
        }
        for (spared, depth, second), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def _body(model: nn.Module) -> list[str]:
    """Names the parameters below the head: a head may number its own layers."""
    names = [name for name, _ in model.named_parameters()]
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return [name for name in names if name.startswith(prefix)] or names


def layer_depths(names: list[str]) -> dict[str, int]:
    """Returns how far below the head each parameter lies: 0 for the head, 1 for the last layer, ... embeddings last.

    Layers are told by the first number in a parameter's name; what has none lies with the embeddings if it is named
    so or stands before the first layer, else with the head.
    """
    numbers = {name: match for name in names if (match := re.search(r"\.(\d+)\.", name))}
    layers = 1 + max((int(match[1]) for match in numbers.values()), default=-1)
    depths, seen_layer = {}, False
    for name in names:
        seen_layer = seen_layer or name in numbers
        above = seen_layer and "embed" not in name
        depths[name] = layers - int(numbers[name][1]) if name in numbers else (0 if above else layers + 1)
    return depths
