"""Documents of text -> blocks: special tokens around documents or blocks, and one of the ways of cutting."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from lit_ft.data.features.ragged import Array, Column, Ragged, concatenate, taken
from lit_ft.data.grouping.cutting import Grouper, insert_around
from lit_ft.data.reading.formats.text import PART_BITS

PART = "document_part"
"""Column of a piece's number within its document, where documents come in pieces (see `formats/text.py`)."""
FIRST = (1 << PART_BITS) - 1
"""The bits of that number that are 0 in a document's first piece."""


class Grouping(Protocol):
    """Makes other features of all features of a set together."""

    def add(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Takes further features; returns the groups that are complete now."""

    def finish(self) -> dict[str, Column]:
        """Returns what is left."""

    def state(self) -> Any:
        """Returns what has not come out yet, as plain JSON."""

    def load(self, state: Any) -> None:
        """Goes on from a state."""

    def settings(self) -> Any:
        """Returns, as plain JSON, what must be the same for a state to mean the same."""

    def notes(self) -> list[str]:
        """Returns what there is to say at the end."""

    def nothing(self) -> str:
        """Returns what to say where nothing came out."""


class TextBlocks:
    """Cuts documents into blocks; see `Grouping`.

    Args:
        grouper: the way of cutting.
        size: most tokens of a block, those around it included.
        around_documents: token ids before and behind each document.
        separator: token ids behind each document that has text; where there are some, the others get no token at all.
        made_of: what else the documents' tokens depend on, as plain JSON.
        around_blocks: token ids before and behind each block.
        isolated: keep the lengths of the documents in each block, as the column `documents`.
    """

    def __init__(
        self,
        grouper: Grouper,
        size: int,
        around_documents: tuple[list[int], list[int]],
        separator: list[int],
        made_of: Any = None,
        around_blocks: tuple[list[int], list[int]] = ([], []),
        isolated: bool = False,
    ) -> None:
        self.grouper, self.size, self.isolated = grouper, size, isolated
        self.around_documents, self.separator, self.around_blocks = around_documents, separator, around_blocks
        self.made_of = made_of
        self._waiting: dict[str, Column] | None = None
        self._last_part = -1

    def add(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Takes further documents, or pieces of them; see `Grouping`."""
        given = {name: column for name, column in columns.items() if name != "row"}
        if PART not in given:
            rows = len(_ragged(given, "input_ids"))
            return self._cut(given, np.zeros(rows, bool), np.ones(rows, bool))
        if self._waiting is not None:
            given = {name: concatenate([self._waiting[name], column]) for name, column in given.items()}
        rows = len(given[PART])
        self._waiting = {name: taken(column, np.arange(max(rows - 1, 0), rows)) for name, column in given.items()}
        # whether a document ends with a piece is known when the next one has come
        return self._joined(given, rows - 1) if rows else self._cut(given, np.zeros(0, bool), np.zeros(0, bool))

    def finish(self) -> dict[str, Column]:
        """Returns what is left; see `Grouping`."""
        parts = []
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            parts.append(self._joined(waiting, len(waiting[PART])))
        parts.append(self._finished(self.grouper.finish()))
        return {name: concatenate([part[name] for part in parts]) for name in parts[0]}

    def state(self) -> Any:
        """Returns what has not come out yet; see `Grouping`."""
        assert self._waiting is None, "pieces of documents are not streamed"
        return self.grouper.state()

    def load(self, state: Any) -> None:
        """Goes on from a state; see `Grouping`."""
        self.grouper.load(state)

    def settings(self) -> Any:
        """Returns the way of cutting; see `Grouping`."""
        around = (*self.around_documents, self.separator, *self.around_blocks)
        return [type(self.grouper).__name__, self.size, self.made_of, *around]

    def notes(self) -> list[str]:
        """Says how many blocks there are and how full; see `Grouping`."""
        counts = self.grouper.counts
        said = (
            f"{counts.documents:,} documents of {counts.tokens:,} tokens in {counts.blocks:,} blocks of {self.size} "
            f"({counts.fill:.1%} full)"
        )
        if counts.partial:
            said += f", {counts.partial:,} of them shorter"
        if counts.dropped:
            said += f"; {counts.dropped:,} tokens did not fill the last block and are dropped (drop_last: false)"
        if counts.blocks == counts.partial == 1:
            said += "; all of it is less than one block"
        return [said]

    def nothing(self) -> str:
        """Says why there is no block; see `Grouping`."""
        counts = self.grouper.counts
        if counts.dropped:
            return f"{counts.tokens:,} tokens do not fill one block of {self.size}: lower it, or set drop_last: false"
        return f"no text in {counts.documents:,} documents"

    def _joined(self, columns: dict[str, Column], rows: int) -> dict[str, Column]:
        """Cuts the first `rows` pieces; those behind only say where documents end."""
        part = np.asarray(columns[PART])
        follows = np.diff(part, prepend=self._last_part) == 1
        continues = follows & (part & FIRST != 0)
        ends = np.append(~continues[1:], True)[:rows]
        self._last_part = int(part[rows - 1]) if rows else self._last_part
        documents = {
            name: taken(column, np.arange(rows)) if rows < len(part) else column
            for name, column in columns.items()
            if name != PART
        }
        return self._cut(documents, continues[:rows], ends)

    def _cut(self, columns: Mapping[str, Column], continues: Array, ends: Array) -> dict[str, Column]:
        documents = {name: _ragged(columns, name) for name in columns if name != PART}
        before, behind, begins = *self.around_documents, ~continues
        if self.separator:
            behind = behind + self.separator
            text = (documents["input_ids"].lengths > 0) | continues | ~ends
            begins, ends = begins & text, ends & text
        fill = dict.fromkeys(documents, 0)  # new tokens say nothing of their own
        documents = insert_around(documents, before, behind, begins, ends, fill)
        return self._finished(self.grouper.add(documents, continues))

    def _finished(self, blocks: dict[str, Column]) -> dict[str, Column]:
        lengths = blocks.pop("documents")
        if any(self.around_blocks):
            every = np.ones(len(lengths), bool)
            tokens = {"input_ids": _ragged(blocks, "input_ids")}
            blocks = {**blocks, **insert_around(tokens, *self.around_blocks, every, every, fill={})}
        return {**blocks, "documents": lengths} if self.isolated else blocks


def _ragged(columns: Mapping[str, Column], name: str) -> Ragged:
    column = columns[name]
    assert isinstance(column, Ragged)
    return column
