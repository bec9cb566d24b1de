"""What causal and masked language modelling share: documents of one text column, whole, cut into blocks afterwards."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from lit_ft.data.grouping.blocks import PART
from lit_ft.data.grouping.documents import DocumentEncoder
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.reading.columns import string_column, texts_of
from lit_ft.data.reading.raw import RawRows, Split, every_set
from lit_ft.data.reading.readers import ReadOptions
from lit_ft.data.tokenizing.texts import TextEncoder
from lit_ft.datamodules.own_tokenizer import OwnTokenizerDataModule
from lit_ft.ops.building.positions import check_length, usual_length

LONGEST = 1024
"""Tokens of a block where nobody says; the scripts' own limit."""


class LanguageModelingDataModule(OwnTokenizerDataModule):
    """Documents of text -> blocks of tokens. Use a task's own class, not this one.

    Args:
        text_column_name: column of the text. Default: `text`, or the only column of strings.
        document_separator: put the tokenizer's end-of-text token (its separator, for masked models) between documents.
        drop_last: drop the last block of a split where it is shorter than the others.
        sample_by: what a document is in a txt file: a `line`, a `paragraph` (up to a blank line) or the whole
            `document`.
        keep_linebreaks: keep the line ends of a txt file.
        kwargs: options of every data module, and `train_tokenizer`.
    """

    options_of_texts = ("text_column_name", "sample_by", "keep_linebreaks")
    predicts_test_rows = False  # texts to score are no texts to go on from, or to fill in
    length_option: ClassVar[str]
    """Name of the option that says how long a feature may be."""

    def __init__(
        self,
        *,
        text_column_name: str = "",  # no None: beside it, jsonargparse reads a column named `null` as None
        document_separator: bool = True,
        drop_last: bool = False,
        sample_by: Literal["line", "paragraph", "document"] = "document",
        keep_linebreaks: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(sample_by=sample_by, keep_linebreaks=keep_linebreaks, **kwargs)

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the text column; see the base."""
        every = every_set(raw)
        name = self.hparams["text_column_name"] or known.get("text_column")
        for rows in every:
            name = string_column(rows.data.features, name, rows.place)
        pieces = any(PART in rows.data.column_names for rows in every)
        self.description = {**known, "text_column": name, "pieces": pieces, "length": self.longest_feature}
        return self.description

    def reading(self, read: ReadOptions, predicting: bool) -> ReadOptions:
        """Reads txt files to predict line by line, whatever a document is in the others; see the base."""
        return replace(read, sample_by="line", keep_linebreaks=False) if predicting else read

    def input_columns(self, split: Split) -> list[str] | None:
        """The text column, and where documents come in pieces, which pieces they are; see the base."""
        return None if self.description["pieces"] else [self.description["text_column"]]

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """The text; see the base."""
        return RowContent([rows[self.description["text_column"]]], None)

    def documents(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes texts whole, without special tokens; keeps which of them are pieces of a longer one."""
        ids = self.document_encoder(self.texts(rows))
        features: dict[str, Any] = {"input_ids": ids, "row": np.arange(len(ids))}
        if PART in rows and not (self.hparams["streaming"] and split == "train"):  # streamed pieces are documents
            features[PART] = np.array(rows[PART], np.int64)
        return features

    @cached_property
    def document_encoder(self) -> DocumentEncoder:
        """Encodes texts whole."""
        return DocumentEncoder(self.tokenizer)

    @cached_property
    def encoder(self) -> TextEncoder:
        """Cuts texts that are features by themselves; see the base."""
        return TextEncoder(self.tokenizer, self.longest_feature, self.hparams["truncation_side"])

    @property
    def longest_feature(self) -> int:
        """Most tokens of a feature: by option, as the checkpoint's run had it, or what the model takes, up to 1,024.

        Raises:
            UserError: the model cannot take so many.
        """
        config = self.pretrained_config()
        given = self.hparams[self.length_option] or self.known.get("length")
        return check_length(self.length_option, given or usual_length(config, self.tokenizer, LONGEST), config)

    def texts_in(self, rows: RawRows) -> Iterator[list[str]]:
        """The text; see the base."""
        name = string_column(rows.data.features, self.hparams["text_column_name"], rows.place)
        for batch in rows.batches([name], 1024):
            yield [str(text) for text in batch[name] if text is not None]

    def texts(self, rows: dict[str, list[Any]]) -> list[str]:
        """Returns the text of each row."""
        return texts_of(rows, [self.description["text_column"]])
