"""What every task's module shares: the hooks that a task writes, the training step, and all that lies below."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_ft.modules.adamw import AdamWModule
from lit_ft.modules.building import BuiltModule
from lit_ft.modules.evaluating import EvaluatingModule
from lit_ft.modules.randomness import StepwiseRandomness
from lit_ft.ops.agreements import Batch, Description, checked_loss
from lit_ft.ops.losses.classification import mean

SAMPLE = 4
"""Rows of a sample."""

__all__ = ["SAMPLE", "Batch", "Description", "TransformerModule"]


class TransformerModule(EvaluatingModule, AdamWModule, BuiltModule, StepwiseRandomness):
    """A Hugging Face model in Lightning: `module.model` is the model itself, unpatched.

    A task writes `auto_class`, `loss`, `decode`, `metrics`, `update`, `compute`, `metric_names` and `prediction`, where
    the configuration has to know something `config_kwargs`, and where its rows have several windows `merge`.
    """

    pipeline_tag: str | None = None
    """Task name on the hub, for the model card."""
    card_example: str = ""
    """How the exported folder is used, for the model card; by default, how it is opened."""

    predicted_text: str = "prediction"
    """What predictions call the text that they are, where they are one: `txt` files hold it alone."""

    # What a task writes

    def progress(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Returns what is logged of each training batch beside its loss."""
        return {}

    def model_inputs(self, batch: Batch) -> Batch:
        """Returns the forward's keywords: no label, so that the head's own loss is not computed beside ours."""
        ours = (*self.label_keys, *self.extra_keys, "row", "windows", "settled", "info")
        if self.model is not None and getattr(self.model.config, "type_vocab_size", None) == 1:
            ours = (*ours, "token_type_ids")  # as of RoBERTa, whose tokenizer may yet tell texts of a pair apart
        return {name: value for name, value in batch.items() if name not in ours}

    def outputs(self, batch: Batch) -> Any:
        """Runs the model on a batch; returns what `loss` and `decode` are given."""
        return self(**self.model_inputs(batch))

    def scores(self, outputs: Any) -> Tensor:
        """Returns the scores that an exported folder must give, too."""
        return outputs.logits  # type: ignore[no-any-return]

    def sample_inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Returns inputs of a few rows, on which an exported folder must give the same scores."""
        return {name: value[:SAMPLE] for name, value in self.model_inputs(batch).items() if isinstance(value, Tensor)}

    def write_extras(self, folder: Path) -> None:
        """Adds what other libraries need to an exported folder; by default nothing."""

    def text_sample(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """Makes inputs for the model of the tokens of a text, `[1, seq]` each."""
        return tokens

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Takes what the data module says of its rows; checks, before any weights are loaded, what needs it."""
        self.description = self.known_description
        self.check_tokens()
        if stage == "fit":
            self._normaliser.begin()
            self.check_monitored()
            self.check_warmup()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss to call backward on; logs `train_loss`."""
        outputs, size = self.outputs(batch), len(batch["input_ids"])
        total, count = checked_loss(self, self.loss(outputs, batch))
        self.log("train_loss", mean(total, count).detach(), prog_bar=True, batch_size=size)
        for name, value in self.progress(outputs, batch).items():
            self.log(f"train_{name}", value, batch_size=size)
        return self._normaliser.loss(self, total, count)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Makes the gradients those of one big batch; Lightning clips afterwards."""
        self._normaliser.rescale(self, optimizer)
