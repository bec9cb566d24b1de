"""Texts that belong together, or are scored by how alike they are -> batches of several sequences a row."""

from collections import Counter
from functools import partial
from typing import Any

import numpy as np

from lit_ft.data.batching.collators import Batch, Feature, pad_sequences, stack, stack_labels
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.labels import is_no_category
from lit_ft.data.likeness.columns import find_mark, find_texts
from lit_ft.data.likeness.numbers import label_names, label_numbers, number_of, scores
from lit_ft.data.ordering.orders import in_twos
from lit_ft.data.ordering.samplers import Key, fillers
from lit_ft.data.ordering.training_order import OwnOrder
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.reading.columns import check_columns, texts_of
from lit_ft.data.reading.raw import RawRows, Split, every_set
from lit_ft.data.viewing.row_views import SequenceView, several_parts
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import UserError
from lit_ft.ops.losses.classification import labelled


class SentenceEmbeddingDataModule(TransformerDataModule):
    """Texts -> batches of `input_ids`, `attention_mask` (and `token_type_ids`) `[batch, columns, seq]`.

    Rows are pairs (an anchor and what it should be near), pairs with further columns of what it should be far from
    (`negative`, `negative_2`, ...), two texts with a score of how alike they are, or one text with a label that those
    near it shall have, too. `labels` `[batch]` are the scores, or a number for each label (-100: none).
    `text_ids` `[batch, columns]` are the same for the same text: what is said twice in a batch is no negative. Rows to
    predict may have one column of text.

    Labelled texts come two of a label at a time, so that a batch of an even size holds a mate for each; those that have
    none left (labels with an odd number of rows) come in twos of their own, others in each epoch. So they cannot be
    streamed: all labels have to be known.

    Args:
        text_column_names: columns in their order: anchor, positive, negatives. Guessed where their names say it.
        score_column_name: column of the scores. Guessed; `""` = there is none.
        label_column_name: column of the labels, of rows with one text. Guessed.
        prompts: what stands before the texts of a column, such as `{query: "query: ", positive: "passage: "}`.
        max_seq_length: most tokens of a text. Default: what the model takes.
        kwargs: options of every data module.

    Raises:
        UserError: the rows do not fit; the message names file, column and fix.
    """

    learns_classes = False

    def __init__(
        self,
        *,
        text_column_names: list[str] | None = None,
        score_column_name: str | None = None,
        label_column_name: str = "",
        prompts: dict[str, str] | None = None,
        max_seq_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_seq_length=max_seq_length, stride=None, **kwargs)

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the columns; see the base."""
        options, every, predicting = self.hparams, every_set(raw), "predict" in raw
        first = every[0]
        texts = options["text_column_names"] or find_texts(first, known, predicting)
        check_columns(texts, first.data.column_names, first.place)
        given = options["score_column_name"], options["label_column_name"]
        marks = {} if predicting else find_mark(first, texts, known, *given)
        for rows in every:
            check_columns([*texts, *marks.values()], rows.data.column_names, rows.place)
        for name in (options["prompts"] or {}).keys() - {*texts, *known.get("columns", [])}:
            raise UserError(f"prompts: {name!r} is none of the columns of text {texts}")
        by = "".join(f", {kind} {name!r}" for kind, name in marks.items())
        self.notes.append(f"{first.place}: reading {', '.join(map(repr, texts))}{by}")
        self.description = {
            "score_column": None,
            "label_column": None,
            **known,
            # rows may be of another kind than those that a checkpoint was trained on
            **({} if predicting else {f"{kind}_column": marks.get(kind) for kind in ("score", "label")}),
            "columns": texts,
            "prompts": options["prompts"] or known.get("prompts") or {},
            "length": self.longest_feature,
        }
        if "label" in marks and "train" in raw and not options["streaming"]:
            self.description["label_names"] = label_names(raw["train"], marks["label"])
        return self.description

    def input_columns(self, split: Split) -> list[str]:
        """Texts, and score or label; see the base."""
        return [*self.description["columns"], *self._mark(split)]

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """The texts, and score or label; see the base."""
        known = self.description
        labels = next((rows[name] for name in self._mark(split)), None)
        if labels is not None and known["label_column"] is not None:  # a score may be -1
            labels = [None if is_no_category(cell) else cell for cell in labels]
        return RowContent([rows[name] for name in known["columns"]], labels)

    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes the texts of a row, laid end to end; see the base."""
        names, prompts = self.description["columns"], self.description["prompts"]
        columns = [[prompts.get(name, "") + text for text in texts_of(rows, [name])] for name in names]
        texts = [text for row in zip(*columns, strict=True) for text in row]
        encoded, size = self.encoder(texts), len(names)
        features: dict[str, Any] = {
            **encoded.together(size, self.tokenizer.model_input_names),
            "text_ids": np.array([number_of(text) for text in texts], np.int64).reshape(-1, size),
            "row": np.arange(len(columns[0])),
            "tokens_cut": encoded.tokens_cut.reshape(-1, size).sum(1),
        }
        for name in self._mark(split):
            labelled = name == self.description["label_column"]
            features["labels"] = label_numbers(rows[name]) if labelled else scores(rows[name], name)
        return features

    def train_order(self) -> OwnOrder | None:
        """Two of a label at a time; see the base.

        Raises:
            UserError: an option sorts them otherwise.
        """
        options = self.hparams
        if self.description["label_column"] is None or options["train_sampling_strategy"] == "sequential":
            return None
        for option in ("streaming", "max_tokens_per_batch", "probabilities"):
            if options[option] not in (None, False):
                raise UserError(f"labelled texts come two of a label at a time: leave {option} out")
        if options["train_sampling_strategy"] == "group_by_length":
            raise UserError("labelled texts come two of a label at a time, not by length: leave group_by_length out")
        return OwnOrder("two of a label at a time", partial(in_twos, self.features["train"][""].store.column("labels")))

    def collate(self, features: list[Feature], split: Split, keys: list[Key]) -> Batch:
        """Pads the texts; see the base."""
        batch = pad_sequences(features, self.tokenizer, 0, self.static_length, self.hparams["pad_to_multiple_of"])
        batch["text_ids"] = stack([feature["text_ids"] for feature in features])
        batch["real"] = ~fillers(keys)
        return stack_labels(batch, features)

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """The texts by their columns; see the base."""
        return several_parts(self.tokenizer, batch, self.description["columns"])

    def label_of(self, batch: Batch) -> str | None:
        """The score, or the label's name; see the base."""
        if "labels" not in batch or not bool(labelled(batch["labels"])[0]):
            return None
        if self.description["label_column"] is None:
            return f"{float(batch['labels'][0]):g}"
        return self._names.get(int(batch["labels"][0]))

    def label_counts(self, store: FeatureStore) -> dict[str, int]:
        """Counts the rows of each label whose name is kept; see the base."""
        if "labels" not in store.column_names or not self._names:
            return {}
        found = Counter(store.column("labels").tolist())
        return {name: found[number] for number, name in self._names.items()}

    @property
    def _names(self) -> dict[int, str]:
        known = self.description
        names = known.get("label_names") if known["label_column"] is not None else None
        return {number_of(name): name for name in names or []}

    def _mark(self, split: Split) -> list[str]:
        known = self.description
        names = [] if split == "predict" else [known["score_column"], known["label_column"]]
        return [name for name in names if name is not None]
