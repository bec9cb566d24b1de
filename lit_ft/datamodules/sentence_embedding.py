"""Texts that belong together, or are scored by how alike they are -> batches of several sequences a row."""

from typing import Any

import numpy as np
import torch
from datasets import Value
from xxhash import xxh3_64_intdigest

from lit_ft.data.collators import Batch, Feature, pad_sequences, stack
from lit_ft.data.columns import check_columns
from lit_ft.data.featurizing import RowContent
from lit_ft.data.raw import Kind, RawRows
from lit_ft.data.row_views import Part, several_parts
from lit_ft.data.samplers import FILLER, Key
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import RowError, UserError

ROLES = (
    ("anchor", "positive", "negative"), ("query", "positive", "negative"), ("query", "pos", "neg"),
    ("question", "answer"), ("sentence1", "sentence2"), ("text1", "text2"), ("premise", "hypothesis"),
)  # fmt: skip
"""Names of columns that say what they are for, in the order in which they are read."""
SCORES = ("score", "similarity", "similarity_score", "label", "labels")
TEXTS = ("text", "sentence", "content")


class SentenceEmbeddingDataModule(TransformerDataModule):
    """Texts -> batches of `input_ids`, `attention_mask` (and `token_type_ids`) `[batch, columns, seq]`.

    Rows are pairs (an anchor and what it should be near), pairs with further columns of what it should be far from
    (`negative`, `negative_2`, ...), or two texts with a score of how alike they are; `labels` `[batch]` are the scores.
    `text_ids` `[batch, columns]` are the same for the same text: what is said twice in a batch is no negative. Rows to
    predict may have one column of text.

    Args:
        text_column_names: columns in their order: anchor, positive, negatives. Guessed where their names say it.
        score_column_name: column of the scores. Guessed; `""` = there is none.
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
        prompts: dict[str, str] | None = None,
        max_seq_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_seq_length=max_seq_length, stride=None, **kwargs)

    def describe(self, raw: dict[Kind, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the columns; see the base."""
        every = [rows for sets in raw.values() for rows in sets.values()]
        first, predicting = every[0], "predict" in raw
        texts = self.hparams["text_column_names"] or _texts(first, known, predicting)
        given = self.hparams["score_column_name"]
        scored = [] if predicting or given == "" else [given] if given else _scores(first, texts)
        for rows in every:
            check_columns([*texts, *scored], rows.data.column_names, rows.place)
        if not predicting and len(texts) < 2:
            raise UserError(f"{first.place}: one column of text alone is like nothing: set text_column_names")
        for name in (self.hparams["prompts"] or {}).keys() - {*texts, *known.get("columns", [])}:
            raise UserError(f"prompts: {name!r} is none of the columns of text {texts}")
        prompts = self.hparams["prompts"] or known.get("prompts") or {}
        by = f", scored by {scored[0]!r}" if scored else ""
        self.notes.append(f"{first.place}: reading {', '.join(map(repr, texts))}{by}")
        score = scored[0] if scored else known.get("score_column")
        self.description = {
            **known,
            "columns": texts,
            "score_column": score,
            "prompts": prompts,
            "length": self.longest_feature,
        }
        return self.description

    def input_columns(self, split: Kind) -> list[str]:
        """Texts and score; see the base."""
        return [*self.description["columns"], *self._score(split)]

    def row_content(self, rows: dict[str, list[Any]], split: Kind) -> RowContent:
        """The texts, and the score; see the base."""
        scores = self._score(split)
        return RowContent([rows[name] for name in self.description["columns"]], rows[scores[0]] if scores else None)

    def tokenize(self, rows: dict[str, list[Any]], split: Kind) -> dict[str, Any]:
        """Encodes the texts of a row, laid end to end; see the base."""
        names, prompts = self.description["columns"], self.description["prompts"]
        columns = [
            [prompts.get(name, "") + ("" if cell is None else str(cell)) for cell in rows[name]] for name in names
        ]
        texts = [text for row in zip(*columns, strict=True) for text in row]
        encoded, size = self.encoder(texts), len(names)
        numbers = np.array([xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) >> 1 for text in texts], np.int64)
        features: dict[str, Any] = {
            **encoded.together(size, self.tokenizer.model_input_names),
            "text_ids": numbers.reshape(-1, size),
            "row": np.arange(len(columns[0])),
            "tokens_cut": encoded.tokens_cut.reshape(-1, size).sum(1),
        }
        for name in self._score(split):
            features["labels"] = np.array([_number(cell, row, name) for row, cell in enumerate(rows[name])], np.float32)
        return features

    def collate(self, features: list[Feature], split: Kind, keys: list[Key]) -> Batch:
        """Pads the texts; see the base."""
        batch = pad_sequences(features, self.tokenizer, 0, self.static_length, self.hparams["pad_to_multiple_of"])
        batch["text_ids"] = stack([feature["text_ids"] for feature in features])
        batch["real"] = torch.tensor([key[1] != FILLER for key in keys])
        if "labels" in features[0]:
            batch["labels"] = stack([feature["labels"] for feature in features])
        return batch

    def parts(self, batch: Batch) -> list[Part]:
        """The texts by their columns; see the base."""
        return several_parts(self.tokenizer, batch, self.description["columns"])

    def label_of(self, batch: Batch) -> str | None:
        """The score; see the base."""
        return f"{float(batch['labels'][0]):g}" if "labels" in batch else None

    def _score(self, split: Kind) -> list[str]:
        name = self.description["score_column"]
        return [] if split == "predict" or name is None else [name]


def _texts(rows: RawRows, known: dict[str, Any], predicting: bool) -> list[str]:
    """Returns the columns of text, in their order.

    Raises:
        UserError: their names do not say it.
    """
    present = rows.data.column_names
    trained = [name for name in known.get("columns", []) if name in present]
    if trained:
        return trained
    for roles in ROLES:
        found = [name for name in roles if name in present]
        if len(found) > 1:
            return found + sorted(name for name in present if name.startswith(f"{roles[-1]}_") and name != roles[-1])
    single = [name for name in present if name in TEXTS] or [name for name in present if _is_text(rows, name)]
    if predicting and len(single) == 1:
        return single
    raise UserError(
        f"{rows.place}: which columns are anchor and positive? columns: {present}; set text_column_names, such as "
        "[anchor, positive]"
    )


def _scores(rows: RawRows, texts: list[str]) -> list[str]:
    return [name for name in SCORES if name in rows.data.column_names and name not in texts][:1]


def _is_text(rows: RawRows, name: str) -> bool:
    feature = rows.data.features[name]
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def _number(cell: Any, row: int, name: str) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise RowError(row, f"{name} is {cell!r}, not a number") from None
