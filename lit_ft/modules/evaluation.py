"""One evaluation set on its way: its loss, its metrics, and the rows whose windows have not all come yet."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from lit_ft.data.merging import RowMerger
from lit_ft.ops.losses import mean


class EvaluationSet:
    """State of one set during one evaluation.

    Args:
        name: of the set; `""` when there is only one.
        metrics: whatever the task's `metrics` made.
        device: where the metrics live.
    """

    def __init__(self, name: str, metrics: Any, device: torch.device) -> None:
        self.name, self.metrics, self.merger = name, metrics, RowMerger()
        self.loss = MeanMetric().to(device)

    def add_loss(self, total: Tensor, count: Tensor) -> None:
        """Adds a batch's summed loss; batches without a labelled row add nothing."""
        self.loss.update(mean(total, count), weight=count)


def prefixes(stage: str, sets: list[str], number: int) -> list[str]:
    """Returns the prefixes of a set's metrics: `val_{set}_` with several sets, and `val_` for the first."""
    if len(sets) == 1:
        return [f"{stage}_"]
    named = f"{stage}_{sets[number] or number}_"
    return [named, f"{stage}_"] if number == 0 else [named]
