"""The progress bar: loss, tokens per second and the metric that the best checkpoint is chosen by."""

from time import monotonic
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

PER_SECOND = 4
"""How often the bar changes. Lightning would draw it 100 times a second."""


class RunProgress(RichProgressBar):
    """Lightning's rich bar without the number of the run, which the last line on screen names anyway.

    Between two changes of the bar no step looks at a metric: each look would wait for the GPU.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=PER_SECOND)
        self._next = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Shows the step where it is time to, and the last of an epoch."""
        now = monotonic()
        if now >= self._next or trainer.is_last_batch:  # type: ignore[attr-defined]
            self._next = now + 1 / PER_SECOND
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Returns what stands beside the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
