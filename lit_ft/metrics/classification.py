"""Which metrics a classifier reports, by problem type, and extra ones named in YAML."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import (
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    MetricCollection,
    PearsonCorrCoef,
)
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
    MulticlassPrecision,
    MulticlassRecall,
)

from lit_ft.data.labels import ProblemType
from lit_ft.errors import UserError
from lit_ft.metrics.binned import CalibrationError, RankingArea, Spearman
from lit_ft.metrics.multilabel import MultilabelThresholdSweep
from lit_ft.metrics.starting_afresh import reset
from lit_ft.objects import load_object
from lit_ft.ops.losses.classification import labelled

HOMES = ("torchmetrics.classification", "torchmetrics", "torchmetrics.regression")
SWEEP = [round(0.01 * step, 2) for step in range(1, 100)]


def classification_metrics(problem_type: ProblemType, size: int, threshold: float | None) -> MetricCollection:
    """Returns the metrics of a problem type; correct over the whole set on any number of processes.

    Args:
        problem_type: of the data.
        size: number of labels or targets.
        threshold: of multi-label predictions; `None` = find the best one.
    """
    if problem_type == "regression":
        return MetricCollection(
            {
                "mse": MeanSquaredError(),
                "mae": MeanAbsoluteError(),
                "pearson": PearsonCorrCoef(num_outputs=size),
                "spearman": Spearman(num_outputs=size),
            },
            compute_groups=False,
        )
    if problem_type == "multi_label":
        return MetricCollection(
            {
                "sweep": MultilabelThresholdSweep(size, SWEEP if threshold is None else [threshold]),
                "map": RankingArea(size, "average_precision"),
                "auroc": RankingArea(size, "auroc"),
            },
            compute_groups=False,
        )
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(size, average="micro"),
            "precision_macro": MulticlassPrecision(size),
            "precision_weighted": MulticlassPrecision(size, average="weighted"),
            "recall_macro": MulticlassRecall(size),
            "recall_weighted": MulticlassRecall(size, average="weighted"),
            "f1_macro": MulticlassF1Score(size),
            "f1_micro": MulticlassF1Score(size, average="micro"),
            "f1_weighted": MulticlassF1Score(size, average="weighted"),
            "mcc": MulticlassMatthewsCorrCoef(size),
            "auroc": RankingArea(size, "auroc"),
            "calibration_error": CalibrationError(bins=15),
            "confusion_matrix": MulticlassConfusionMatrix(size),
        },
        compute_groups=[
            ["precision_macro", "precision_weighted", "recall_macro", "recall_weighted", "f1_macro", "f1_weighted"],
            ["accuracy", "f1_micro"],
            ["mcc", "confusion_matrix"],
            ["auroc"],
            ["calibration_error"],
        ],
    )


NAMES: dict[str, list[str]] = {
    "regression": ["mse", "mae", "pearson", "spearman"],
    "multi_label": [
        "threshold", "f1_micro", "f1_macro", "precision_micro", "recall_micro", "subset_accuracy", "map", "auroc",
    ],
    "single_label": [
        "accuracy", "precision_macro", "precision_weighted", "recall_macro", "recall_weighted", "f1_macro", "f1_micro",
        "f1_weighted", "mcc", "auroc", "calibration_error",
    ],
}  # fmt: skip
"""Names of the scalars that each problem type logs."""


def extra_metrics(
    specs: Sequence[str | dict[str, Any]] | None, problem_type: ProblemType, size: int
) -> dict[str, Metric]:
    """Makes the metrics that the option `metrics` names; each is logged under its class name in snake case.

    `num_classes`, `num_labels`, `num_outputs` and `task` are filled in.

    Raises:
        UserError: no such class, arguments it does not take, or two of one class.
    """
    tasks = {"single_label": "multiclass", "multi_label": "multilabel", "regression": "regression"}
    known = {"num_classes": size, "num_labels": size, "num_outputs": size, "task": tasks[problem_type]}
    metrics = {}
    for spec in specs or []:
        metric = load_object(spec, HOMES, known)
        if not isinstance(metric, Metric):
            raise UserError(f"metrics: {spec} is no torchmetrics metric")
        name = _snake(type(metric).__name__)
        if name in metrics:
            raise UserError(f"metrics: two of them would be logged as {name!r}; subclass one to give it another name")
        metrics[name] = metric
    return metrics


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class ClassificationScores:
    """The metrics of a set of rows with labels: those of the problem type, and those that a user names.

    Args:
        problem_type: of the data.
        labels: names of labels or targets.
        device: where the metrics live.
        threshold: of multi-label predictions; `None` = find the best one.
        extras: what the option `metrics` says; see `extra_metrics`.
    """

    def __init__(
        self,
        problem_type: ProblemType,
        labels: Sequence[str],
        device: torch.device | str = "cpu",
        threshold: float | None = None,
        extras: Sequence[str | dict[str, Any]] | None = None,
    ) -> None:
        self.labels, size = labels, len(labels)
        self.metrics = classification_metrics(problem_type, size, threshold).to(device)
        self.extras = {name: each.to(device) for name, each in extra_metrics(extras, problem_type, size).items()}

    @staticmethod
    def names(problem_type: ProblemType, size: int, extras: Sequence[str | dict[str, Any]] | None = None) -> list[str]:
        """Returns the names of the scalars."""
        own = [*extra_metrics(extras, problem_type, size)]
        return [*NAMES[problem_type], *own, *(["combined_score"] if len(own) > 1 else [])]

    def __iter__(self) -> Iterator[Metric]:
        """All metrics, for who looks for one of a kind."""
        yield from (*self.metrics.values(), *self.extras.values())

    def reset(self) -> None:
        """Starts afresh."""
        reset((self.metrics, self.extras))

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Adds rows, `scores` and `labels` `[batch, labels]` (ids: `[batch]`); those without a label count nowhere."""
        there = labelled(labels)
        if not bool(there.any()):
            return
        scores, labels = scores[there], labels[there]
        if "mse" not in self.metrics:
            labels = labels.long()
        else:
            labels = labels.reshape(scores.shape)
            if scores.shape[1] == 1:
                scores, labels = scores[:, 0], labels[:, 0]
        self.metrics.update(scores, labels)
        for name, metric in self.extras.items():
            # Binary* metrics read the probability of the second class, as GLUE's F1 does
            binary = name.startswith("binary_") and labels.dim() == 1 and scores.dim() == 2 and scores.shape[1] == 2
            metric.update(scores[:, 1] if binary else scores, labels)

    def compute(self) -> dict[str, Tensor]:
        """Returns the metrics that are one number, and the mean of several extra ones, `combined_score` (run_glue)."""
        values: dict[str, Tensor] = {}
        for name, value in self.metrics.compute().items():
            if name != "confusion_matrix":
                values[name] = value.float().mean()
        extra = {name: metric.compute().float().mean() for name, metric in self.extras.items()}
        if len(extra) > 1:
            extra["combined_score"] = torch.stack(list(extra.values())).mean()
        return values | extra

    def threshold_to_keep(self) -> float:
        """Returns the threshold of best micro F1, of several labels, to four places."""
        sweep: Any = self.metrics["sweep"]
        return round(float(sweep.compute()["threshold"]), 4)

    def table(self) -> list[dict[str, Any]]:
        """Returns precision, recall, F1 and support of each label; with one label a row also whom it is taken for."""
        if "sweep" in self.metrics:
            sweep: Any = self.metrics["sweep"]
            columns = sweep.per_label()
            return [
                {"label": name, **{key: values[at].item() for key, values in columns.items()}}
                for at, name in enumerate(self.labels)
            ]
        if "confusion_matrix" not in self.metrics:
            return []
        confusion: Any = self.metrics["confusion_matrix"]
        matrix = confusion.compute().cpu().double()
        hit, predicted, actual = matrix.diag(), matrix.sum(0), matrix.sum(1)
        table = []
        for at, name in enumerate(self.labels):
            precision = float(hit[at] / predicted[at]) if predicted[at] else 0.0
            recall = float(hit[at] / actual[at]) if actual[at] else 0.0
            f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
            row = {"label": name, "precision": precision, "recall": recall, "f1": f1, "support": int(actual[at])}
            others = {f"predicted {other}": int(matrix[at, number]) for number, other in enumerate(self.labels)}
            table.append(row | others)
        return table
