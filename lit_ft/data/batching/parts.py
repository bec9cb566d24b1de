"""What evaluation keeps of rows: columns of a batch taken apart, and put together again."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_ft.data.batching.merging import Part


def taken_apart(size: int, /, **columns: Any) -> list[Part]:
    """Returns a part for each feature of a batch.

    Args:
        size: how many features.
        columns: a value for each of them by name, as tensors or lists; `None` = nobody knows, and so says each part.
    """
    values = ([None] * size if column is None else column for column in columns.values())
    return [dict(zip(columns, part, strict=True)) for _, *part in zip(range(size), *values, strict=True)]


def knowing(rows: Sequence[Part], name: str) -> list[Part]:
    """Returns the rows of which a name is known: some batches may have no labels."""
    return [row for row in rows if row[name] is not None]


def stacked(rows: Sequence[Part], *names: str) -> tuple[Tensor, ...] | None:
    """Returns tensors of some rows, `[rows, ...]` of each name; `None` where there are no rows, or one is not known."""
    if not rows or any(row[name] is None for row in rows for name in names):
        return None
    return tuple(torch.stack([row[name] for row in rows]) for name in names)


def side_by_side(**columns: Tensor) -> list[Part]:
    """Returns a part for each pair of replies, of which a batch has all chosen ones before all rejected ones.

    Args:
        columns: a value for each reply by name, `[2 * pairs]`; parts have them as `chosen_<name>`, `rejected_<name>`.
    """
    size = len(next(iter(columns.values()))) // 2
    sides = (("chosen", slice(None, size)), ("rejected", slice(size, None)))
    return taken_apart(size, **{f"{side}_{name}": each[at] for name, each in columns.items() for side, at in sides})
