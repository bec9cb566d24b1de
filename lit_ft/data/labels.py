"""Label columns -> class ids, multi-hot vectors or numbers, by a description that names every class once."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from datasets import ClassLabel, Features
from datasets import Sequence as SequenceFeature

from lit_ft.errors import RowError, UserError, did_you_mean

ProblemType = Literal["single_label", "multi_label", "regression"]
IGNORED = -100
"""The class id of a row without a label, as in every transformers loss; labels that are numbers are NaN instead."""

Cell = Any


def is_missing(cell: Cell) -> bool:
    """Says whether a cell holds nothing: null, NaN or blanks."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def is_no_category(cell: Cell) -> bool:
    """Says whether a cell names no category: there is nothing, or -1, as many sets say it, also as text."""
    return is_missing(cell) or str(cell).strip() in ("-1", "-1.0")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts `2` before `10` and `item9` before `item10`."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def class_names(features: Features, column: str) -> list[str] | None:
    """Returns the names that a ClassLabel column (or a list of them) carries, else nothing."""
    feature = features.get(column)
    inner = getattr(feature, "feature", feature)
    return list(inner.names) if isinstance(inner, ClassLabel) and inner.names else None


def names_not_streamed(place: str, what: str) -> UserError:
    """Returns the error that labels, or tags, of a stream have no names."""
    return UserError(
        f"{place}: streaming does not read all rows in advance, so their {what} are not known: set label_names"
    )


def is_list_column(features: Features, column: str) -> bool:
    """Says whether each cell of the column is a list."""
    return isinstance(features.get(column), (SequenceFeature, list)) or hasattr(features.get(column), "feature")


def infer_problem_type(
    columns: Mapping[str, Sequence[Cell]], features: Features, delimiter: str | None, rows: int | None = None
) -> ProblemType:
    """Reads the problem type off the label columns.

    Lists, delimited strings and several 0/1 columns are `multi_label`, numbers with fractions `regression`,
    everything else `single_label`.

    Args:
        columns: cells of each label column, each different one at least once.
        features: the data set's features.
        delimiter: what separates the labels of a string cell.
        rows: how many rows the cells stand for; `None` = one each.

    Raises:
        UserError: the values allow two readings.
    """
    if len(columns) > 1:
        distinct = {value for column in columns.values() for value in column if not is_missing(value)}
        return "multi_label" if distinct <= {0, 1} else "regression"
    ((name, values),) = columns.items()
    if delimiter is not None or is_list_column(features, name):
        return "multi_label"
    present = _numbers([value for value in values if not is_missing(value)])
    if present and all(isinstance(value, float) for value in present):
        if all(value.is_integer() for value in present):
            raise UserError(
                f"column {name!r} holds floats without fractions (such as {present[0]}): "
                "set problem_type to single_label or regression"
            )
        return "regression"
    different, rows = len(set(map(str, present))), rows or len(present)
    if rows > 100 and different > rows / 2 and class_names(features, name) is None:
        raise UserError(
            f"column {name!r} has {different} different values in {rows} rows: is it the "
            "label? If so, set problem_type; else set label_column_name"
        )
    return "single_label"


def _numbers(values: list[Cell]) -> list[Cell]:
    """Reads text such as `2.50` as numbers where all of it is; readers keep it as text, so that no digit is lost."""
    number = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
    if any(not isinstance(value, str) or not number.fullmatch(value.strip()) for value in values):
        return values
    return [float(value) for value in values] if any("." in value for value in values) else values


class LabelReader:
    """Reads the labels of one split's rows under a problem type.

    Args:
        columns: names of the label columns.
        problem_type: `single_label`, `multi_label` or `regression`.
        names: label names in the order of their ids, for columns that hold ids.
        delimiter: what separates the labels of a string cell (multi-label).
        multi_hot: the lists are 0/1 vectors, not names or ids.
    """

    def __init__(
        self,
        columns: list[str],
        problem_type: ProblemType,
        names: list[str] | None,
        delimiter: str | None,
        multi_hot: bool,
    ) -> None:
        self.columns, self.problem_type, self.names = columns, problem_type, names
        self.delimiter, self.multi_hot = delimiter, multi_hot
        if len(columns) > 1 and names and len(names) != len(columns):
            raise UserError(f"label_names gives {len(names)} names for {len(columns)} label columns: {columns}")

    def read(self, columns: Mapping[str, Sequence[Cell]]) -> list[Any]:
        """Returns one canonical label per row: a name, a list of names, a list of numbers, or `None` for no label.

        Raises:
            RowError: a value does not fit the problem type.
        """
        cells = list(zip(*(columns[name] for name in self.columns), strict=True))
        convert = {"single_label": self._single, "multi_label": self._multi, "regression": self._numbers}[
            self.problem_type
        ]
        labels = []
        known: dict[Any, Any] = {}  # the same few labels again and again
        for row, cell in enumerate(cells):
            memorable = type(cell[0]) in (str, int) and len(cell) == 1  # 1 and True are equal, but not the same label
            if memorable and cell in known:
                labels.append(known[cell])
                continue
            try:
                labels.append(convert(cell))
                if memorable:
                    known[cell] = labels[-1]
            except (ValueError, TypeError, IndexError) as error:
                raise RowError(row, f"column {self.columns}: {error}") from None
        return labels

    def _single(self, cell: tuple[Cell, ...]) -> str | None:
        value = cell[0]
        if isinstance(value, (list, tuple)):
            raise ValueError(f"{value} is a list, but problem_type is single_label (multi_label takes lists)")
        return self._name(value)

    def _multi(self, cell: tuple[Cell, ...]) -> list[str] | None:
        if len(self.columns) > 1:
            if all(is_missing(value) for value in cell):
                return None
            if not set(cell) <= {0, 1}:
                raise ValueError(f"{list(cell)}: several label columns must hold 0 or 1")
            return [name for name, value in zip(self.names or self.columns, cell, strict=True) if value]
        value = cell[0]
        if isinstance(value, str) and self.delimiter is None:
            raise ValueError(f"{value!r} is one string, but problem_type is multi_label: set label_delimiter")
        if isinstance(value, str):
            value = [part.strip() for part in value.split(self.delimiter) if part.strip()]
        if is_missing(value):
            return None
        if isinstance(value, int) and self.delimiter is not None:  # a delimited column with one id in each of its rows
            value = [value]
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{value!r} is no list of labels, but problem_type is multi_label")
        if self.multi_hot:
            self.names = self.names or [str(position) for position in range(len(value))]
            value = [position for position, flag in enumerate(value) if flag]
        return [name for name in map(self._name, value) if name is not None]

    def _numbers(self, cell: tuple[Cell, ...]) -> list[float] | None:
        flat = cell[0] if len(cell) == 1 and isinstance(cell[0], (list, tuple)) else cell
        if any(is_missing(value) for value in flat):
            return None
        numbers = []
        for value in flat:
            try:
                numbers.append(float(value))
            except (TypeError, ValueError):
                raise ValueError(f"{value!r} is no number, but problem_type is regression") from None
        return numbers

    def _name(self, value: Cell) -> str | None:
        if is_missing(value):
            return None
        if isinstance(value, bool):
            name = str(value).lower()
            known = self.names is None or name in map(str.lower, self.names)
            return name if known else self._name(int(value))
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, float):
            raise ValueError(f"{value} is a number with a fraction, but problem_type is {self.problem_type}")
        if value == -1:  # as text it is a name, as it is in models that were trained before
            return None
        if self.names is not None and value not in self.names and str(value).isdecimal():
            if int(value) >= len(self.names):
                raise ValueError(f"label id {value}, but there are only {len(self.names)} label names")
            return self.names[int(value)]
        return str(value).strip()


def is_multi_hot(cells: Sequence[Cell], names: list[str] | None = None) -> bool:
    """Says whether lists are 0/1 vectors of one length, that of the names where these are known.

    Lists of ids repeat no id, so that lists of three or more are no ids; two-element ones would say that every row
    has both labels.
    """
    rows = [cell for cell in cells if isinstance(cell, (list, tuple))]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return False
    if names is not None and len(names) != len(rows[0]):
        return False
    return all(isinstance(value, (int, float)) and value in (0, 1) for row in rows for value in row)


def sorted_names(labels: Iterable[Any], reader: LabelReader) -> list[str]:
    """Returns every label's name in the order of the ids: as given, as the columns stand, else in natural order."""
    if reader.names is not None:
        return list(reader.names)
    if reader.problem_type == "regression" and len(reader.columns) == 1:
        targets = next((len(label) for label in labels if label is not None), 1)
        return reader.columns if targets == 1 else [f"{reader.columns[0]}_{number}" for number in range(targets)]
    if len(reader.columns) > 1:
        return list(reader.columns)
    found: set[str] = set()
    for label in labels:
        found.update([label] if isinstance(label, str) else label or [])
    # the name itself decides between `1` and `01`: the order of a set differs from process to process
    return sorted(found, key=lambda name: (natural_key(name), name))


def align_with_checkpoint(names: list[str], checkpoint: list[str]) -> list[str] | None:
    """Returns the checkpoint's names when the data's labels are among them (in any case) or are their ids."""
    if {name.lower() for name in names} <= {name.lower() for name in checkpoint}:
        return checkpoint
    if not _has_numbers(checkpoint) and all(name.isdecimal() and int(name) < len(checkpoint) for name in names):
        return checkpoint
    return None


class LabelEncoder:
    """Canonical labels -> what the loss takes, by the names in a description.

    Args:
        description: `{"problem_type": ..., "labels": [...]}`.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        self.problem_type: ProblemType = description["problem_type"]
        self.names: list[str] = description["labels"]
        self.ids = {name.lower(): number for number, name in enumerate(self.names)}
        self.ids.update({name: number for number, name in enumerate(self.names)})

    def encode(self, label: Any) -> int | list[float]:
        """Returns an id (single), a multi-hot vector `[labels]` or numbers `[targets]`; -100 or NaN for `None`.

        Raises:
            UserError: the label is none of the names.
        """
        if self.problem_type == "single_label":
            return IGNORED if label is None else self.id_of(label)
        if label is None:
            return [math.nan] * len(self.names)
        if self.problem_type == "regression":
            if len(label) != len(self.names):
                raise UserError(f"{len(label)} numbers, but there are {len(self.names)} targets: {_some(self.names)}")
            return list(label)
        vector = [0.0] * len(self.names)
        for name in label:
            vector[self.id_of(name)] = 1.0
        return vector

    def id_of(self, name: str) -> int:
        """Returns the id of a name.

        Raises:
            UserError: it is none of the names.
        """
        number = self.ids.get(name, self.ids.get(name.lower()))
        if number is None and not _has_numbers(self.names) and name.isdecimal() and int(name) < len(self.names):
            number = int(name)
        if number is None:
            raise UserError(f"label {name!r} is unknown; labels: {_some(self.names)}{did_you_mean(name, self.names)}")
        return number


def _has_numbers(names: list[str]) -> bool:
    """Says whether a number can be a name, and so must not be read as an id."""
    return any(name.isdecimal() for name in names)


def _some(names: list[str]) -> str:
    return str(names) if len(names) <= 20 else f"{names[:20]} and {len(names) - 20} more"


def are_generic(names: Iterable[str]) -> bool:
    """Says whether label names are the placeholders `LABEL_0`, `LABEL_1`, ..."""
    return all(re.fullmatch(r"LABEL_\d+", name) for name in names)
