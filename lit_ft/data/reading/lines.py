"""Names of rows for messages, with the line that a paragraph or a piece of a text file begins at."""

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from pathlib import Path

from lit_ft.data.reading.formats.text import first_line
from lit_ft.data.reading.readers import Position, ReadOptions, file_format, read_chunks
from lit_ft.errors import UserError

SENTENCES = ("conll", "conllu")
"""Formats whose rows are sentences of a word a line."""
SPACING = 1 << 26
"""Bytes between two positions that are kept."""
STEPS = (1024, 32, 1)
"""Rows at a time in which a row is looked for; a chunk costs much, whatever it holds."""


@dataclass
class RowLines:
    """Names the rows of one file.

    The lines are found when they are asked for, by reading on from the last position before the row that was noted.

    Args:
        path: the file.
        options: how it is read.
    """

    path: Path
    options: ReadOptions
    _known: dict[int, Position] = field(default_factory=dict)
    _passed: list[Position] = field(default_factory=list)

    @property
    def are_rows(self) -> bool:
        """Whether a row's number says its line, or there are no lines."""
        kind = file_format(self.path, self.options)
        return kind not in SENTENCES and (self.options.sample_by == "line" or kind != "txt")

    def note(self, position: Position) -> None:
        """Remembers a position that was come across while reading."""
        if not self.are_rows:
            self._known.setdefault(position["byte"] // SPACING, position)

    def name(self, row: int) -> str:
        """Returns `row 3`, and its line where that is another number; rows are given from 0, named from 1."""
        line = None if self.are_rows else self._line(row)
        return f"row {row + 1}" if line is None else f"row {row + 1} (line {line})"

    def _line(self, row: int) -> int | None:
        known = sorted((*self._known.values(), *self._passed), key=lambda place: place["row"])
        at = bisect_right(known, row, key=lambda place: place["row"])
        place = known[at - 1] if at else None
        between = known[at]["row"] - (place["row"] if place else 0) if at < len(known) else STEPS[0] + 1
        try:
            for size in (size for size in STEPS if size < between):
                for after, _ in read_chunks(self.path, self.options, place, size):
                    if size == STEPS[0]:
                        self._passed.append(after)
                    if after["row"] > row:
                        break
                    place = after
            if place is None:
                if file_format(self.path, self.options) in SENTENCES:
                    return first_line(self.path, replace(self.options, sample_by="paragraph"))
                return first_line(self.path, self.options)
        except UserError:  # the file was changed or is gone: the message is about something else
            return None
        return place["line"] if place["row"] == row else None


@dataclass(frozen=True)
class RowNames:
    """Names the rows of several files by their number among all.

    Args:
        parts: each file, as the user named it, and the number of its first row.
        lines: names the rows of each file.
    """

    parts: list[tuple[str, int]]
    lines: list[RowLines]

    def __call__(self, number: int) -> str:
        """Returns a row's file and its name there."""
        place = bisect_right(self.parts, number, key=lambda part: part[1]) - 1
        name, first = self.parts[place]
        return f"{name}: {self.lines[place].name(number - first)}"
