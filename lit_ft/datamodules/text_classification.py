"""Text classification data: single texts or pairs with one label, several, or numbers (after run_classification)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from transformers import PreTrainedConfig

from lit_ft.data.batching.collators import Batch, Feature, stack_labels
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.label_description import (
    LabelCoder,
    LabelColumns,
    count_labelled_rows,
    label_name,
    numbered_labels,
    rows_by_label,
)
from lit_ft.data.labels import ProblemType
from lit_ft.data.ordering.orders import weighted
from lit_ft.data.ordering.samplers import Key, balanced_weights
from lit_ft.data.ordering.training_order import OwnOrder
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.reading.columns import (
    Names,
    as_list,
    check_columns,
    check_texts,
    find_text_columns,
    guess_label_column,
    require_label_column,
    texts_of,
)
from lit_ft.data.reading.raw import RawRows, Rows, Split
from lit_ft.data.tokenizing.texts import token_columns
from lit_ft.datamodules.labelled import LabelledDataModule
from lit_ft.errors import UserError
from lit_ft.ops.building.models import SEQUENCE_HEAD, pretrained_problem_type


class TextClassificationDataModule(LabelledDataModule):
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

    head, labels_are = SEQUENCE_HEAD, frozenset({"labels", "problem_type", "multi_hot"})
    loading_options: ClassVar[frozenset[str]] = LabelledDataModule.loading_options | {"class_balanced_sampling"}
    cut_advice = "raise max_seq_length, or set stride to read them in windows"

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
        self._coder_of: tuple[dict[str, Any], LabelCoder] | None = None

    def find_columns(self, sets: Sequence[RawRows], known: dict[str, Any], labelled: bool) -> dict[str, Any]:
        """Finds the columns of text, pair and label; see the base."""
        options, first = self.hparams, sets[0]
        present = first.data.column_names
        asked = options["text_column_names"], options["text_pair_column_names"], options["label_column_name"]
        texts, pairs, labels, guessed = find_text_columns(present, first.place, *asked, known)
        if guessed:
            self.notes.append(f"{first.place}: reading {' and '.join(map(repr, texts + pairs))} as text")
        if labelled and not labels:
            labels = require_label_column(present, first.place)
        for rows in sets:
            check_columns(texts + pairs + (labels if labelled else []), rows.data.column_names, rows.place)
            check_texts(texts + pairs, rows.data.features, rows.place)
        return {"text_columns": texts, "pair_columns": pairs, "label_columns": labels}

    def train_columns(self, train: list[RawRows], known: dict[str, Any]) -> dict[str, Any]:
        """The label's, where rows to predict do not say which it is; see the base."""
        found = self.description["label_columns"]
        return {"label_columns": found or require_label_column(train[0].data.column_names, train[0].place)}

    def known_labels(
        self, given: list[str], sets: Sequence[RawRows], known: dict[str, Any], config: PreTrainedConfig | None
    ) -> dict[str, Any]:
        """What the head knows, and the kind of problem it was trained for; see the base."""
        kind = self._label_columns.problem_type or pretrained_problem_type(config)
        return self._label_columns.describe_known(sets, given, kind)

    def train_labels(self, train: list[RawRows], given: list[str] | None, known: dict[str, Any]) -> dict[str, Any]:
        """Problem type and names; see the base."""
        if self.hparams["streaming"]:
            self._label_columns.check_streamed(train, given)
        return self._label_columns.describe(train, given, "labels" in known, self.notes)

    def column_of_texts(self, known: dict[str, Any]) -> str:
        """The column of text, where a row has one text; see the base."""
        names = as_list(self.hparams["text_column_names"]) or known.get("text_columns", [])
        pairs = self.hparams["text_pair_column_names"] or known.get("pair_columns")
        return names[0] if len(names) == 1 and not pairs else super().column_of_texts(known)

    def input_columns(self, split: Split) -> list[str]:
        """Text, pair and label columns; see the base."""
        names = ["text_columns", "pair_columns"] + (["label_columns"] if split != "predict" else [])
        return list(dict.fromkeys(column for name in names for column in self.description[name]))

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """Text (and pair) and the label's name; see the base."""
        texts = [self._joined(rows, which) for which in ("text_columns", "pair_columns") if self.description[which]]
        return RowContent(texts, None if split == "predict" else self._coder.read(rows))  # type: ignore[arg-type]

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes text (or pair) and label; see the base."""
        texts, pairs = (self._joined(rows, which) for which in ("text_columns", "pair_columns"))
        encoded = self.encoder(texts or [], pairs)
        features = token_columns(encoded, self.tokenizer.model_input_names)
        if split != "predict":
            strict = self.refuses_unknown_labels
            labels, unknown = self._coder.encode(self._coder.read(rows), strict)
            features["labels"], features["unknown_label"] = labels[encoded.row], unknown[encoded.row]
        return features

    def summarise(self, train: Sequence[FeatureStore]) -> dict[str, Any]:
        """Counts the rows of each label; see the base."""
        return count_labelled_rows(train, self.description)

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads the features and stacks the labels; see the base."""
        return stack_labels(super().collate(features, split, keys), features)

    def label_of(self, batch: Batch) -> str | None:
        """The label's name, those of several, or a number; see the base."""
        return None if "labels" not in batch else label_name(batch["labels"][0].numpy(), self.description)

    def label_counts(self, store: FeatureStore) -> dict[str, int]:
        """Counts the rows of each label; see the base."""
        return rows_by_label(store, self.description)

    def strata(self, rows: RawRows) -> Rows | None:
        """Keeps the proportions of the labels in a validation split cut from train."""
        present = rows.data.column_names
        names = as_list(self.hparams["label_column_name"]) or guess_label_column(present)
        check_columns(names, present, rows.place)
        return numbered_labels(rows, names) if names else None

    def train_order(self) -> OwnOrder | None:
        """Draws rows by the inverse frequency of their class, with `class_balanced_sampling`; see the base."""
        if not self.hparams["class_balanced_sampling"]:
            return None
        if self.description["problem_type"] != "single_label":
            raise UserError(f"class_balanced_sampling needs one label a row, not {self.description['problem_type']}")
        return OwnOrder("class_balanced_sampling", self._balanced)

    def _balanced(self, seed: int, epoch: int) -> Rows:
        labels = torch.from_numpy(self.features["train"][""].store.column("labels"))
        return weighted(balanced_weights(labels), seed, epoch)

    @property
    def _label_columns(self) -> LabelColumns:
        options, description = self.hparams, self.description
        kind = description.get("problem_type") or options["problem_type"]
        return LabelColumns(description["label_columns"], kind, options["label_names"], options["label_delimiter"])

    @property
    def _coder(self) -> LabelCoder:
        # made once for a description: tens of thousands of names take long
        if self._coder_of is None or self._coder_of[0] is not self.description:
            self._coder_of = (self.description, self._label_columns.coder(self.description))
        return self._coder_of[1]

    def _joined(self, rows: dict[str, list[Any]], which: str) -> list[str] | None:
        names = self.description[which]
        return texts_of(rows, names, self.hparams["text_column_delimiter"]) if names else None
