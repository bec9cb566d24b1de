"""Accuracy of multiple choice, over all rows and over those with the same number of choices."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class ChoiceAccuracy(Metric):
    """Share of rows whose most likely choice is right; keeps two numbers for each number of choices.

    Args:
        counts: numbers of choices that rows have; rows with another one count in the whole only.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    rows: Tensor

    def __init__(self, counts: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.counts = sorted(counts)
        for name in ("right", "rows"):
            self.add_state(name, torch.zeros(len(self.counts) + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor, choices: Tensor) -> None:
        """Counts a batch: probabilities `[batch, choices]`, right choices `[batch]`, choices of each row `[batch]`."""
        known = torch.tensor(self.counts, device=choices.device)
        same = choices[:, None] == known
        place = torch.where(same.any(1), same.long().argmax(1) if self.counts else 0, len(self.counts))
        self.rows.index_add_(0, place, torch.ones_like(place))
        self.right.index_add_(0, place, (preds.argmax(-1) == target).long())

    def compute(self) -> dict[str, Tensor]:
        """Returns `accuracy` and, where rows differ, `accuracy_4` (rows of four) and so on; NaN: no rows."""
        values = {"accuracy": self.right.sum() / self.rows.sum()}
        if len(self.counts) > 1:
            shares = (self.right / self.rows)[:-1]
            values |= dict(zip(accuracy_names(self.counts), shares, strict=True))
        return values


def accuracy_names(counts: Sequence[int]) -> list[str]:
    """Returns the names of the accuracies of rows with the same number of choices; none where all have the same."""
    return [f"accuracy_{count}" for count in sorted(counts)] if len(counts) > 1 else []
