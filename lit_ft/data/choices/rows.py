"""Choices of a row, and which of them is right: from several columns, from lists, or from lists with labels."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Literal, NamedTuple

from lit_ft.data.labels import IGNORED, is_missing, is_no_category
from lit_ft.errors import RowError, UserError, did_you_mean

LabelKind = Literal["index", "letter", "name", "text"]
LABEL_KINDS: tuple[LabelKind, ...] = ("name", "index", "letter", "text")
"""What says which choice is right; of two readings that fit equally well, the earlier one."""
TEXT_KEYS, NAME_KEYS = ("text", "texts"), ("label", "labels")
FEWEST = 2


class Choices(NamedTuple):
    """The choices of one row.

    Attributes:
        texts: of the choices that there are.
        places: where each stands among all of the row, empty ones included.
        size: how many there are, empty ones included.
        names: what the row calls each of its choices (`A`, `1`, the column's name), empty ones included; `None` where
            lists have no names.
    """

    texts: list[str]
    places: list[int]
    size: int
    names: list[str] | None

    def spread(self, values: Sequence[Any]) -> list[Any]:
        """Lays a value per choice where the choices stand; `None` at empty ones."""
        laid: list[Any] = [None] * self.size
        for place, value in zip(self.places, values, strict=False):
            laid[place] = value
        return laid


def read_choices(rows: dict[str, list[Any]], columns: Sequence[str]) -> list[Choices]:
    """Reads the choices of a batch of rows.

    Args:
        rows: cells by column.
        columns: several columns of one choice each, or one of lists (`["a", "b"]`, `{"text": [...], "label": [...]}` or
            `[{"text": "a", "label": "A"}, ...]`).

    Raises:
        RowError: a cell is no list of choices.
    """
    if len(columns) > 1:
        return [_of_cells(list(cells), list(columns)) for cells in zip(*(rows[name] for name in columns), strict=True)]
    (column,) = columns
    made = []
    for row, cell in enumerate(rows[column]):
        try:
            made.append(_of_cells(*_listed(cell)))
        except (ValueError, TypeError) as error:
            raise RowError(row, f"column {column!r}: {error}") from None
    return made


def _of_cells(cells: list[Any], names: list[str] | None) -> Choices:
    places = [place for place, cell in enumerate(cells) if not is_missing(cell)]
    return Choices([str(cells[place]) for place in places], places, len(cells), names)


def _listed(cell: Any) -> tuple[list[Any], list[str] | None]:
    """Takes a cell of a list column apart: choices, and their names where they have some."""
    if cell is None:
        return [], None
    if isinstance(cell, (list, tuple)) and any(isinstance(each, dict) for each in cell):
        cell = {key: [each.get(key) for each in cell] for key in cell[0]}
    if isinstance(cell, (list, tuple)):
        return list(cell), None
    if not isinstance(cell, dict):
        raise ValueError(f"{cell!r} is no list of choices; name a column for each choice, or one of lists (json)")
    text, name = (next((key for key in keys if key in cell), None) for keys in (TEXT_KEYS, NAME_KEYS))
    if text is None:
        raise ValueError(f"the choices have {sorted(cell)}; expected 'text' and, if they have names, 'label'")
    if name is None:
        return list(cell[text]), None
    if len(cell[name]) != len(cell[text]):
        raise ValueError(f"{len(cell[text])} choices, but {len(cell[name])} labels of them")
    return list(cell[text]), [str(each).strip() for each in cell[name]]


def check_enough(choices: Sequence[Choices]) -> None:
    """Raises a `RowError` for the first row that leaves nothing to choose."""
    for row, each in enumerate(choices):
        if len(each.texts) < FEWEST:
            found = f"one choice only, {each.texts[0]!r}" if each.texts else "no choices"
            raise RowError(row, f"{found}: a row needs two or more; take it out, or fill in its choices")


@dataclass(frozen=True)
class ChoiceLabels:
    """Cells of the label column -> which choice is right.

    Args:
        column: name of the column.
        kind: what the cells hold: an `index`, a `letter` (A is the first), the `name` that the row (or the columns)
            gives its choices, or the choice's own `text`.
        first: number of the first choice, where cells hold an index.
    """

    column: str
    kind: LabelKind
    first: int = 0

    def place(self, cell: Any, choices: Choices) -> int | None:
        """Returns where the right choice stands among those of the row; `None` for no label.

        Raises:
            UserError: it is none of them.
        """
        if is_missing(cell) or (self.kind == "index" and _number(cell) == -1):
            return None
        place = _readings(cell, choices, self.first)[self.kind]
        if place is None:
            raise UserError(f"label {cell!r} is {self._expected(cell, choices)}")
        if place not in choices.places:
            raise UserError(f"label {cell!r} is choice {place + 1}, which is empty")
        return place

    def encode(self, cells: Sequence[Any], choices: Sequence[Choices], strict: bool) -> tuple[list[int], list[bool]]:
        """Encodes the labels of a batch of rows.

        Args:
            cells: of the label column.
            choices: of the same rows.
            strict: a label that is none of the choices is an error; else the row counts as one without a label.

        Returns:
            The number of the right choice among those that there are, -100 for no label; and which labels are unknown.

        Raises:
            RowError: a label is none of the choices.
        """
        labels, unknown = [], []
        for row, (cell, each) in enumerate(zip(cells, choices, strict=True)):
            try:
                place, lost = self.place(cell, each), False
            except UserError as error:
                if strict:
                    raise RowError(row, f"column {self.column!r}: {error}") from None
                place, lost = None, True
            labels.append(IGNORED if place is None else each.places.index(place))
            unknown.append(lost)
        return labels, unknown

    def chosen(self, cells: Sequence[Any], choices: Sequence[Choices]) -> list[str | None]:
        """Returns the text of the right choice of each row, by which rows are compared.

        A label that is none of the choices stands for itself; `None` = no label.
        """
        places = self.encode(cells, choices, strict=False)[0]
        return [
            each.texts[place] if place >= 0 else None if is_no_category(cell) else str(cell)
            for cell, each, place in zip(cells, choices, places, strict=True)
        ]

    def said(self, place: int, choices: Choices) -> Any:
        """Returns the choice at a place as the label column would say it."""
        if self.kind == "index":
            return place + self.first
        if self.kind == "letter":
            return ascii_uppercase[place] if place < len(ascii_uppercase) else str(place)
        if self.kind == "name" and choices.names is not None:
            return choices.names[place]
        return choices.texts[choices.places.index(place)]

    def _expected(self, cell: Any, choices: Choices) -> str:
        last = choices.size - 1
        if self.kind == "index":
            number = _number(cell)
            hint = "; do labels count from 1? then set first_label: 1" if number == choices.size else ""
            return f"not from {self.first} to {last + self.first}, the numbers of its {choices.size} choices{hint}"
        if self.kind == "letter":
            return f"not from A to {ascii_uppercase[min(last, 25)]}, the letters of its {choices.size} choices"
        known = choices.names or [] if self.kind == "name" else choices.texts
        return f"none of {known}{did_you_mean(str(cell), known)}"


def _number(cell: Any) -> int | None:
    """Reads a whole number, also from text."""
    if isinstance(cell, bool):
        return int(cell)
    if isinstance(cell, int):
        return cell
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() else None
    text = str(cell).strip()
    return int(text) if text.removeprefix("-").isdecimal() else None


def _readings(cell: Any, choices: Choices, first: int) -> dict[str, int | None]:
    """Returns the place that a cell names under each kind."""
    text, number = str(cell).strip(), _number(cell)
    letter = ascii_uppercase.find(text.upper()) if len(text) == 1 else -1
    return {
        "index": number - first if number is not None and 0 <= number - first < choices.size else None,
        "letter": letter if 0 <= letter < choices.size else None,
        "name": _position(text, choices.names or []),
        "text": next((choices.places[at] for at, each in enumerate(choices.texts) if each.strip() == text), None),
    }


def _position(name: str, names: list[str]) -> int | None:
    if name in names:
        return names.index(name)
    return next((at for at, each in enumerate(names) if each.lower() == name.lower()), None)


class LabelVotes:
    """Finds out what a label column holds: the reading that fits most of its cells.

    Args:
        column: name of the column.
        first: number of the first choice.
    """

    def __init__(self, column: str, first: int) -> None:
        self.column, self.first = column, first
        self.votes: Counter[str] = Counter()
        self.cells = 0
        self._example: Any = None

    def add(self, cells: Iterable[Any], choices: Iterable[Choices]) -> None:
        """Counts the readings of the labelled rows of a batch."""
        for cell, each in zip(cells, choices, strict=True):
            if is_no_category(cell):
                continue
            self.cells += 1
            self._example = cell
            self.votes.update(kind for kind, at in _readings(cell, each, self.first).items() if at is not None)

    def winner(self, place: str) -> LabelKind:
        """Returns the reading.

        Raises:
            UserError: there is no label, or none of them says which choice it means.
        """
        if not self.cells:
            raise UserError(f"{place}: no row has a label in column {self.column!r}: every cell is empty, null or -1")
        best = max(LABEL_KINDS, key=lambda kind: self.votes[kind])
        if not self.votes[best]:
            raise UserError(
                f"{place}: column {self.column!r} holds labels such as {self._example!r}, which are neither number, "
                "letter, name nor text of a choice; set label_column_name"
            )
        return best
