"""A language model that does not split into body and head: its logits stand in for the hidden state."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class WholeModel:
    """Has the methods of `SplitModel`, at the price of logits at every position.

    Attributes:
        model: the whole model.
    """

    model: nn.Module
    linear: None = None

    def hidden(self, **inputs: Any) -> Tensor:
        """Returns the model's logits, `[batch, seq, vocab]`."""
        logits: Tensor = self.model(**inputs).logits
        return logits

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns what it is given, `[n, vocab]`."""
        return hidden

    def head_parameters(self) -> list[nn.Parameter]:
        """Returns none: the head has run already."""
        return []
