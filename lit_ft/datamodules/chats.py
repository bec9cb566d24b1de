"""What data modules of conversations share: the chat template, the formats' columns, the most tokens of a row."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from lit_ft.data.chats.encoding import ChatEncoder, check_tokens, read_template
from lit_ft.data.chats.rendering import ChatRenderer
from lit_ft.data.features.ragged import Array, Column, Ragged
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.reading.raw import TEXT, RawRows, Split
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import RowError, UserError
from lit_ft.ops.building.positions import check_length, usual_length

LONGEST = 2048
"""Tokens of a conversation where nobody says."""


class ChatDataModule(TransformerDataModule):
    """Conversations as their chat template writes them; use a task's own class, not this one.

    Args:
        chat_columns: a format's names for columns that are called otherwise, such as `{messages: dialogue}`.
        chat_template: a file, one of `chatml`, `llama3`, `gemma`, `mistral`, `alpaca`, or Jinja. Default: the
            tokenizer's.
        chat_template_kwargs: further variables of the template, such as `{enable_thinking: false}`.
        max_seq_length: most tokens of a row. Default: what the model takes, at most 2,048. What is longer is cut at the
            end (`truncation_side`), and counted; `on_bad_rows: {cut: drop}` or `error` leaves it out, or stops.
        kwargs: options of every data module.

    Attributes:
        formats: how each set of rows holds them, by where it lies.
    """

    def __init__(
        self,
        *,
        chat_columns: dict[str, str] | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        max_seq_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_seq_length=max_seq_length, stride=None, **kwargs)
        self._columns: dict[Split, list[str] | None] = {}
        self.formats: dict[str, Any] = {}

    @abstractmethod
    def find_format(self, columns: Sequence[str], split: Split) -> Any:
        """Tells by the names of columns how rows hold what they hold; it has a `title`, `columns` and `read(row)`.

        Raises:
            UserError: there is no such format.
        """

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Tells the formats, which may differ from set to set; says what the tokenizer does not know; see the base."""
        self._columns, self.formats = {}, {}
        for kind, sets in raw.items():
            for rows in sets.values():
                try:
                    found = self.find_format(rows.data.column_names, kind)
                except UserError as error:
                    raise UserError(f"{rows.place}: {error}") from None
                # of rows to reply to some may be missing
                columns = [name for name in found.columns.values() if name in rows.data.column_names]
                self.notes.append(f"{rows.place}: {found.title} ({', '.join(columns)})")
                self.formats[rows.place] = found
                if self._columns.setdefault(kind, columns) != columns:
                    self._columns[kind] = None
        if loose := check_tokens(self.tokenizer, self.renderer):
            self.notes.append(
                f"the tokenizer has no token {', '.join(loose)} of the chat template, and writes it in pieces: "
                f"model.add_tokens: {loose}, or another chat_template"
            )
        self.description = {**known, "length": self.longest_feature, "end_of_reply": self.encoder.end_of_reply()}
        return self.description

    def column_of_texts(self, known: dict[str, Any]) -> str:
        """What a user says, unless `chat_columns` has plain texts; see the base."""
        return TEXT if TEXT in (self.hparams["chat_columns"] or {}) else "prompt"

    def input_columns(self, split: Split) -> list[str] | None:
        """Those of the format, where all sets have one; see the base."""
        return self._columns.get(split)

    def read_rows(self, rows: dict[str, list[Any]], split: Split) -> list[Any]:
        """Reads a batch of rows by their format.

        Raises:
            RowError: one is none of it.
        """
        found, names = [], list(rows)
        shape = self.find_format(names, split)
        for number, cells in enumerate(zip(*rows.values(), strict=True)):
            try:
                found.append(shape.read(dict(zip(names, cells, strict=True)), split != "predict"))
            except UserError as error:
                raise RowError(number, str(error)) from None
        return found

    def summarise(self, train: Sequence[FeatureStore]) -> dict[str, Any]:
        """Counts rows without anything to learn; see the base.

        Raises:
            UserError: there is nothing to learn in any row.
        """
        counts = np.concatenate(
            [np.zeros(0, np.int64), *(least_learned(each) for store in train for each in store.pieces())]
        )
        idle = int((counts == 0).sum())
        if len(counts) and idle == len(counts):
            raise UserError(
                f"there is nothing to learn in {idle:,} training rows: train_on, train: false, or a max_seq_length "
                "that cuts all replies off"
            )
        if idle:
            self.notes.append(
                f"train: {idle:,} rows have nothing to learn (their replies are cut off, or train: false)"
            )
        return {}

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, which has the chat template from here on; see the base."""
        found = super().tokenizer
        if self._template is not None:
            found.chat_template = self._template
        return found

    @cached_property
    def _template(self) -> str | None:
        return read_template(self.hparams["chat_template"])

    @cached_property
    def renderer(self) -> ChatRenderer:
        """Writes conversations by the template."""
        return ChatRenderer(self.tokenizer, kwargs=self.hparams["chat_template_kwargs"])

    @cached_property
    def encoder(self) -> ChatEncoder:  # type: ignore[override]
        """Encodes them."""
        return ChatEncoder(self.tokenizer, self.renderer)

    @property
    def longest_feature(self) -> int:
        """Most tokens of a row: by option, as the checkpoint's run had it, or what the model takes, up to 2,048.

        Raises:
            UserError: the model cannot take so many.
        """
        config = self.pretrained_config()
        given = self.hparams["max_seq_length"] or self.known.get("length")
        return check_length("max_seq_length", given or usual_length(config, self.tokenizer, LONGEST), config)


def least_learned(columns: dict[str, Column]) -> Array:
    """Returns how many tokens of each row are learned, `[rows]`; of its sequence with the fewest, if it has several."""
    learned, parts = columns["learned"], columns.get("sequences")
    assert isinstance(learned, Ragged)
    sums = np.concatenate([[0], np.cumsum(learned.values, dtype=np.int64)])
    if not isinstance(parts, Ragged):
        return np.diff(sums[learned.offsets])
    ends = learned.offsets[0] + np.cumsum(parts.values[parts.offsets[0] : parts.offsets[-1]], dtype=np.int64)
    each = np.diff(sums[np.concatenate([learned.offsets[:1], ends])])
    return np.minimum.reduceat(each, parts.offsets[:-1] - parts.offsets[0]) if len(parts) else each
