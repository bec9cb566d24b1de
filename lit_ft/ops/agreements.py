"""What a task's methods have agreed to return, checked where a mistake would show up far from where it was made."""

from collections.abc import Collection, Sized
from typing import Any

import torch
from torch import Tensor

from lit_ft.errors import UserError

Batch = dict[str, Any]
"""Tensors by transformers' names, and what evaluation needs beside them."""
Description = dict[str, Any]
"""What the data say of their rows, as plain JSON."""


def checked_loss(module: Any, found: Any) -> tuple[Tensor, Tensor]:
    """Returns what `loss` returned: a sum and the count to divide it by, the latter as a tensor.

    Raises:
        UserError: it is something else, such as a mean.
    """
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor) and found[0].ndim == 0:
        total, count = found
        return total, count if isinstance(count, Tensor) else torch.as_tensor(count, device=total.device)
    raise UserError(f"{_name(module)}.loss returned {_said(found)}; it returns the sum of losses and their count")


def check_parts(module: Any, found: Any, batch: dict[str, Any]) -> None:
    """Makes sure that `decode` returned a part for each feature.

    Raises:
        UserError: it did not.
    """
    if "row" not in batch:  # of a foreign loader: nobody knows how many rows its tensors make
        return
    size = len(batch["row"])
    if not isinstance(found, Sized) or len(found) != size:
        raise UserError(
            f"{_name(module)}.decode returned {_said(found)}; it returns a dict for each of {size} features"
        )


def check_metrics(module: Any, computed: Collection[str], named: Collection[str]) -> None:
    """Makes sure that `compute` returns what `metric_names` promised: callbacks are asked to monitor these.

    Raises:
        UserError: it does not; where nothing was generated, metrics may be left out.
    """
    missing = set() if module.leaves_metrics_out else {*named} - {*computed}
    if missing or {*computed} - {*named}:
        raise UserError(f"{_name(module)}.compute returned {sorted(computed)}, but metric_names says {sorted(named)}")


def _name(module: Any) -> str:
    return type(module).__name__


def _said(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"a tensor of shape {[*found.shape]}"
    size = f" of {len(found)}" if isinstance(found, Sized) and not isinstance(found, str) else ""
    return "nothing" if found is None else f"a {type(found).__name__}{size}"
