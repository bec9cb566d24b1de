"""What modules share that sort texts under labels nobody trained for: scores, metrics, predictions; no training."""

from typing import Any

from torch import Tensor

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.parts import knowing, stacked, taken_apart
from lit_ft.errors import UserError
from lit_ft.metrics.classification import NAMES, ClassificationScores
from lit_ft.modules.base import Batch, Description, TransformerModule
from lit_ft.ops.decoding.labels import in_words, written
from lit_ft.ops.losses.classification import labelled, score_losses


class CandidateLabelModule(TransformerModule):
    """Never trained; a task writes `outputs`, the score of each label, `[batch, labels]`."""

    instead: str
    """What to do where labelled rows shall be learned from."""

    def setup(self, stage: str) -> None:
        """Refuses training; see the base."""
        super().setup(stage)
        if stage == "fit":
            raise UserError(f"zero-shot classification is not trained: lit-ft predict or test; {self.instead}")

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Minus the logarithm of the right label's score; see the base."""
        there = labelled(batch["labels"])
        return score_losses(outputs, batch["labels"])[there].sum(), there.sum()

    def decode(self, outputs: Tensor, batch: Batch) -> list[Part]:
        """Takes the scores `[labels]` of each row, and its label; see the base."""
        return taken_apart(len(outputs), scores=outputs, label=batch.get("labels"))

    def metrics(self, description: Description, stage: str) -> ClassificationScores:
        """Those of text classification; see the base."""
        return ClassificationScores("single_label", description["labels"], self.device)

    def update(self, metrics: ClassificationScores, rows: list[Part]) -> None:
        """Scores the labelled rows; see the base."""
        if (found := stacked(knowing(rows, "label"), "scores", "label")) is not None:
            metrics.update(*found)

    def compute(self, metrics: ClassificationScores) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        return metrics.compute()

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return NAMES["single_label"]

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """Minus the logarithm of the right label's score; see the base."""
        found = stacked(rows, "scores", "label")
        return None if found is None else score_losses(*found)

    def said(self, row: Part) -> str:
        """The likeliest label; see the base."""
        return in_words(self.prediction(row))

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the likeliest label and the score of every label; see the base."""
        return written(row["scores"], self.description["labels"], "single_label")
