"""Real tokens per second of training, on the progress bar and in `metrics.csv`."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train_tokens/s`: tokens that are no padding, over all processes."""

    def __init__(self) -> None:
        self._tokens: Any = 0
        self._since = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts counting."""
        self._tokens, self._since = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts on the device; only every `log_every_n_steps` is the count read, so that steps are not held up."""
        if not isinstance(batch, dict) or not {"attention_mask", "position_ids"} & batch.keys():
            return
        self._tokens = self._tokens + real_tokens(batch)
        if (batch_idx + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            rate = float(self._tokens) * trainer.world_size / (time.perf_counter() - self._since)
            pl_module.log("train_tokens/s", torch.tensor(rate), prog_bar=True, rank_zero_only=True)
            self._tokens, self._since = 0, time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps validation out of the rate."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on counting."""
        self._since += time.perf_counter() - self._paused


def real_tokens(batch: dict[str, Any]) -> Any:
    """Returns how many tokens of a batch are no padding, on its device."""
    if batch.get("attention_mask") is not None:
        return batch["attention_mask"].sum()
    if (positions := batch.get("position_ids")) is None:  # full blocks
        return batch["input_ids"].numel()
    # of packed documents; padding is documents of one token
    return (positions > 0).sum() + (positions == 1).sum()
