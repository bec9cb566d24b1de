"""Scores of language models as sums over tokens: perplexity, accuracy, bits per byte."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric


class TokenScores(Metric):
    """Sums over predicted tokens; torchmetrics' own perplexity wants the logits of the whole vocabulary."""

    higher_is_better = None
    is_differentiable = False
    full_state_update = False

    loss: Tensor
    tokens: Tensor
    correct: Tensor
    bytes: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("loss", "tokens", "correct", "bytes"):
            self.add_state(name, default=torch.zeros(()), dist_reduce_fx="sum")

    def update(self, loss: Tensor, tokens: Tensor, correct: Tensor, size: Tensor) -> None:
        """Adds texts.

        Args:
            loss: summed negative log likelihood of each, in nats, `[n]`.
            tokens: how many tokens were predicted in each, `[n]`.
            correct: how many of them were the likeliest, `[n]`.
            size: how many bytes of text they stand for, `[n]`.
        """
        self.loss += loss.sum()
        self.tokens += tokens.sum()
        self.correct += correct.sum()
        self.bytes += size.sum()

    def compute(self) -> dict[str, Tensor]:
        """Returns `perplexity`, `accuracy` and `bits_per_byte`; NaN where nothing was predicted."""
        return {
            "perplexity": (self.loss / self.tokens).exp(),
            "accuracy": self.correct / self.tokens,
            "bits_per_byte": self.loss / self.bytes / math.log(2),
        }
