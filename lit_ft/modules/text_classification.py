"""Text classification: any AutoModelForSequenceClassification on one label, several labels, or numbers."""

import logging
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from lit_ft.data.batching.merging import Part
from lit_ft.data.labels import ProblemType
from lit_ft.errors import UserError
from lit_ft.metrics.classification import (
    NAMES,
    classification_metrics,
    extra_metrics,
    per_label_table,
    probabilities,
    scalars,
    update_metrics,
)
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.labelled import LabelledModule
from lit_ft.ops.building.head_init import name_head
from lit_ft.ops.building.models import HEADS, pretrained_problem_type
from lit_ft.ops.losses.classification import balanced_class_weights, classification_loss, labelled, load_loss

log = logging.getLogger("lit_ft")


class TextClassificationModule(LabelledModule):
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
        extra_metrics(self.hparams["metrics"], description["problem_type"], len(description["labels"]))
        self._set_class_weights(description)
        if self.hparams["head_init"] and description["problem_type"] == "regression":
            raise UserError("head_init: label_names needs labels, but problem_type is regression")

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Adds the problem type, and the threshold of several labels; see the base."""
        kwargs = super().config_kwargs(description) | {"problem_type": HEADS[description["problem_type"]]}
        if self.tokenizer is not None and self.source.config().pad_token_id is None:
            kwargs["pad_token_id"] = self.tokenizer.pad_token_id  # decoders look for the last token that is none
        if description["problem_type"] == "multi_label":
            found = getattr(self.source.config(), "classification_threshold", 0.5)  # of an export
            kwargs["classification_threshold"] = (
                found if self.hparams["threshold"] == "auto" else self.hparams["threshold"]
            )
        return kwargs

    def build(self) -> PreTrainedModel:
        """Builds the model, and begins its head with the labels' names, if so asked; see the base."""
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

    @property
    def threshold(self) -> float:
        """Probability from which a label counts as predicted (multi-label); it lives in the model's configuration."""
        assert self.model is not None
        return float(self.model.config.classification_threshold)

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy, binary cross-entropy or squared error; see the base."""
        return self._loss(outputs.logits, batch["labels"])

    def _loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        smoothing = self.hparams["label_smoothing_factor"]
        return classification_loss(logits, labels, self.problem_type, self._class_weights, smoothing, self._own_loss)

    def evaluation_loss(self, outputs: Any, batch: Batch, rows: list[Part]) -> tuple[Tensor, Tensor]:
        """The loss of the merged rows: a text of many windows counts once; see the base."""
        if not rows:
            return outputs.logits.float().sum() * 0.0, outputs.logits.new_zeros(()).float()
        logits, labels = (torch.stack([row[name] for row in rows]) for name in ("logits", "label"))
        return self._loss(logits, labels)

    def decode(self, outputs: Any, batch: Batch) -> list[Part]:
        """Takes the logits `[labels]` of each feature, and its label."""
        logits = outputs.logits.float()
        labels = batch["labels"] if "labels" in batch else [None] * len(logits)
        return [{"logits": row, "label": label} for row, label in zip(logits, labels, strict=True)]

    def merge(self, parts: list[Part]) -> Part:
        """Averages the windows' logits."""
        return (
            parts[0]
            if len(parts) == 1
            else {**parts[0], "logits": torch.stack([part["logits"] for part in parts]).mean(0)}
        )

    def metrics(self, description: Description, stage: str) -> tuple[MetricCollection, dict[str, Metric]]:
        """The metrics of the problem type, and those named by the option `metrics`."""
        kind, size = self.problem_type, len(description["labels"])
        searching = kind == "multi_label" and stage == "val" and self.hparams["threshold"] == "auto"
        threshold = self.threshold if kind == "multi_label" and not searching else None
        extras = extra_metrics(self.hparams["metrics"], kind, size)
        made = classification_metrics(kind, size, threshold).to(self.device)
        return made, {name: metric.to(self.device) for name, metric in extras.items()}

    def update(self, metrics: tuple[MetricCollection, dict[str, Metric]], rows: list[Part]) -> None:
        """Scores the labelled rows; see the base."""
        rows = [row for row in rows if row["label"] is not None]
        if not rows:
            return
        labels = torch.stack([row["label"] for row in rows])
        scored = labelled(labels)
        if bool(scored.any()):
            scores = probabilities(torch.stack([row["logits"] for row in rows])[scored], self.problem_type)
            update_metrics(*metrics, scores, labels[scored])

    def compute(self, metrics: tuple[MetricCollection, dict[str, Metric]]) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        return scalars(*metrics)

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        extras = list(extra_metrics(self.hparams["metrics"], description["problem_type"], len(description["labels"])))
        return NAMES[description["problem_type"]] + extras + (["combined_score"] if len(extras) > 1 else [])

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics; stores the threshold that was found on the first validation set."""
        super().on_validation_epoch_end()
        searching = self.problem_type == "multi_label" and self.hparams["threshold"] == "auto"
        if searching and not self.trainer.sanity_checking and self.model is not None:
            found = self._open("val")[0].metrics[0]["sweep"].compute()["threshold"]
            self.model.config.classification_threshold = round(float(found), 4)

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """The loss of each row; see the base."""
        if rows[0]["label"] is None:
            return None
        logits, labels = (torch.stack([row[name] for row in rows]) for name in ("logits", "label"))
        if self.problem_type == "single_label":
            losses = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
        elif self.problem_type == "multi_label":
            losses = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(-1)
        else:
            losses = (logits - labels.view_as(logits)).abs().mean(-1)
        made: Tensor = losses.masked_fill(~labelled(labels), torch.nan)
        return made

    def said(self, row: Part) -> str:
        """The predicted label and its probability, or the numbers; see the base."""
        made = self.prediction(row)
        if self.problem_type == "single_label":
            return f"{made['predicted_label']} ({made['score']:.1%})"
        return ", ".join(made["predicted_labels"]) or "none" if "predicted_labels" in made else super().said(row)

    def label_table(self, stage: str) -> list[list[dict[str, Any]]]:
        """Returns precision, recall, F1 and support of each label, for each set evaluated last."""
        return [per_label_table(each.metrics[0], self.description["labels"]) for each in self._open(stage)]

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the predicted label (or labels, or numbers) and the score of every label."""
        names, kind = self.description["labels"], self.problem_type
        values = probabilities(row["logits"], kind).tolist()
        scores = dict(zip(names, values, strict=True))
        if kind == "regression":
            return {"prediction": values[0] if len(values) == 1 else scores}
        if kind == "multi_label":
            chosen = [name for name, value in scores.items() if value >= self.threshold]
            return {"predicted_labels": chosen, "scores": scores}
        best = max(scores, key=scores.__getitem__)
        return {"predicted_label": best, "score": scores[best], "scores": scores}

    def _set_class_weights(self, description: Description) -> None:
        wanted = self.hparams["class_weights"]
        if wanted is None or (
            wanted == "balanced" and "label_counts" not in description and self.trainer.state.fn != "fit"
        ):
            return
        kind, size = description["problem_type"], len(description["labels"])
        if kind == "regression":
            raise UserError("class_weights need classes, but problem_type is regression")
        if wanted == "balanced":
            if "label_counts" not in description:
                raise UserError(
                    "class_weights: balanced needs our data module, which counts the labels; or give a list"
                )
            wanted = balanced_class_weights(description["label_counts"], description["num_train_rows"], kind)
        if len(wanted) != size:
            raise UserError(f"class_weights has {len(wanted)} values for {size} labels")
        self._class_weights = torch.tensor(wanted, dtype=torch.float32)
