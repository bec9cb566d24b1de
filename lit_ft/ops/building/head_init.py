"""A classification head that begins with what the model says of the labels' names, for few rows to learn from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_ft.errors import UserError

FIRST_LOGIT = 1.0
"""Of a label's own name, on average; those of the others are around zero."""


@torch.no_grad()
def name_head(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], loaded: set[str]
) -> str:
    """Sets the last layer of a fresh head to the nearest of the labels' names, as the model reads them.

    The layer's input for each name, less their mean, becomes the weight of its label: prototypes (arXiv 1703.05175) of
    one name each.

    Args:
        model: with a fresh head.
        tokenizer: of the model.
        names: of the labels, by their ids.
        loaded: names of the parameters that a checkpoint gave.

    Returns:
        The name of the layer.

    Raises:
        UserError: no layer of the head is fresh, or two names are read alike.
    """
    found = [
        (name, part) for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and part.out_features == len(names) and f"{name}.weight" not in loaded
    ]  # fmt: skip
    if not found:
        raise UserError("head_init: label_names is for a new head, but the checkpoint has one: leave head_init out")
    name, layer = str(found[-1][0]), found[-1][1]
    seen: list[tuple[Tensor, Tensor]] = []
    hook = layer.register_forward_hook(
        lambda _, given, made: seen.append((given[0].flatten(0, -2), made.flatten(0, -2)))
    )
    features = []
    training = model.training
    model.eval()
    try:
        for said in names:
            inputs: Any = tokenizer(said.replace("_", " "), return_tensors="pt").to(model.device)
            logits = model(**inputs).logits
            given, scores = seen[-1]
            features.append(given[(scores - logits).abs().sum(-1).argmin()])  # of the token that the model looks at
    finally:
        hook.remove()
        model.train(training)
    points = torch.stack(features).double()
    middle = points.mean(0)
    directions = points - middle
    if layer.bias is None:  # what they have in common must not tell between them
        directions -= (directions @ middle)[:, None] * middle / middle.square().sum()
    if float(torch.pdist(points).min()) < 1e-6:
        raise UserError(f"head_init: label_names needs names that say something, but two of {list(names)} are alike")
    weight = directions * (FIRST_LOGIT / directions.square().sum(1).mean())
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(-weight @ middle)
    return name
