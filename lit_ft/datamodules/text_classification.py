"""Text classification data: single texts or pairs with one label, several, or numbers (after run_classification)."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from lit_ft.data.collators import Batch, Feature
from lit_ft.data.columns import (
    Names,
    as_list,
    check_columns,
    guess_label_column,
    guess_text_columns,
    require_label_column,
)
from lit_ft.data.label_description import LabelColumns
from lit_ft.data.labels import ProblemType
from lit_ft.data.raw import Kind, RawRows
from lit_ft.data.samplers import Key, balanced_weights
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import UserError
from lit_ft.ops.building import pretrained_labels, pretrained_problem_type

ENCODED = "_labels"
"""Column that `describe` adds to the raw rows: labels as the loss takes them."""


class TextClassificationDataModule(TransformerDataModule):
    """Rows of text with a label -> batches of `input_ids`, `attention_mask`, `labels` (and `token_type_ids`).

    `labels` are class ids `[batch]`, multi-hot vectors `[batch, labels]` or numbers `[batch, targets]`; -100 (ids)
    or NaN (numbers) marks a row without a label.

    Args:
        text_column_names: column of the text; several are joined. Guessed where there is one reading.
        text_pair_column_names: column of the second text of a pair; several are joined.
        text_column_delimiter: what joins several columns.
        label_column_name: column of the label; several 0/1 columns are multi-label, several numbers multi-target
            regression.
        problem_type: `single_label`, `multi_label` or `regression`. Default: read off the labels.
        label_names: names of the labels in the order of their ids, for columns that hold ids.
        label_delimiter: what separates the labels in one string cell (multi-label).
        class_balanced_sampling: draw every class equally often (with replacement) in training.
        kwargs: options of every data module.

    Raises:
        UserError: the rows do not fit; the message names file, column and fix.
    """

    def __init__(
        self,
        *,
        # no None here: beside it, jsonargparse reads a column named `#1 String` or `null` as None
        text_column_names: Names = "",
        text_pair_column_names: Names = "",
        text_column_delimiter: str = " ",
        label_column_name: Names = "",
        problem_type: ProblemType | None = None,
        label_names: list[str] | None = None,
        label_delimiter: str | None = None,
        class_balanced_sampling: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

    def describe(self, raw: dict[Kind, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds columns, problem type and label names; see the base."""
        every = [rows for sets in raw.values() for rows in sets.values()]
        self.description = {**known, **self._columns(every, known, labels_needed="predict" not in raw)}
        if "train" in raw or not {"labels", "problem_type", "multi_hot"} <= set(known):
            self.description |= self._labels(raw, known)
        for kind, sets in raw.items():
            for rows in sets.values():
                self._count_empty(rows)
                if kind != "predict":
                    encoded = self._label_columns.encode(rows, self.description, kind == "train", self.notes)
                    rows.data = rows.data.add_column(ENCODED, encoded)
        return self.description

    def tokenize(self, rows: dict[str, list[Any]], split: Kind) -> dict[str, list[Any]]:
        """Encodes text (or pair) and label; see the base."""
        encoded = self.encoder(self._joined(rows, "text_columns") or [], self._joined(rows, "pair_columns"))
        first = [number == 0 or encoded.row[number - 1] != row for number, row in enumerate(encoded.row)]
        features: dict[str, list[Any]] = {
            "input_ids": encoded.input_ids,
            "row": encoded.row,
            "tokens_cut": [
                encoded.tokens_cut[row] if start else 0 for row, start in zip(encoded.row, first, strict=True)
            ],
        }
        if "token_type_ids" in self.tokenizer.model_input_names:
            features["token_type_ids"] = encoded.token_type_ids
        if ENCODED in rows:
            features["labels"] = [rows[ENCODED][row] for row in encoded.row]
        return features

    def collate(self, features: list[Feature], split: Kind, keys: list[Key]) -> Batch:
        """Pads the features and stacks the labels; see the base."""
        batch = super().collate(features, split, keys)
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([feature["labels"] for feature in features])
        return batch

    def strata(self, rows: Dataset, place: str) -> Sequence[Hashable] | None:
        """Keeps the proportions of the labels in a validation split cut from train."""
        names = as_list(self.hparams["label_column_name"]) or guess_label_column(rows.column_names)
        check_columns(names, rows.column_names, place)
        if not names:
            return None
        keys = [str(cell) for cell in zip(*(rows[name] for name in names), strict=True)]
        return keys if len(set(keys)) <= len(keys) / 2 else None

    def train_weights(self) -> np.ndarray | None:
        """Weighs each row by the inverse frequency of its class, with `class_balanced_sampling`."""
        if not self.hparams["class_balanced_sampling"]:
            return None
        if self.description["problem_type"] != "single_label":
            raise UserError(f"class_balanced_sampling needs one label a row, not {self.description['problem_type']}")
        return balanced_weights(torch.tensor(self.features["train"][""].features["labels"][:]))

    def _columns(self, every: list[RawRows], known: dict[str, Any], labels_needed: bool) -> dict[str, Any]:
        options, first = self.hparams, every[0]
        present = first.data.column_names
        labels = as_list(options["label_column_name"]) or known.get("label_columns") or guess_label_column(present)
        if options["text_column_names"]:
            texts, pairs = as_list(options["text_column_names"]), as_list(options["text_pair_column_names"])
        elif "text_columns" in known:
            texts, pairs = known["text_columns"], known["pair_columns"]
        else:
            pairs = as_list(options["text_pair_column_names"])
            texts, guessed = guess_text_columns(present, labels + pairs, first.place)
            pairs = pairs or guessed
            self.notes.append(f"{first.place}: reading {' and '.join(map(repr, texts + pairs))} as text")
        if labels_needed and not labels:
            labels = require_label_column(present, first.place)
        for rows in every:
            check_columns(texts + pairs + (labels if labels_needed else []), rows.data.column_names, rows.place)
        return {"text_columns": texts, "pair_columns": pairs, "label_columns": labels}

    @property
    def _label_columns(self) -> LabelColumns:
        options, description = self.hparams, self.description
        kind = description.get("problem_type") or options["problem_type"]
        return LabelColumns(description["label_columns"], kind, options["label_names"], options["label_delimiter"])

    def _labels(self, raw: dict[Kind, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Names the labels as a checkpoint of ours, the module, the pretrained head, or else train has them."""
        config = self.pretrained_config()
        given = known.get("labels") or (pretrained_labels(config) if config else None)
        if "train" not in raw and given:
            kind = self._label_columns.problem_type or pretrained_problem_type(config)
            scored = [rows for which, sets in raw.items() if which != "predict" for rows in sets.values()]
            cells = [cell for rows in scored for cell in rows.data[self.description["label_columns"][0]]]
            vectors = self._label_columns.holds_vectors(kind, cells, given)
            return {"labels": given, "problem_type": kind, "multi_hot": vectors}
        (rows,) = (raw.get("train") or self.load_rows("train")).values()
        if not self.description["label_columns"]:  # rows to predict do not say which column it is
            self.description["label_columns"] = require_label_column(rows.data.column_names, rows.place)
        return self._label_columns.describe(rows, given, "labels" in known, self.notes)

    def _count_empty(self, rows: RawRows) -> None:
        for name in self.description["text_columns"] + self.description["pair_columns"]:
            empty = sum(1 for text in rows.data[name] if text is None or not str(text).strip())
            if empty:
                self.notes.append(f"{rows.place}: {empty} of {len(rows.data)} rows have no text in {name!r}")

    def _joined(self, rows: dict[str, list[Any]], which: str) -> list[str] | None:
        names = self.description[which]
        if not names:
            return None
        cells = zip(*(rows[name] for name in names), strict=True)
        return [
            self.hparams["text_column_delimiter"].join("" if cell is None else str(cell) for cell in row)
            for row in cells
        ]
