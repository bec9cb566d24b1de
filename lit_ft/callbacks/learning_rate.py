"""The learning rate of the steps, in `metrics.csv`."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class LearningRate(Callback):
    """Logs `learning_rate`, that of the parameters with the greatest, every `log_every_n_steps`.

    Lightning's `LearningRateMonitor` logs that of every group of parameters, some dozens with `layerwise_lr_decay`.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Logs before the step, for which it counts."""
        if (batch_idx + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
            pl_module.log("learning_rate", max(rates, default=0.0), rank_zero_only=True)
