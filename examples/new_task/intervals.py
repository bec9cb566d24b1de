"""A task of your own: a number read off a text, with an interval around it; `intervals.yaml` says how to run it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import MeanMetric
from transformers import AutoModelForSequenceClassification

from lit_ft import TransformerDataModule, TransformerModule
from lit_ft.errors import RowError, UserError
from lit_ft.tasks import Batch, Feature, Part, RawRows, RowContent, Split, check_columns, label_config, stack_labels


class IntervalDataModule(TransformerDataModule):
    """Texts with a number -> batches of `input_ids`, `attention_mask` and `labels` `[batch]`.

    Args:
        text_column_name: column of the text.
        label_column_name: column of the number.
    """

    def __init__(self, *, text_column_name: str = "text", label_column_name: str = "label", **kwargs: Any) -> None:
        super().__init__(stride=None, **kwargs)

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Makes sure that the columns are there."""
        for split, rows in ((split, rows) for split, sets in raw.items() for rows in sets.values()):
            check_columns(self.input_columns(split), rows.data.column_names, rows.place)
        return known

    def input_columns(self, split: Split) -> list[str]:
        """The text, and the number where it is known."""
        names = [self.hparams["text_column_name"], self.hparams["label_column_name"]]
        return names[:1] if split == "predict" else names

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """Says what makes rows duplicates or contradictions, and which of them have no number."""
        text, *number = self.input_columns(split)
        return RowContent([rows[text]], rows[number[0]] if number else None)

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Turns rows into arrays."""
        text, *number = self.input_columns(split)
        encoded = self.encoder([cell or "" for cell in rows[text]])
        features = {"input_ids": encoded.input_ids, "row": encoded.row, "tokens_cut": encoded.tokens_cut}
        for name in number:
            features["labels"] = np.array([_number(cell, row) for row, cell in enumerate(rows[name])], np.float32)
        return features

    def summarise(self, train: list[Any]) -> dict[str, Any]:
        """Tells the module the scale of the numbers."""
        numbers = np.concatenate([store.column("labels") for store in train])
        return {"mean": float(np.nanmean(numbers)), "std": float(np.nanstd(numbers)) or 1.0}

    def collate(self, features: list[Feature], split: Split, keys: list[Any]) -> Batch:
        """Pads the texts and stacks the numbers."""
        return stack_labels(super().collate(features, split, keys), features)


def _number(cell: Any, row: int) -> float:
    try:
        return float("nan" if cell is None or cell == "" else cell)
    except ValueError:
        raise RowError(row, f"{cell!r} is not a number") from None


class IntervalModule(TransformerModule):
    """Predicts the middle of what a number may be, and an interval that holds it as often as you like.

    Args:
        coverage: share of the numbers that shall lie in their intervals.
    """

    auto_class = AutoModelForSequenceClassification

    def __init__(self, *, coverage: float = 0.8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < coverage < 1:
            raise UserError(f"coverage is {coverage}; it must be between 0 and 1")

    def config_kwargs(self, description: dict[str, Any]) -> dict[str, Any]:
        """Gives the head three outputs, and says in the exported folder what they are."""
        scale = {"label_mean": description["mean"], "label_std": description["std"]}
        return {**label_config(["lower", "middle", "upper"]), **scale, "problem_type": "regression"}

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pinball loss: being above or below a quantile costs as often as it shall not happen."""
        known, mean, std = batch["labels"].isfinite(), self.description["mean"], self.description["std"]
        off = (batch["labels"].nan_to_num(mean)[:, None] - mean) / std - outputs.logits.float()
        share = off.new_tensor([0.5 - self.hparams["coverage"] / 2, 0.5, 0.5 + self.hparams["coverage"] / 2])
        return (torch.maximum(share * off, (share - 1) * off).sum(1) * known).sum(), known.sum()

    def decode(self, outputs: Any, batch: Batch) -> list[Part]:
        """Takes the three numbers of each row, in their order also where the head has not learned it yet."""
        ends = outputs.logits.float().sort(-1).values * self.description["std"] + self.description["mean"]
        labels = batch.get("labels", ends.new_full((len(ends),), torch.nan))
        return [{"ends": row, "label": label} for row, label in zip(ends, labels, strict=True)]

    def metrics(self, description: dict[str, Any], stage: str) -> dict[str, MeanMetric]:
        """Means over rows."""
        return {name: MeanMetric().to(self.device) for name in self.metric_names(description)}

    def metric_names(self, description: dict[str, Any]) -> list[str]:
        """Error of the middle, how often the interval holds the number, and how wide it is."""
        return ["mae", "coverage", "width"]

    def update(self, metrics: dict[str, MeanMetric], rows: list[Part]) -> None:
        """Scores the rows that have a number."""
        for (lower, middle, upper), label in ((row["ends"], row["label"]) for row in rows if row["label"].isfinite()):
            metrics["mae"].update((middle - label).abs())
            metrics["coverage"].update(((lower <= label) & (label <= upper)).float())
            metrics["width"].update(upper - lower)

    def compute(self, metrics: dict[str, MeanMetric]) -> dict[str, Tensor]:
        """The means by name."""
        return {name: metric.compute() for name, metric in metrics.items()}

    def wrongness(self, rows: list[Part]) -> Tensor:
        """How far the middle is off: the report shows the worst rows."""
        return torch.stack([(row["ends"][1] - row["label"]).abs() for row in rows])

    def prediction(self, row: Part) -> dict[str, Any]:
        """What is written for a row."""
        lower, middle, upper = row["ends"].tolist()
        return {"prediction": middle, "lower": lower, "upper": upper}
