"""Packs whole documents into blocks that are as full as can be (best-fit decreasing)."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain, pairwise, repeat
from typing import Any

import numpy as np

from lit_ft.data.features.ragged import Array, Column, Ragged, concatenate, offsets_of, rows_at
from lit_ft.data.grouping.cutting import GroupCounts, Separate, as_json, from_json
from lit_ft.errors import UserError


class BestFit:
    """Documents up to `block_size` tokens stay whole and share blocks; longer ones are first cut every `block_size`.

    Documents are held until there are `window` tokens of them, then packed together: the longest first, each into
    the block with the least room that still takes it. A window's blocks come out in the order of their first
    documents, with the documents in their order within. Empty documents are in no block. See `Grouper`.

    Args:
        block_size: tokens of a full block.
        window: tokens that are packed together, at least `block_size`; more make fuller blocks and take more memory.
    """

    def __init__(self, block_size: int, window: int = 1 << 22) -> None:
        self._separate = Separate(block_size)
        if window < block_size:
            raise UserError(f"window is {window}: choose at least block_size ({block_size}), better 1000 times as much")
        self.window = window
        self.counts = GroupCounts(block_size)
        # pieces of at most a block, laid end to end (`documents`: their lengths), call by call
        self._waiting: list[dict[str, Array]] = []
        # how far into its window the first of them begins
        self._first = 0

    def add(self, columns: Mapping[str, Ragged], continues: Array) -> dict[str, Column]:
        """See `Grouper`."""
        self.counts.took(columns, continues)
        self._wait(self._separate.add(columns, continues))
        waiting = sum(len(part["input_ids"]) for part in self._waiting)
        complete = (self._first + waiting) // self.window
        if not complete:
            return self._blocks({name: column[:0] for name, column in self._waiting[-1].items()}, [0])
        pieces = self._taken()
        offsets = offsets_of(pieces["documents"])
        # windows are stretches of the tokens' stream, however it is dealt out; a piece is in the one it begins in
        ends = np.searchsorted(self._first + offsets[:-1], np.arange(complete + 1) * self.window).tolist()
        left = {name: column[offsets[ends[-1]] :].copy() for name, column in pieces.items() if name != "documents"}
        self._waiting = [{**left, "documents": pieces["documents"][ends[-1] :].copy()}]
        self._first += int(offsets[ends[-1]]) - complete * self.window
        return self._blocks(pieces, ends)

    def finish(self) -> dict[str, Column]:
        """See `Grouper`."""
        self._wait(self._separate.finish())
        pieces, self._first = self._taken(), 0
        return self._blocks(pieces, [0, len(pieces["documents"])])

    def _wait(self, pieces: Mapping[str, Column]) -> None:
        self._waiting.append({name: column.values for name, column in pieces.items() if isinstance(column, Ragged)})

    def _taken(self) -> dict[str, Array]:
        parts, self._waiting = self._waiting, []
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def _blocks(self, pieces: Mapping[str, Array], ends: list[int]) -> dict[str, Column]:
        """Packs pieces, window by window; `ends` are the numbers of the pieces where windows end, from 0 on."""
        lengths, starts = pieces["documents"], offsets_of(pieces["documents"])
        number = np.zeros(ends[-1], np.int64)
        for first, last in pairwise(ends):
            number[first:last] = first + best_fit_decreasing(lengths[first:last], self.counts.block_size)
        number = in_order(number)
        order = np.argsort(number, kind="stable")
        parts = offsets_of(np.bincount(number))
        offsets = offsets_of(lengths[order])[parts]
        self.counts.gave(np.diff(offsets))
        blocks: dict[str, Column] = {
            name: Ragged(rows_at(column, starts[order], lengths[order]).values, offsets)
            for name, column in pieces.items()
            if name != "documents"
        }
        return {**blocks, "documents": Ragged(lengths[order], parts)}

    def state(self) -> Any:
        """See `Grouper`; up to `window` tokens, none right after `finish`."""
        waiting = self._taken()
        self._waiting = [waiting] if waiting else []
        return {
            "separate": self._separate.state(),
            "waiting": as_json(waiting),
            "first": self._first,
            "counts": asdict(self.counts),
        }

    def load(self, state: Any) -> None:
        """See `Grouper`."""
        self._separate.load(state["separate"])
        self._waiting = [from_json(state["waiting"])] if state["waiting"] else []
        self._first = state["first"]
        self.counts = GroupCounts(**state["counts"])


class BestFitAtOnce(BestFit):
    """Packs the documents of each call together, for streams, where nothing may be held; see `BestFit`."""

    def add(self, columns: Mapping[str, Ragged], continues: Array) -> dict[str, Column]:
        """See `Grouper`."""
        windows, rest = super().add(columns, continues), self.finish()
        return {name: concatenate([windows[name], rest[name]]) for name in windows}


def best_fit(block_size: int, streamed: bool) -> BestFit:
    """Makes what packs whole documents: in windows where all rows are prepared, at once where they are a stream.

    Args:
        block_size: tokens of a full block.
        streamed: the documents are streamed training rows, where what is held goes into every batch's place.
    """
    return (BestFitAtOnce if streamed else BestFit)(block_size)


def best_fit_decreasing(lengths: Array, block_size: int) -> Array:
    """Deals pieces out to blocks: longest first, each into the block with the least room that still takes it.

    Pieces of one length and blocks with the same room are interchangeable, so they are dealt with together: when a
    block has taken a piece and takes another of the same length, it is the one with the least room for that too.

    Args:
        lengths: tokens of each piece, from 1 to `block_size`, `[pieces]`.
        block_size: tokens of a full block.

    Returns:
        The number of each piece's block, `[pieces]`.
    """
    numbers: list[int] = []
    with_room: dict[int, list[int]] = defaultdict(list)
    rooms = 0  # a set of the rooms there are: bit n stands for room for n tokens
    opened = 0
    distinct, counts = np.unique(lengths, return_counts=True)
    for length, count in zip(distinct[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while count:
            enough = rooms >> length
            room = length + (enough & -enough).bit_length() - 1 if enough else block_size
            each = room // length
            needed = -(-count // each)
            if enough:
                used = with_room[room][-needed:]
                del with_room[room][-needed:]
                rooms ^= 0 if with_room[room] else 1 << room
            else:
                used = list(range(opened, opened + needed))
                opened += needed
            dealt = min(count, each * len(used))
            numbers += list(chain.from_iterable(map(repeat, used, repeat(each))))[:dealt] if each > 1 else used
            count -= dealt
            in_last = dealt - each * (len(used) - 1)
            for taken, blocks in (each, used[:-1]), (in_last, used[-1:]):
                if blocks:
                    with_room[room - taken * length] += blocks
                    rooms |= 1 << (room - taken * length)
    dealt_out = np.empty(len(lengths), np.int64)
    dealt_out[np.argsort(-lengths.astype(np.int64), kind="stable")] = numbers
    return dealt_out


def in_order(numbers: Array) -> Array:
    """Renumbers blocks in the order in which they first occur, from 0."""
    _, first, place = np.unique(numbers, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[place]
