"""One evaluation set on its way: its loss, its metrics, and the rows whose windows have not all come yet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchmetrics import SumMetric

from lit_ft.data.batching.merging import RowMerger
from lit_ft.errors import UserError, did_you_mean
from lit_ft.ops.losses.classification import mean


class EvaluationSet:
    """State of one set during one evaluation.

    Args:
        name: of the set; `""` when there is only one.
        metrics: whatever the task's `metrics` made.
        device: where the metrics live.
    """

    def __init__(self, name: str, metrics: Any, device: torch.device) -> None:
        self.name, self.metrics, self.merger = name, metrics, RowMerger()
        # sums, not MeanMetric: it leaves NaN losses out, so that a diverged model would look healthy
        self.total, self.count = (SumMetric(nan_strategy="disable").to(device) for _ in range(2))

    def add_loss(self, total: Tensor, count: Tensor) -> None:
        """Adds a batch's summed loss; batches without a labelled row add nothing."""
        self.total.update(total)
        self.count.update(count)

    def loss(self) -> Tensor:
        """Returns the mean loss over the set; every process calls it."""
        return mean(self.total.compute(), self.count.compute())


@contextmanager
def full_precision() -> Iterator[None]:
    """Makes float32 the default dtype for a while: a bfloat16 sum stops growing after a few hundred rows."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def beside(info: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
    """Puts a prediction beside the input's own columns; one of the same name is kept as `input_<name>`."""
    return {f"input_{name}" if name in prediction else name: value for name, value in info.items()} | prediction


def prefixes(stage: str, sets: list[str], number: int) -> list[str]:
    """Returns the prefixes of a set's metrics: `val_{set}_` with several sets, and `val_` for the first."""
    if len(sets) == 1:
        return [f"{stage}_"]
    named = f"{stage}_{sets[number] or number}_"
    return [named, f"{stage}_"] if number == 0 else [named]


def check_monitors(trainer: Any, known: set[str]) -> None:
    """Raises a `UserError` with the closest name when a callback monitors what is not logged."""
    for callback in trainer.callbacks:
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in known:
            raise UserError(
                f"{type(callback).__name__} monitors {monitor!r}, which is not logged{did_you_mean(monitor, known)}; "
                f"logged: {sorted(known)}"
            )
