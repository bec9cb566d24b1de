"""Causal language models that learn replies; predicting is replying."""

from typing import Any

from lit_ft.data.merging import Part
from lit_ft.modules.replying import ReplyingModule


class InstructionTuningModule(ReplyingModule):
    """Learns the labelled tokens of conversations; batches are those of `InstructionTuningDataModule`.

    Metrics are those of the labelled tokens: loss, `perplexity`, `accuracy`. Each prediction is a `reply` (a list where
    several are asked for).

    Args:
        kwargs: options of `CausalLMModule`; `sample_prompts` are what users say, each a conversation of its own.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def predict_parts(self, batch: Any) -> list[Part]:
        """Replies to each conversation; see the base."""
        return [{"reply": each["generated_text"]} for each in super().predict_parts(batch)]
