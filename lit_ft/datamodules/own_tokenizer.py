"""What data modules share that can train a tokenizer on their training rows instead of loading one."""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lit_ft.data.caching.cache import preparation_root
from lit_ft.data.reading.raw import RawRows
from lit_ft.data.streaming.order import Source
from lit_ft.data.streaming.source import data_set_of
from lit_ft.data.streaming.streams import numbered_chunks
from lit_ft.data.tokenizing.training import trained_folder
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")

STREAMED_ROWS = 200_000
"""Rows of a stream that a tokenizer is trained on."""
OF_ROWS = (
    "column_mapping", "column_names", "quoting", "delimiter", "sources", "validation_split_percentage",
    "max_train_samples", "sample_head",
)  # fmt: skip
"""Options of every data module that decide which rows a tokenizer is trained on."""


class OwnTokenizerDataModule(TransformerDataModule):
    """The tokenizer that `train_tokenizer` describes, where a task's user gives this option.

    Args:
        train_tokenizer: train a byte-level BPE tokenizer on the texts of the training rows instead of loading one: a
            dict with `vocab_size` and, if wanted, `min_frequency`; for models from scratch.
        kwargs: options of every data module.

    Raises:
        UserError: an option of a tokenizer that is loaded is given, too, or a model that has one.
    """

    masked: ClassVar[bool]
    """Whether the tokenizer to be trained is one for masked language modelling."""
    options_of_texts: ClassVar[tuple[str, ...]]
    """Options of the task that decide which texts of its rows a tokenizer is trained on."""

    def __init__(self, *, train_tokenizer: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if train_tokenizer is None:
            return
        for option in ("tokenizer_name", "tokenizer_kwargs"):
            if self.hparams[option]:
                raise UserError(f"train_tokenizer makes a tokenizer, {option} is for one that is loaded: leave one out")
        if not self.hparams["use_fast_tokenizer"]:
            raise UserError("train_tokenizer makes a fast tokenizer: leave use_fast_tokenizer: false out")
        if self.hparams["model_name_or_path"]:
            raise UserError(
                "train_tokenizer makes tokens of its own, for which model_name_or_path has no embeddings: train from "
                "scratch (model_type), or leave train_tokenizer out"
            )

    @abstractmethod
    def texts_in(self, rows: RawRows) -> Iterator[list[str]]:
        """Yields what a tokenizer learns of a set of training rows, in batches.

        Raises:
            UserError: the rows do not hold the columns.
        """

    def training_texts(self) -> Iterator[list[str]]:
        """Yields what a tokenizer is trained on, in batches: all rows, or of each stream the first ones."""
        if self.hparams["streaming"]:
            for source in self.source.streams:
                yield from self._streamed_texts(source)
            return
        with self.scratch():
            for rows in self.load_rows("train").values():
                yield from self.texts_in(rows)

    def _streamed_texts(self, source: Source) -> Iterator[list[str]]:
        seen, stream = 0, source.stream
        for numbers, table in numbered_chunks(stream):
            trained_on = table.filter(pa.array(source.trained_on(numbers)))
            yield from self.texts_in(RawRows(data_set_of(trained_on, stream), stream.name))
            seen += len(table)
            if seen >= STREAMED_ROWS:
                log.info(f"{stream.name}: train_tokenizer reads the first {seen:,} rows of the stream")
                return

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Trains the tokenizer, once per machine, or loads it; see the base."""
        options = self.hparams["train_tokenizer"]
        if options is None:
            return super().load_tokenizer()
        root = preparation_root(self.hparams["preparation_dir"])
        decide = {name: self.hparams[name] for name in (*self.options_of_texts, *OF_ROWS)}
        rows = [self.source.fingerprint("train", root), decide]
        folder = trained_folder(options, self.masked, rows, root, self.training_texts)
        return AutoTokenizer.from_pretrained(folder)  # type: ignore[no-any-return]
