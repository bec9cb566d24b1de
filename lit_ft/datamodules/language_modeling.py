"""What causal and masked language modelling share: documents of one text column, whole, cut into blocks afterwards."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from datasets import Dataset, Value
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lit_ft.data.caching.cache import preparation_root
from lit_ft.data.grouping.blocks import PART
from lit_ft.data.grouping.documents import DocumentEncoder
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.reading.columns import check_columns
from lit_ft.data.reading.raw import RawRows, Split
from lit_ft.data.reading.readers import ReadOptions
from lit_ft.data.streaming.streams import Stream
from lit_ft.data.tokenizing.texts import TextEncoder
from lit_ft.data.tokenizing.training import trained_folder
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import UserError
from lit_ft.ops.building.positions import hard_limit, longest_input

LONGEST = 1024
"""Tokens of a block where nobody says; the scripts' own limit."""
STREAMED_ROWS = 200_000
"""Rows of a stream that a tokenizer is trained on."""
OF_TEXTS = (
    "text_column_name", "column_mapping", "sample_by", "keep_linebreaks", "column_names", "quoting", "delimiter",
    "sources", "validation_split_percentage", "max_train_samples", "sample_head", "streaming",
)  # fmt: skip
"""Options that decide which texts a tokenizer is trained on."""

log = logging.getLogger("lit_ft")


class LanguageModelingDataModule(TransformerDataModule):
    """Documents of text -> blocks of tokens. Use a task's own class, not this one.

    Args:
        text_column_name: column of the text. Default: `text`, or the only column of strings.
        train_tokenizer: train a byte-level BPE tokenizer on the training rows instead of loading one: a dict with
            `vocab_size` and, if wanted, `min_frequency`.
        document_separator: put the tokenizer's end-of-text token (its separator, for masked models) between documents.
        drop_last: drop the last block of a split where it is shorter than the others.
        sample_by: what a document is in a txt file: a `line`, a `paragraph` (up to a blank line) or the whole
            `document`.
        keep_linebreaks: keep the line ends of a txt file.
        kwargs: options of every data module.
    """

    masked: ClassVar[bool]
    """Whether the tokenizer to be trained is one for masked language modelling."""
    length_option: ClassVar[str]
    """Name of the option that says how long a feature may be."""

    def __init__(
        self,
        *,
        text_column_name: str = "",  # no None: beside it, jsonargparse reads a column named `null` as None
        train_tokenizer: dict[str, Any] | None = None,
        document_separator: bool = True,
        drop_last: bool = False,
        sample_by: Literal["line", "paragraph", "document"] = "document",
        keep_linebreaks: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(sample_by=sample_by, keep_linebreaks=keep_linebreaks, **kwargs)
        for option in ("tokenizer_name", "tokenizer_kwargs"):
            if train_tokenizer is not None and self.hparams[option]:
                raise UserError(f"train_tokenizer makes a tokenizer, {option} is for one that is loaded: leave one out")
        if train_tokenizer is not None and self.hparams["model_name_or_path"]:
            raise UserError(
                "train_tokenizer makes tokens of its own, for which model_name_or_path has no embeddings: train from "
                "scratch (model_type), or leave train_tokenizer out"
            )

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the text column; see the base."""
        every = [rows for sets in raw.values() for rows in sets.values()]
        name = self._text_column(every[0], self.hparams["text_column_name"] or known.get("text_column"))
        for rows in every:
            check_text_column(rows, name)
        pieces = any(PART in rows.data.column_names for rows in every)
        self.description = {**known, "text_column": name, "pieces": pieces, "length": self.longest_feature}
        return self.description

    def read_to_predict(self, read: ReadOptions) -> ReadOptions:
        """Reads txt files to predict line by line, whatever a document is in the others; see the base."""
        return replace(read, sample_by="line", keep_linebreaks=False)

    def _origin(self, kind: Split) -> Split:
        return kind  # texts to score are no texts to go on from, or to fill in

    def input_columns(self, split: Split) -> list[str] | None:
        """The text column, and where documents come in pieces, which pieces they are; see the base."""
        return None if self.description["pieces"] else [self.description["text_column"]]

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """The text; see the base."""
        return RowContent([rows[self.description["text_column"]]], None)

    def documents(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Encodes texts whole, without special tokens; keeps which of them are pieces of a longer one."""
        ids = self.document_encoder(self._texts(rows))
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
        run = self.known.get("length")
        size: int = self.hparams[self.length_option] or run or min(self.longest_input or LONGEST, LONGEST)
        config = self.pretrained_config()
        most = hard_limit(config) if config is not None else None
        if most is not None and size > most:
            raise UserError(f"{self.length_option} {size} is above the model's {most} positions")
        return size

    @cached_property
    def longest_input(self) -> int | None:
        """The most tokens that the model takes; `None` where nothing says so."""
        config = self.pretrained_config()
        limit = self.tokenizer.model_max_length if config is None else longest_input(config, self.tokenizer)
        return limit if limit is not None and limit < 10**9 else None

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Trains the tokenizer, once per machine, or loads it; see the base."""
        options = self.hparams["train_tokenizer"]
        if options is None:
            return super().load_tokenizer()
        root = preparation_root(self.hparams["preparation_dir"])
        rows = [self.source.fingerprint("train", root), {name: self.hparams[name] for name in OF_TEXTS}]
        return AutoTokenizer.from_pretrained(  # type: ignore[no-any-return]
            trained_folder(options, self.masked, rows, root, self._training_texts)
        )

    def _training_texts(self) -> Iterator[list[str]]:
        with self.scratch():
            for rows in self.load_rows("train").values():
                name = self._text_column(rows, self.hparams["text_column_name"])
                check_text_column(rows, name)
                for batch in rows.batches([name], 1024) if not self.hparams["streaming"] else ():
                    yield [str(text) for text in batch[name] if text is not None]
        for source in self.source.streams:
            yield from self._streamed_texts(source.stream)

    def _streamed_texts(self, stream: Stream) -> Iterator[list[str]]:
        seen = 0
        for part in range(stream.parts):
            for _, table in stream.chunks(part):
                rows = RawRows(Dataset(table), stream.name)
                texts = table[self._text_column(rows, self.hparams["text_column_name"])].to_pylist()
                yield [str(text) for text in texts if text is not None]
                seen += len(texts)
                if seen >= STREAMED_ROWS:
                    log.info(f"{stream.name}: train_tokenizer reads the first {seen:,} rows of the stream")
                    return

    def _text_column(self, rows: RawRows, given: str | None) -> str:
        """Returns the column that is given, or else `text`, or else the only column of strings."""
        if given:
            return given
        strings = [name for name, feature in rows.data.features.items() if is_text(feature)]
        if "text" in strings or len(strings) == 1:
            return "text" if "text" in strings else strings[0]
        if not strings:
            held = {name: str(getattr(feature, "dtype", feature)) for name, feature in rows.data.features.items()}
            raise UserError(f"{rows.place}: no column of text; columns: {held}")
        raise UserError(
            f"{rows.place}: which column is the text? columns: {rows.data.column_names}; set text_column_name"
        )

    def _texts(self, rows: dict[str, list[Any]]) -> list[str]:
        return ["" if cell is None else str(cell) for cell in rows[self.description["text_column"]]]


def is_text(feature: Any) -> bool:
    """Says whether a column holds strings."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def check_text_column(rows: RawRows, name: str) -> None:
    """Makes sure that a column is there and holds text.

    Raises:
        UserError: it does not.
    """
    check_columns([name], rows.data.column_names, rows.place)
    feature = rows.data.features[name]
    if not is_text(feature):
        strings = [column for column, each in rows.data.features.items() if is_text(each)]
        raise UserError(
            f"{rows.place}: column {name!r} holds {getattr(feature, 'dtype', feature)}, not text; columns of text: "
            f"{strings}"
        )
