"""Cuts documents into blocks of tokens: end to end, each by itself, or in windows that overlap."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from lit_ft.data.features.ragged import Array, Column, Ragged, offsets_of, rows_at
from lit_ft.errors import UserError


@dataclass
class GroupCounts:
    """What a grouper has taken in and given out so far.

    Attributes:
        block_size: tokens a full block has.
        documents: documents that came in; a document in several pieces is one, an empty one counts too.
        tokens: tokens that came in.
        placed: tokens that came out in blocks; those that windows share count in each.
        blocks: blocks that came out.
        partial: of these, blocks shorter than `block_size`.
        dropped: tokens that will never come out.
    """

    block_size: int
    documents: int = 0
    tokens: int = 0
    placed: int = 0
    blocks: int = 0
    partial: int = 0
    dropped: int = 0

    @property
    def fill(self) -> float:
        """How full the blocks are, from 0 to 1; 0 before the first block."""
        return self.placed / (self.blocks * self.block_size) if self.blocks else 0.0

    def took(self, columns: Mapping[str, Ragged], continues: Array) -> None:
        """Counts pieces that come in."""
        self.documents += int(np.count_nonzero(~np.asarray(continues, bool)))
        self.tokens += int(columns["input_ids"].lengths.sum())

    def gave(self, lengths: Array) -> None:
        """Counts blocks of these lengths that come out."""
        self.placed += int(lengths.sum())
        self.blocks += len(lengths)
        self.partial += int(np.count_nonzero(lengths < self.block_size))


class Grouper(Protocol):
    """Takes documents in and gives blocks out; what comes out does not depend on how the documents are dealt out.

    Columns belong together row by row, so all are cut alike: `input_ids` and whatever else there is of each token.
    The blocks have one column more, `documents`: the lengths (int32) of the documents' parts within each block.
    """

    counts: GroupCounts

    def add(self, columns: Mapping[str, Ragged], continues: Array) -> dict[str, Column]:
        """Takes pieces of documents and returns the blocks that are complete now, maybe none.

        Args:
            columns: `input_ids` and others with the same offsets, a row for each piece.
            continues: whether a piece continues the document of the piece before it, also of the call before,
                `[pieces]`, bool.
        """

    def finish(self) -> dict[str, Column]:
        """Returns the blocks of what is left and forgets it; `add` may be called again, as if for the first time."""

    def state(self) -> Any:
        """Returns, as plain JSON, everything that has not come out yet, and the counts."""

    def load(self, state: Any) -> None:
        """Goes on where the grouper that returned `state` was."""


class Wrapped:
    """All documents laid end to end and cut every `block_size` tokens.

    At most `block_size - 1` tokens are held between calls.

    Args:
        block_size: tokens of a block.
        drop_last: leave out the last block if it is not full (its tokens are counted as dropped).
    """

    def __init__(self, block_size: int, drop_last: bool = False) -> None:
        check_block_size(block_size)
        self.drop_last = drop_last
        self.counts = GroupCounts(block_size)
        self._held: dict[str, Array] = {}
        # where documents begin in what is held; its own end, if the next token begins one, or the document is empty
        self._begins = np.zeros(1, np.int64)

    def add(self, columns: Mapping[str, Ragged], continues: Array) -> dict[str, Column]:
        """See `Grouper`."""
        self.counts.took(columns, continues)
        size, held = self.counts.block_size, count_tokens(self._held)
        values = laid_after(self._held, columns)
        begins = np.zeros(count_tokens(values) + 1, bool)
        begins[self._begins] = True
        begins[held + document_starts(columns, continues)] = True
        begins[::size] = True
        end = (len(begins) - 1) // size * size
        self._held = {name: column[end:].copy() for name, column in values.items()}
        self._begins = np.flatnonzero(begins[end:])
        return self._blocks({name: column[:end] for name, column in values.items()}, np.flatnonzero(begins[: end + 1]))

    def finish(self) -> dict[str, Column]:
        """See `Grouper`."""
        values, total = self._held, count_tokens(self._held)
        bounds = np.unique(np.append(self._begins, total))
        self._held, self._begins = {name: column[:0] for name, column in values.items()}, np.zeros(1, np.int64)
        if self.drop_last:
            self.counts.dropped += total
            return self._blocks(self._held, self._begins)
        return self._blocks(values, bounds)

    def _blocks(self, values: Mapping[str, Array], bounds: Array) -> dict[str, Column]:
        """Cuts tokens every `block_size`; `bounds` are the ends of blocks and of documents, from 0 on."""
        size, total = self.counts.block_size, int(bounds[-1])
        offsets = np.minimum(np.arange(-(-total // size) + 1, dtype=np.int64) * size, total)
        self.counts.gave(np.diff(offsets))
        parts = Ragged(np.diff(bounds).astype(np.int32), np.searchsorted(bounds, offsets).astype(np.int64))
        return {**{name: Ragged(column, offsets) for name, column in values.items()}, "documents": parts}

    def state(self) -> Any:
        """See `Grouper`."""
        return {"held": as_json(self._held), "begins": self._begins.tolist(), "counts": asdict(self.counts)}

    def load(self, state: Any) -> None:
        """See `Grouper`."""
        self._held, self._begins = from_json(state["held"]), np.array(state["begins"], np.int64)
        self.counts = GroupCounts(**state["counts"])


class Sliding:
    """Each document by itself, in windows of at most `block_size` tokens that overlap by `stride` tokens.

    For evaluation: every token is scored once, with at least `stride` tokens before it where the document has them.
    The blocks have a column `context` (int32, `[blocks]`): how many leading tokens of the window an earlier window
    has scored. Hugging Face's guide to perplexity calls `block_size - stride` the stride. At most `block_size - 1`
    tokens are held between calls, however long a document is.

    Args:
        block_size: tokens of a full window.
        stride: tokens that a window shares with the one before, from 0 to `block_size - 1`.
    """

    def __init__(self, block_size: int, stride: int) -> None:
        check_block_size(block_size)
        if not 0 <= stride < block_size:
            raise UserError(
                f"stride is {stride}: choose from 0 to {block_size - 1}, less than block_size ({block_size})"
            )
        self.stride = stride
        self.counts = GroupCounts(block_size)
        # the open document, from where its next window begins, and how many of these tokens are scored
        self._held: dict[str, Array] = {}
        self._scored = 0

    def add(self, columns: Mapping[str, Ragged], continues: Array) -> dict[str, Column]:
        """See `Grouper`."""
        self.counts.took(columns, continues)
        return self._windows(columns, continues)

    def finish(self) -> dict[str, Column]:
        """See `Grouper`."""
        # an empty document ends the one before
        empty = {name: Ragged(column[:0], np.zeros(2, np.int64)) for name, column in self._held.items()}
        return self._windows(empty, np.zeros(1, bool))

    def _windows(self, columns: Mapping[str, Ragged], continues: Array) -> dict[str, Column]:
        size, step = self.counts.block_size, self.counts.block_size - self.stride
        values = laid_after(self._held, columns)
        starts = np.append(0, count_tokens(self._held) + document_starts(columns, continues))
        lengths = np.diff(starts, append=count_tokens(values))
        scored = np.zeros(len(starts), np.int64)
        scored[0] = self._scored
        windows = np.where(lengths > scored, 1 + -(-np.maximum(lengths - size, 0) // step), 0)
        # the last document may go on, so only its full windows are sure
        windows[-1] = max(0, (lengths[-1] - size) // step + 1)

        document = np.repeat(np.arange(len(starts)), windows)
        number = np.arange(len(document)) - np.repeat(np.cumsum(windows) - windows, windows)
        blocks = np.minimum(size, lengths[document] - number * step)
        self.counts.gave(blocks)
        cut: dict[str, Column] = {
            name: rows_at(column, starts[document] + number * step, blocks) for name, column in values.items()
        }
        cut["documents"] = Ragged(blocks.astype(np.int32), np.arange(len(blocks) + 1, dtype=np.int64))
        cut["context"] = np.where(number > 0, self.stride, scored[document]).astype(np.int32)

        self._held = {name: column[starts[-1] + windows[-1] * step :].copy() for name, column in values.items()}
        self._scored = self.stride if windows[-1] else int(scored[-1])
        return cut

    def state(self) -> Any:
        """See `Grouper`."""
        return {"held": as_json(self._held), "scored": self._scored, "counts": asdict(self.counts)}

    def load(self, state: Any) -> None:
        """See `Grouper`."""
        self._held, self._scored = from_json(state["held"]), state["scored"]
        self.counts = GroupCounts(**state["counts"])


class Separate(Sliding):
    """Each document by itself, cut every `block_size` tokens.

    At most `block_size - 1` tokens are held between calls.

    Args:
        block_size: tokens of a full block.
    """

    def __init__(self, block_size: int) -> None:
        super().__init__(block_size, stride=0)

    def _windows(self, columns: Mapping[str, Ragged], continues: Array) -> dict[str, Column]:
        blocks = super()._windows(columns, continues)
        del blocks["context"]
        return blocks


def insert_around(
    columns: Mapping[str, Ragged],
    prefix: list[int],
    suffix: list[int],
    begins: Array,
    ends: Array,
    fill: Mapping[str, int],
) -> dict[str, Ragged]:
    """Puts tokens before and after documents.

    Args:
        columns: `input_ids` and others with the same offsets, a row for each piece of a document.
        prefix: tokens that go before a piece that begins its document.
        suffix: tokens that go after a piece that ends its document.
        begins: whether a piece begins its document, `[pieces]`, bool.
        ends: whether a piece ends its document, `[pieces]`, bool.
        fill: for each other column, its value at the new tokens.

    Returns:
        The columns with the same dtypes and longer rows.
    """
    offsets = columns["input_ids"].offsets.astype(np.int64)
    begins, ends = np.asarray(begins, bool), np.asarray(ends, bool)
    # piece by piece, so that a suffix comes before the next prefix, which goes in at the same place
    wanted = np.repeat(np.stack([begins, ends], axis=1), [len(prefix), len(suffix)], axis=1)
    places = np.repeat(np.stack([offsets[:-1], offsets[1:]], axis=1), [len(prefix), len(suffix)], axis=1)
    tokens = np.broadcast_to(np.array([*prefix, *suffix], np.int64), wanted.shape)[wanted]
    longer = offsets_of(np.diff(offsets) + wanted.sum(axis=1))
    return {
        name: Ragged(
            np.insert(
                column.values[offsets[0] : offsets[-1]],
                places[wanted] - offsets[0],
                tokens if name == "input_ids" else fill[name],
            ),
            longer,
        )
        for name, column in columns.items()
    }


def check_block_size(block_size: int) -> None:
    """Raises a `UserError` unless a block can hold a token."""
    if block_size < 1:
        raise UserError(f"block_size is {block_size}: choose at least 1")


def count_tokens(values: Mapping[str, Array]) -> int:
    """Returns the length of columns' flat arrays; 0 before the first columns came."""
    return len(values["input_ids"]) if values else 0


def laid_after(held: Mapping[str, Array], columns: Mapping[str, Ragged]) -> dict[str, Array]:
    """Returns each column's tokens as one new flat array, after those held."""
    assert not held or not columns or held.keys() == columns.keys(), "all calls have the same columns"
    rows = {name: column.values[column.offsets[0] : column.offsets[-1]] for name, column in columns.items()}
    return {name: np.concatenate([held.get(name, row[:0]), row]) for name, row in rows.items()}


def document_starts(columns: Mapping[str, Ragged], continues: Array) -> Array:
    """Returns where the documents begin that begin in these pieces, counted from the first token."""
    if not columns:
        return np.zeros(0, np.int64)
    offsets = columns["input_ids"].offsets.astype(np.int64)
    return np.asarray((offsets[:-1] - offsets[0])[~np.asarray(continues, bool)])


def as_json(values: Mapping[str, Array]) -> Any:
    """Returns flat arrays as plain JSON."""
    return {name: {"dtype": column.dtype.name, "values": column.tolist()} for name, column in values.items()}


def from_json(state: Any) -> dict[str, Array]:
    """Returns the flat arrays that `as_json` wrote."""
    return {name: np.array(column["values"], column["dtype"]) for name, column in state.items()}
