"""How models count positions where nobody tells them: the ways there are, to be tried on a model."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Positions = Callable[[Tensor, Tensor, int | None], Tensor]
"""(token ids, attention mask, padding id of the table of positions) -> positions, `[batch, seq]` each."""


def by_column(ids: Tensor, mask: Tensor, padding: int | None) -> Tensor:
    """Positions count columns, padding or not: BERT, GPT-2, and in effect whatever has relative or rotary ones."""
    return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)


def by_mask(ids: Tensor, mask: Tensor, padding: int | None) -> Tensor:
    """Positions count the tokens that are no padding: OPT."""
    return (mask.long().cumsum(1) - 1).clamp_min(0)


def by_padding_token(ids: Tensor, mask: Tensor, padding: int | None) -> Tensor:
    """Positions count the tokens that are not the padding token, from the one after its id on: RoBERTa."""
    if padding is None:
        return by_column(ids, mask, padding)
    real = ids.ne(padding).long()
    return real.cumsum(1).mul_(real).add_(padding)


RULES: tuple[Positions, ...] = (by_column, by_padding_token, by_mask)


def padding_of_positions(model: nn.Module) -> int | None:
    """Returns the padding id of a model's table of positions, if it has one: it is fixed when the model is made."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and "position" in name and module.padding_idx is not None:
            return module.padding_idx
    return None
