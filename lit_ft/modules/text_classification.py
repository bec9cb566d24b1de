"""Text classification: any AutoModelForSequenceClassification on one label, several labels, or numbers."""

import logging
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.parts import knowing, stacked, taken_apart
from lit_ft.data.labels import ProblemType
from lit_ft.errors import UserError
from lit_ft.metrics.classification import ClassificationScores
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.labelled import LabelledModule
from lit_ft.modules.threshold import ThresholdModule
from lit_ft.ops.building.head_init import name_head
from lit_ft.ops.building.models import HEADS, padding_config, pretrained_problem_type
from lit_ft.ops.decoding.labels import in_words, probabilities, written
from lit_ft.ops.losses.classification import classification_loss, load_loss, row_losses, weights_of_classes

log = logging.getLogger("lit_ft")


class TextClassificationModule(ThresholdModule, LabelledModule):
    """Classifies texts or pairs; batches are those of `TextClassificationDataModule` or any with the same names.

    Args:
        problem_type: `single_label`, `multi_label` or `regression`, where no data module of ours says so.
        class_weights: `balanced` (every class counts alike) or a weight per class.
        loss: another loss by class path, such as `FocalLoss` or `{class_path: my.Loss, init_args: {...}}`: a module of
            (logits `[batch, labels]`, labels) that returns one value per row, or their mean.
        metrics: further torchmetrics classes by name or class path, logged under their names in snake case.
        threshold: probability from which a label counts as predicted (multi-label); `auto` = that of best micro F1 on
            the validation set, stored with the model.
        head_init: `label_names` = a fresh head begins with what the model says of the labels' names, which few rows
            learn from faster than from random weights. Default: random.
        kwargs: options of every module, and of those with labels.
    """

    auto_class = AutoModelForSequenceClassification
    pipeline_tag = "text-classification"
    threshold_option, threshold_key, usual_threshold = "threshold", "classification_threshold", 0.5
    card_example = """from transformers import pipeline

classify = pipeline("text-classification", "this/folder", top_k=None)
classify("a text", truncation=True)"""

    def __init__(
        self,
        *,
        problem_type: ProblemType | None = None,
        class_weights: Literal["balanced"] | list[float] | None = None,
        loss: str | dict[str, Any] | None = None,
        metrics: list[str | dict[str, Any]] | None = None,
        threshold: float | Literal["auto"] = "auto",
        head_init: Literal["label_names"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if problem_type is not None:
            self.description["problem_type"] = problem_type
        if loss is not None and (class_weights is not None or self.hparams["label_smoothing_factor"]):
            raise UserError(
                "class_weights and label_smoothing_factor belong to the built-in loss; give them to your own"
            )
        if head_init not in (None, "label_names"):
            raise UserError(f"head_init is {head_init!r}; label_names is all there is")
        self._own_loss = load_loss(loss)
        self.register_buffer("_class_weights", None, persistent=False)

    def describe_names(self, names: list[str], config: PreTrainedConfig | None) -> Description:
        """The labels, and the problem type of a head that has them; see the base."""
        if config is None:
            return {"labels": names}
        return {"labels": names, "problem_type": self.hparams["problem_type"] or pretrained_problem_type(config)}

    def named(self, description: Description) -> Description:
        """One label a row, where nobody says otherwise; see the base."""
        return {"problem_type": "single_label", **super().named(description)}

    def setup(self, stage: str) -> None:
        """Checks the extra metrics by name before any weights are loaded; see the base."""
        super().setup(stage)
        description = self.named(self.description)
        self.metric_names(description)
        wanted, training = self.hparams["class_weights"], self.trainer.state.fn == "fit"
        # checkpoints are evaluated without the rows that were counted
        if wanted is not None and (training or wanted != "balanced" or "label_counts" in description):
            self._class_weights = weights_of_classes(wanted, description)
        if self.hparams["head_init"] and description["problem_type"] == "regression":
            raise UserError("head_init: label_names needs labels, but problem_type is regression")

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Adds the problem type; see the base."""
        padding = padding_config(self.source.config(), self.tokenizer, self.auto_class)
        names = super().config_kwargs(description)
        return {**names, "problem_type": HEADS[description["problem_type"]], **padding}

    def build(self) -> PreTrainedModel:
        """Builds the model; begins its head with the labels' names, if so asked; see the base."""
        model = super().build()
        if self.hparams["head_init"] and self.hf_config is None:
            assert self.tokenizer is not None
            loaded = {name.removeprefix("model.") for name in self.pretrained_weights}
            layer = name_head(model, self.tokenizer, self.description["labels"], loaded)
            log.info(f"head_init: {layer} begins with the names of the labels")
        return model

    @property
    def problem_type(self) -> ProblemType:
        """The data's problem type."""
        return self.description["problem_type"]  # type: ignore[no-any-return]

    def has_threshold(self, description: Description) -> bool:
        """Of several labels: the probability from which one counts as predicted; see the base."""
        return description.get("problem_type") == "multi_label"

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy, binary cross-entropy or squared error; see the base."""
        return self._loss(outputs.logits, batch["labels"])

    def _loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        smoothing = self.hparams["label_smoothing_factor"]
        return classification_loss(logits, labels, self.problem_type, self._class_weights, smoothing, self._own_loss)

    def evaluation_loss(self, outputs: Any, batch: Batch, rows: list[Part]) -> tuple[Tensor, Tensor]:
        """The loss of the merged rows: a text of many windows counts once; see the base."""
        if (found := stacked(rows, "logits", "label")) is None:
            return outputs.logits.float().sum() * 0.0, outputs.logits.new_zeros(()).float()
        return self._loss(*found)

    def decode(self, outputs: Any, batch: Batch) -> list[Part]:
        """Takes the logits `[labels]` of each feature, and its label."""
        return taken_apart(len(outputs.logits), logits=outputs.logits.float(), label=batch.get("labels"))

    def merge(self, parts: list[Part]) -> Part:
        """Averages the windows' logits."""
        logits = [part["logits"] for part in parts]
        return parts[0] if len(parts) == 1 else {**parts[0], "logits": torch.stack(logits).mean(0)}

    def metrics(self, description: Description, stage: str) -> ClassificationScores:
        """The metrics of the problem type, and those named by the option `metrics`."""
        threshold = None if self.searches_threshold(description, stage) else self.known_threshold
        extras = self.hparams["metrics"]
        return ClassificationScores(self.problem_type, description["labels"], self.device, threshold, extras)

    def update(self, metrics: ClassificationScores, rows: list[Part]) -> None:
        """Scores the labelled rows; see the base."""
        if (found := stacked(knowing(rows, "label"), "logits", "label")) is not None:
            metrics.update(probabilities(found[0], self.problem_type), found[1])

    def compute(self, metrics: ClassificationScores) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        return metrics.compute()

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        kind, size = description["problem_type"], len(description["labels"])
        return ClassificationScores.names(kind, size, self.hparams["metrics"])

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """The loss of each row; see the base."""
        found = stacked(rows, "logits", "label")
        return None if found is None else row_losses(found[0], found[1], self.problem_type)

    def said(self, row: Part) -> str:
        """The predicted label and its probability, or the numbers; see the base."""
        return in_words(self.prediction(row))

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the predicted label (or labels, or numbers) and the score of every label."""
        kind, threshold = self.problem_type, self.known_threshold
        return written(
            probabilities(row["logits"], kind),
            self.description["labels"],
            kind,
            0.5 if threshold is None else threshold,
        )
