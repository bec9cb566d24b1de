"""Which rows of a stream one loader process reads, and in what order: a pure function of the seed, endless."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lit_ft.data.ordering.chance import hashed, unit_share
from lit_ft.data.streaming.streams import PART, Position, Rows, Stream, joined
from lit_ft.errors import UserError

Mask = npt.NDArray[np.bool_]
Place = dict[str, Any]
"""How far a reader has come, as plain JSON."""

UNSHUFFLED_BLOCK = 256
EVEN = 1.1
"""Files are dealt out whole when the largest share is at most this many times the smallest."""


@dataclass(frozen=True)
class Source:
    """One stream of training rows.

    Attributes:
        stream: the rows.
        held_out: share of the rows, in percent, that is not for training (see `held_out`).
        cut_seed: seed of that cut.
    """

    stream: Stream
    held_out: float = 0
    cut_seed: int = 42

    def trained_on(self, numbers: Rows) -> Mask:
        """Says which rows are for training, by number, `[rows]`."""
        return ~held_out(numbers, self.held_out, self.cut_seed)


class Shard(NamedTuple):
    """One of all the loader processes (processes x loader workers) among which the rows are dealt out."""

    number: int
    shards: int


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a shard, in a shuffled order.

    Attributes:
        epoch: which pass over the stream.
        table: the rows as they came.
        numbers: their numbers, `[rows]`.
        order: the order to use them in, `[rows]`.
        following: where the next block begins.
    """

    epoch: int
    table: pa.Table
    numbers: Rows
    order: npt.NDArray[np.intp]
    following: Place


class Chunk(NamedTuple):
    """A shard's rows of one chunk of a file, and where the chunk begins."""

    place: Place
    table: pa.Table
    numbers: Rows


@dataclass
class ShardReader:
    """A shard's rows of one source, epoch after epoch.

    In an epoch every row comes once, in one of the shards. Files are dealt out whole where they make even shares;
    else every shard reads all of them and keeps one row of each run of `shard.shards`, by chance (rows that alternate
    between two kinds do not end in shards of one kind). What a shard gets changes from epoch to epoch.

    With `buffer`, the order of files changes with the epoch, and consecutive blocks of `buffer` rows are permuted (the
    first block of an epoch has a size of chance, so that blocks have other edges each time). The place is where the
    block begins, and how much of it is used: to go on there, that block alone is read again.

    Args:
        source: where the rows come from.
        number: number of the source among others.
        shard: which rows are ours.
        seed: of the order.
        buffer: rows that are shuffled together; 0 = rows come as they stand.
    """

    source: Source
    number: int
    shard: Shard
    seed: int
    buffer: int
    _start: Place = field(init=False)
    _index: int = field(init=False)
    _block: Block | None = field(init=False)
    _chunks: Iterator[Chunk] | None = field(init=False)
    _chunk: Chunk | None = field(init=False)
    _used: int = field(init=False)
    _seen: bool = field(init=False)
    _barren: int = 0

    def __post_init__(self) -> None:
        self.begin(0)

    @property
    def stream(self) -> Stream:
        """Where the rows come from."""
        return self.source.stream

    @property
    def epoch(self) -> int:
        """Passes over the stream that are complete, for this shard."""
        return int(self._start["epoch"])

    def begin(self, epoch: int) -> None:
        """Goes to the beginning of an epoch."""
        self.load({"epoch": epoch, "block": 0, "index": 0, "part": 0, "position": None, "row": 0, "skip": 0})
        self._seen = False

    def load(self, place: Place) -> None:
        """Goes on at a place."""
        self._start, self._index = {**place, "index": 0}, place["index"]
        self._block = self._chunks = self._chunk = None
        self._used, self._seen = place["skip"], True

    def place(self) -> Place:
        """Returns where the next row is; nothing before its block has to be read again."""
        return {**self._start, "index": self._index}

    def pick(self) -> tuple[Block, int]:
        """Returns the next row: its block, and its index there.

        `epoch` counts one more as soon as the last row of an epoch has been picked.

        Raises:
            UserError: there is no row to train on, or the stream cannot be read.
        """
        block = self._block = self._block or self._next_block()
        picked = int(block.order[self._index])
        self._index += 1
        if self._index == len(block.order):
            self._start, self._index, self._block = block.following, 0, None
            if not self._refill():
                self.begin(block.epoch + 1)
        return block, picked

    def _next_block(self) -> Block:
        while not self._refill():  # a shard of few rows may have none in one epoch, but some in the next
            self._barren = 0 if self._seen else self._barren + 1
            if self._barren > self.shard.shards:
                raise UserError(f"{self.stream.name}: no row is left to train on")
            self.begin(self.epoch + 1)
        rng = np.random.default_rng([self.seed, self.number, self.epoch, *self.shard, self._start["block"]])
        size = self.buffer or UNSHUFFLED_BLOCK
        if self.buffer and self._start["block"] == 0:
            size = int(rng.integers(1, self.buffer, endpoint=True))
        tables, numbers = [], []
        while size > 0 and (chunk := self._refill()):
            tables.append(chunk.table.slice(self._used, size))
            numbers.append(chunk.numbers[self._used : self._used + size])
            self._used += tables[-1].num_rows
            size -= tables[-1].num_rows
            last = chunk
        order = rng.permutation(sum(map(len, numbers))) if self.buffer else np.arange(sum(map(len, numbers)))
        following = {**self._start, **last.place, "skip": self._used, "block": self._start["block"] + 1}
        return Block(self.epoch, joined(tables), np.concatenate(numbers), order, following)

    def _refill(self) -> Chunk | None:
        """Returns a chunk with rows that are not used yet; `None` = the epoch is over."""
        if self._chunks is None:
            self._chunks = self._read()
        while self._chunk is None or self._used >= len(self._chunk.numbers):
            following = next(self._chunks, None)
            if following is None:
                return None
            # what is to be skipped may go beyond one chunk: chunks have other edges when read from elsewhere
            self._used -= 0 if self._chunk is None else len(self._chunk.numbers)
            self._chunk = following
        return self._chunk

    def _read(self) -> Iterator[Chunk]:
        start = dict(self._start)
        for turn, part in enumerate(self._parts()):
            position: Position | None = None
            row = 0
            if turn < start["part"]:
                continue
            if turn == start["part"]:
                position, row = start["position"], start["row"]
            for after, table in self.stream.chunks(part, position):
                rows = np.arange(row, row + table.num_rows)
                ours = self.source.trained_on((part << PART) + rows)
                self._seen |= bool(ours.any())
                ours &= self._owned(part, rows)
                yield Chunk(
                    {"part": turn, "position": position, "row": row},
                    table.filter(pa.array(ours)),
                    ((part << PART) + rows)[ours],
                )
                position, row = after, row + table.num_rows

    def _parts(self) -> list[int]:
        parts = np.arange(self.stream.parts)
        if self.buffer:
            parts = np.random.default_rng([self.seed, self.number, self.epoch]).permutation(parts)
        if self._dealt_whole:
            parts = parts[(parts + self.epoch) % self.shard.shards == self.shard.number]
        return [int(part) for part in parts]

    def _owned(self, part: int, rows: Rows) -> Mask:
        shards = self.shard.shards
        if self._dealt_whole:
            return np.ones(len(rows), dtype=np.bool_)
        turn = hashed(rows // shards, self.seed, self.number, self.epoch, part) % np.uint64(shards)
        return np.asarray((rows + part + turn.astype(np.int64)) % shards == self.shard.number)

    @cached_property
    def _dealt_whole(self) -> bool:
        if self.stream.parts % self.shard.shards:
            return False
        shares = np.bincount(
            np.arange(self.stream.parts) % self.shard.shards, weights=self.stream.sizes, minlength=self.shard.shards
        )
        return bool(shares.max() <= EVEN * shares.min())


def held_out(numbers: Rows, percentage: float, seed: int) -> Mask:
    """Says which rows are kept from training, for validation: a pure function of seed and row number.

    Args:
        numbers: row numbers, `[rows]`.
        percentage: share to hold out, in percent; it is met by chance, not exactly.
        seed: the same seed gives the same cut, in any order of reading.

    Returns:
        `[rows]`; training takes exactly the others.
    """
    return np.asarray(unit_share(numbers, _CUT, seed) < percentage / 100)


_CUT = 0x6375740A  # keeps the cut apart from other draws of the same seed
