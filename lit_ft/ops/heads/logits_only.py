"""Stands in for a split model where logits must be made in the model's own pass."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class LogitsOnly:
    """A model that does not split, or whose head is sharded: its logits take the place of the hidden state.

    Attributes:
        logits_at: (positions, bool `[batch, seq]`; the forward's keywords) -> their logits `[n, vocab]`.
    """

    logits_at: Callable[..., Tensor]
    linear: None = None

    @staticmethod
    def of(model: Callable[..., Any]) -> "LogitsOnly":
        """Takes a whole model: logits at every position, then those that are asked for."""
        return LogitsOnly(partial(_chosen, model))

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns what it is given, `[n, vocab]`."""
        return hidden

    def head_parameters(self) -> list[nn.Parameter]:
        """Returns none: the head has run already."""
        return []


def _chosen(model: Callable[..., Any], positions: Tensor, **inputs: Any) -> Tensor:
    logits: Tensor = model(**inputs).logits
    return logits[positions]
