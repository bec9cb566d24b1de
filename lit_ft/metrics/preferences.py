"""Rewards of chosen and of rejected replies, as sums over rows."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

NAMES = ("reward_chosen", "reward_rejected", "reward_margin")
OF_PAIRS = ("reward_accuracy",)


class RewardScores(Metric):
    """Means of rewards, and how often the better reply has the higher one.

    Args:
        paired: whether rewards come in pairs.
        kwargs: of torchmetrics' `Metric`.
    """

    higher_is_better = None
    is_differentiable = False
    full_state_update = False

    chosen: Tensor
    rejected: Tensor
    good: Tensor
    bad: Tensor
    right: Tensor

    def __init__(self, paired: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.paired = paired
        for name in ("chosen", "rejected", "good", "bad", "right"):
            self.add_state(name, default=torch.zeros(()), dist_reduce_fx="sum")

    def update(self, chosen: Tensor, rejected: Tensor) -> None:
        """Adds rewards of chosen (or good) replies `[n]`, and of rejected (or bad) ones `[m]`; pairs in their order."""
        self.chosen += chosen.float().sum()
        self.rejected += rejected.float().sum()
        self.good += len(chosen)
        self.bad += len(rejected)
        if self.paired:
            self.right += (chosen > rejected).sum()

    def compute(self) -> dict[str, Tensor]:
        """Returns the means by name; NaN where there was no such reply."""
        chosen, rejected = self.chosen / self.good, self.rejected / self.bad
        values = dict(zip(NAMES, (chosen, rejected, chosen - rejected), strict=True))
        return {**values, "reward_accuracy": self.right / self.good} if self.paired else values


def means(chosen: Tensor, rejected: Tensor, paired: bool) -> dict[str, Tensor]:
    """Returns the means of one batch by name, but those of no reply; see `RewardScores.update`."""
    sides = {name: side.float().mean() for name, side in zip(NAMES, (chosen, rejected), strict=False) if len(side)}
    if len(sides) == len(NAMES) - 1:
        sides["reward_margin"] = sides["reward_chosen"] - sides["reward_rejected"]
    return {**sides, "reward_accuracy": (chosen > rejected).float().mean()} if paired and sides else sides


def names(paired: bool) -> list[str]:
    """Returns the names of the metrics."""
    return [*NAMES, *(OF_PAIRS if paired else ())]
