"""Hugging Face's Trainer on batches that are given: the other side of parity tests."""

from typing import Any

from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, Trainer


class _OnGivenBatches:
    """Takes batches as they are; the Trainer's own log rounds the losses, so they are kept here."""

    def __init__(self, batches: list[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batches: list[Any] = batches
        self.losses: list[float] = []

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)  # type: ignore[misc]
        self.losses.append(float(loss))
        return loss


class TrainerOnGivenBatches(_OnGivenBatches, Trainer):
    """Transformers' Trainer."""


class Seq2SeqTrainerOnGivenBatches(_OnGivenBatches, Seq2SeqTrainer):
    """Transformers' Trainer of encoder-decoders."""
