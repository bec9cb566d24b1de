"""Text classification without training: a model of natural language inference says which label a text entails."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from lit_ft.data.labels import IGNORED
from lit_ft.data.merging import Part
from lit_ft.errors import UserError, did_you_mean
from lit_ft.metrics.classification import NAMES, classification_metrics, per_label_table, scalars, update_metrics
from lit_ft.modules.base import Batch, Description, TransformerModule


class ZeroShotModule(TransformerModule):
    """Sorts texts under `candidate_labels`; batches are those of `ZeroShotDataModule`. It is never trained.

    Predictions and scores are those of transformers' pipeline `zero-shot-classification`.

    Args:
        multi_label: score each label by itself, entailment against contradiction, instead of one against another.
        entailment_label: name of the model's label for entailment. Default: the one that begins with `entail`.
        kwargs: options of every module.
    """

    auto_class = AutoModelForSequenceClassification
    pipeline_tag = "zero-shot-classification"
    card_example = """from transformers import pipeline

classify = pipeline("zero-shot-classification", "this/folder")
classify("a text", candidate_labels=["one label", "another"])"""

    def __init__(self, *, multi_label: bool = False, entailment_label: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def setup(self, stage: str) -> None:
        """Refuses training; see the base."""
        super().setup(stage)
        if stage == "fit":
            raise UserError(
                "zero-shot classification is not trained: lit-ft predict or test; TextClassificationModule learns from "
                "labelled rows, also of natural language inference"
            )

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Nothing: the model keeps its own labels; see the base."""
        return {}

    def build(self) -> PreTrainedModel:
        """Builds the model, and looks for its label of entailment; see the base."""
        model = super().build()
        _ = self.places
        return model

    @property
    def places(self) -> tuple[int, int]:
        """Ids of entailment and of contradiction among the model's labels.

        Raises:
            UserError: the model is none of natural language inference.
        """
        assert self.model is not None
        names = {str(name): int(at) for name, at in self.model.config.label2id.items()}
        given = self.hparams["entailment_label"]
        if given is not None and given not in names:
            raise UserError(
                f"entailment_label {given!r}: the model's labels are {[*names]}{did_you_mean(given, names)}"
            )
        found = [at for name, at in names.items() if name == (given or name) and (given or _entails(name))]
        if not found or len(names) < 2:
            raise UserError(
                f"the model's labels {[*names]} say nothing of entailment: take a model of natural language inference, "
                "such as facebook/bart-large-mnli, or set entailment_label"
            )
        # as transformers' pipeline has it, whatever the labels between are called
        return found[0], len(names) - 1 if found[0] == 0 else 0

    def model_inputs(self, batch: Batch) -> Batch:
        """Lays all pairs one below the other; see the base."""
        inputs = super().model_inputs(batch)
        return {name: value.flatten(0, 1) if value.dim() == 3 else value for name, value in inputs.items()}

    def outputs(self, batch: Batch) -> Tensor:
        """Returns the probability of each label, `[batch, labels]`; see the base."""
        size = batch["input_ids"].shape[1]
        logits: Tensor = super().outputs(batch).logits.float().unflatten(0, (-1, size))
        entails, contradicts = self.places
        if self.hparams["multi_label"] or size == 1:
            return logits[..., [contradicts, entails]].softmax(-1)[..., 1]
        return logits[..., entails].softmax(-1)

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Minus the logarithm of the right label's probability; see the base."""
        labels = batch["labels"]
        there = labels != IGNORED
        right = outputs.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        return -right.log()[there].sum(), there.sum()

    def decode(self, outputs: Tensor, batch: Batch) -> list[Part]:
        """Takes the probabilities `[labels]` of each row, and its label; see the base."""
        labels = batch["labels"] if "labels" in batch else [None] * len(outputs)
        return [{"scores": row, "label": label} for row, label in zip(outputs, labels, strict=True)]

    def merge(self, parts: list[Part]) -> Part:
        """A row is one feature."""
        return parts[0]

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
        """Minus the logarithm of the right label's probability; see the base."""
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


def _entails(name: str) -> bool:
    return name.lower().startswith("entail")
