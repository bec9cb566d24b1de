"""What modules share that sort texts under labels nobody trained for: scores, metrics, predictions; no training."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection

from lit_ft.data.batching.merging import Part
from lit_ft.data.labels import IGNORED
from lit_ft.errors import UserError
from lit_ft.metrics.classification import NAMES, classification_metrics, per_label_table, scalars, update_metrics
from lit_ft.modules.base import Batch, Description, TransformerModule


class CandidateLabelModule(TransformerModule):
    """Never trained; a task writes `outputs`, the score of each label, `[batch, labels]`."""

    instead: str
    """What to do where labelled rows shall be learned from."""

    def setup(self, stage: str) -> None:
        """Refuses training; see the base."""
        super().setup(stage)
        if stage == "fit":
            raise UserError(f"zero-shot classification is not trained: lit-ft predict or test; {self.instead}")

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Nothing: the model stays as it is; see the base."""
        return {}

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Minus the logarithm of the right label's score; see the base."""
        labels = batch["labels"]
        there = labels != IGNORED
        right = outputs.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        return -right.log()[there].sum(), there.sum()

    def decode(self, outputs: Tensor, batch: Batch) -> list[Part]:
        """Takes the scores `[labels]` of each row, and its label; see the base."""
        labels = batch["labels"] if "labels" in batch else [None] * len(outputs)
        return [{"scores": row, "label": label} for row, label in zip(outputs, labels, strict=True)]

    def metrics(self, description: Description, stage: str) -> tuple[MetricCollection]:
        """Those of text classification; see the base."""
        return (classification_metrics("single_label", len(description["labels"]), None).to(self.device),)

    def update(self, metrics: tuple[MetricCollection], rows: list[Part]) -> None:
        """Scores the labelled rows; see the base."""
        rows = [row for row in rows if row["label"] is not None and int(row["label"]) != IGNORED]
        if rows:
            scores, labels = (torch.stack([row[name] for row in rows]) for name in ("scores", "label"))
            update_metrics(metrics[0], {}, scores, labels)

    def compute(self, metrics: tuple[MetricCollection]) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        return scalars(metrics[0], {})

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return NAMES["single_label"]

    def label_table(self, stage: str) -> list[list[dict[str, Any]]]:
        """Returns precision, recall, F1 and support of each label, for each set evaluated last."""
        return [per_label_table(each[0], self.description["labels"]) for each in self.set_metrics(stage)]

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """Minus the logarithm of the right label's score; see the base."""
        if rows[0]["label"] is None:
            return None
        labels, scores = (torch.stack([row[name] for row in rows]) for name in ("label", "scores"))
        right = scores.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        return -right.log().masked_fill(labels == IGNORED, torch.nan)

    def said(self, row: Part) -> str:
        """The likeliest label; see the base."""
        made = self.prediction(row)
        return f"{made['predicted_label']} ({made['score']:.1%})"

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the likeliest label and the score of every label; see the base."""
        scores = dict(zip(self.description["labels"], row["scores"].tolist(), strict=True))
        best = max(scores, key=scores.__getitem__)
        return {"predicted_label": best, "score": scores[best], "scores": scores}
