"""Causal language models that learn replies; predicting is replying."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lit_ft.modules.base import Batch
from lit_ft.modules.language_modeling import LabelledStates
from lit_ft.modules.replying import ReplyingModule
from lit_ft.ops.heads.token_loss import token_loss
from lit_ft.ops.neftune import noisy_embeddings
from lit_ft.ranges import NOT_NEGATIVE, check_choice, check_ranges

Weighting = Literal["token", "example"]
"""What counts alike in a batch: each token, or each conversation."""


class InstructionTuningModule(ReplyingModule):
    """Learns the labelled tokens of conversations; batches are those of `InstructionTuningDataModule`.

    Metrics are those of the labelled tokens: loss, `perplexity`, `accuracy`. Each prediction is a `reply` (a list where
    several are asked for).

    Args:
        loss_weighting: `token` (every labelled token counts alike, long replies more) or `example` (every conversation
            counts alike); of the training loss.
        neftune_noise_alpha: strength of the noise on embeddings while training (NEFTune): 5 to 15, 0 = none.
        kwargs: options of `CausalLMModule`; `sample_prompts` are what users say, each a conversation of its own.
    """

    predicted_text = "reply"

    def __init__(
        self,
        *,
        loss_weighting: Weighting = "token",
        neftune_noise_alpha: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice(self.hparams, "loss_weighting", get_args(Weighting))
        check_ranges(self.hparams, {"neftune_noise_alpha": NOT_NEGATIVE})

    def states(self, inputs: dict[str, Any], targets: Tensor, rows: Tensor, sequences: Tensor) -> LabelledStates:
        """Runs the model on embeddings with noise, if it is trained; see the base."""
        assert self.model is not None
        with noisy_embeddings(self.model, self.hparams["neftune_noise_alpha"], inputs):
            return super().states(inputs, targets, rows, sequences)

    def loss(self, outputs: LabelledStates, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the labelled tokens, by token or by conversation; see the base."""
        if self.hparams["loss_weighting"] == "token":
            return super().loss(outputs, batch)
        sequence = outputs.sequence
        tokens = torch.zeros(batch["input_ids"].numel(), device=sequence.device)  # sequences; their number is not asked
        tokens.index_add_(0, sequence, torch.ones_like(sequence, dtype=tokens.dtype))
        weights = (1 / tokens.clamp(min=1))[sequence]
        total = token_loss(self.halves, outputs.hidden, outputs.targets, weights=weights)
        return total, (tokens > 0).sum().float()
