"""What the labels of a data set are: problem type and names, from the training rows or from a head that knows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_ft.data.features.ragged import Array
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.labels import (
    LabelEncoder,
    LabelReader,
    ProblemType,
    align_with_checkpoint,
    are_generic,
    class_names,
    infer_problem_type,
    is_multi_hot,
    names_not_streamed,
    sorted_names,
)
from lit_ft.data.reading.columns import check_columns
from lit_ft.data.reading.raw import RawRows
from lit_ft.errors import RowError, UserError

Description = dict[str, Any]

MOST_BYTES = 1 << 35
"""Of multi-label targets, which are stored as vectors."""
MOST = 100_000
"""Different cells that are looked at; a column of numbers may have more."""


@dataclass(frozen=True)
class LabelColumns:
    """The label columns and how a user says they are to be read.

    Args:
        columns: names of the columns.
        problem_type: `None` = read it off the labels.
        names: label names in the order of their ids, for columns that hold ids.
        delimiter: what separates the labels in one string cell.
    """

    columns: list[str]
    problem_type: ProblemType | None
    names: list[str] | None
    delimiter: str | None

    def describe(self, sets: Sequence[RawRows], given: list[str] | None, fixed: bool, notes: list[str]) -> Description:
        """Describes the labels of training rows.

        Args:
            sets: the rows, of one source or several; names are looked for in those that a cap leaves out, too.
            given: label names of a head that is there already.
            fixed: the head's labels are the only ones possible (a checkpoint of ours, or `label_names=`).
            notes: what is guessed is added here.

        Returns:
            `problem_type`, `labels` and `multi_hot`.

        Raises:
            UserError: the labels cannot be read, are all one, or do not fit the head.
        """
        wholes = [RawRows(rows.uncut, rows.place, rows.parts) for rows in sets]
        for whole in wholes:
            check_columns(self.columns, whole.data.column_names, whole.place)
        place = wholes[0].place
        cells = DistinctCells(self.columns, wholes)
        if not cells.rows:
            raise UserError(f"{place}: no row has a label in column {self.columns[0]!r}: every cell is empty or null")
        kind = self.problem_type or self.infer(wholes, cells)
        if self.problem_type is None:
            notes.append(f"{place}: labels read as {kind}")
        own_names = self.own_names(wholes)
        multi_hot = self.holds_vectors(kind, cells.columns[self.columns[0]], own_names)
        reader = LabelReader(self.columns, kind, own_names, self.delimiter, multi_hot)
        try:
            labels: list[Any] = reader.read(cells.columns)
        except RowError as error:
            raise error.at(cells.where) from None
        more = [] if cells.complete or kind == "regression" else _names_of_all(reader, wholes)
        names = sorted_names([*labels, more] if kind == "multi_label" else [*labels, *more], reader)
        if kind == "single_label" and len(names) < 2:
            raise UserError(f"{place}: column {self.columns[0]!r} has one label only ({names}); two or more are needed")
        if given and kind != "regression":
            names = _aligned(names, given, place, fixed, notes)
        size = sum(len(rows.data) for rows in sets) * len(names) * 4
        if kind == "multi_label" and size > MOST_BYTES:
            raise UserError(
                f"{place}: {len(names):,} labels make vectors of {size / 1e9:.0f} GB for these rows: keep fewer, "
                "or set problem_type to single_label if a row has one"
            )
        encoder = LabelEncoder({"problem_type": kind, "labels": names})
        for number, label in enumerate(labels):  # names the row of a label that is none of the names
            try:
                encoder.encode(label)
            except UserError as error:
                raise UserError(f"{cells.where(number)}, column {self.columns}: {error}") from None
        return {"problem_type": kind, "multi_hot": multi_hot, "labels": names}

    def describe_known(self, sets: Sequence[RawRows], given: list[str], kind: str) -> Description:
        """Describes the labels of a head that is there, where there are no training rows.

        Args:
            sets: rows to score, if there are any.
            given: the head's labels.
            kind: its problem type.
        """
        cells = DistinctCells(self.columns[:1], sets).columns[self.columns[0]] if self.columns else []
        return {"labels": given, "problem_type": kind, "multi_hot": self.holds_vectors(kind, cells, given)}

    def check_streamed(self, first_rows: Sequence[RawRows], given: list[str] | None) -> None:
        """Makes sure that names are known without reading all rows.

        Args:
            first_rows: of the stream.
            given: label names of a head that is there already.

        Raises:
            UserError: they are not.
        """
        if given or len(self.columns) > 1 or self.own_names(first_rows):
            return
        if (self.problem_type or self.infer(first_rows)) != "regression":
            raise names_not_streamed(first_rows[0].place, "labels")

    def infer(self, sets: Sequence[RawRows], cells: "DistinctCells | None" = None) -> ProblemType:
        """Reads the problem type off the labels.

        Raises:
            UserError: they allow two readings.
        """
        cells = cells or DistinctCells(self.columns, sets)
        try:
            return infer_problem_type(cells.columns, sets[0].data.features, self.delimiter, cells.rows)
        except UserError as error:
            raise UserError(f"{sets[0].place}: {error}") from None

    def own_names(self, sets: Sequence[RawRows]) -> list[str] | None:
        """Returns the names as given, or those that a ClassLabel column carries, of whichever set has them."""
        if self.names or len(self.columns) > 1:
            return self.names
        found = [names for rows in sets if (names := class_names(rows.data.features, self.columns[0]))]
        # ids of other sets are meant in the first order; names that only a later one has come behind
        return list(dict.fromkeys(name for names in found for name in names)) or None

    def holds_vectors(self, kind: str, cells: Sequence[Any], names: list[str] | None) -> bool:
        """Says whether the one column of a multi-label set holds 0/1 vectors."""
        return kind == "multi_label" and len(self.columns) == 1 and is_multi_hot(cells, names)

    def coder(self, description: Description) -> "LabelCoder":
        """Returns what turns cells into what the loss takes, under a description that `describe` returned."""
        reader = LabelReader(
            self.columns, description["problem_type"], self.names, self.delimiter, description["multi_hot"]
        )
        return LabelCoder(reader, LabelEncoder(description))


def _names_of_all(reader: LabelReader, sets: Sequence[RawRows]) -> list[str]:
    """Collects the names of all rows, where their different combinations are too many to be looked at."""
    found: set[str] = set()
    for rows in sets:
        for labels in rows.read(reader.read, reader.columns):
            for label in labels:
                found.update([label] if isinstance(label, str) else label or [])
            if len(found) > MOST:
                raise UserError(f"{rows.place}: column {reader.columns[0]!r} has more than {MOST:,} different labels")
    return list(found)


class DistinctCells:
    """Every different cell (or row of cells) of the label columns once, at most `MOST`, in order of appearance.

    Args:
        names: the label columns.
        sets: the rows.

    Attributes:
        columns: the cells by column.
        rows: how many rows have a cell.
        complete: there are no more than those.
    """

    def __init__(self, names: list[str], sets: Sequence[RawRows]) -> None:
        self.complete, self.rows = True, 0
        self._places: list[tuple[RawRows, int]] = []
        found: dict[Any, tuple[Any, ...]] = {}
        for rows in sets:
            first = 0
            for batch in rows.batches(names):
                cells = list(zip(*(batch[name] for name in names), strict=True))
                for number, cell in enumerate(cells):
                    key = _key(cell)
                    if key in found:
                        continue
                    if len(found) == MOST:
                        self.complete = False
                        break
                    found[key] = cell
                    self._places.append((rows, first + number))
                self.rows += sum(any(value not in (None, "") for value in cell) for cell in cells)
                first += len(cells)
        self.columns = {name: [cell[place] for cell in found.values()] for place, name in enumerate(names)}

    def where(self, number: int) -> str:
        """Names the first row that has a cell."""
        rows, row = self._places[number]
        return rows.where(row)


def _key(cell: Any) -> Any:
    if isinstance(cell, (list, tuple)):
        return tuple(map(_key, cell))
    return (type(cell), None if cell != cell else cell)  # NaN differs from itself


class LabelCoder:
    """Cells of the label columns -> what the loss takes, a batch at a time.

    Args:
        reader: reads the cells.
        encoder: knows the names.
    """

    def __init__(self, reader: LabelReader, encoder: LabelEncoder) -> None:
        self.reader, self.encoder = reader, encoder

    def read(self, cells: dict[str, list[Any]]) -> list[Any]:
        """Returns one canonical label per row, `None` for no label; see `LabelReader.read`."""
        return self.reader.read({name: cells[name] for name in self.reader.columns})

    def encode(self, labels: list[Any], strict: bool) -> tuple[Array, Array]:
        """Encodes canonical labels.

        Args:
            labels: what `read` returned.
            strict: a label that is none of the names is an error; else the row counts as one without a label.

        Returns:
            Ids `[rows]` int64, or vectors `[rows, labels]` float32; and which rows have an unknown label, `[rows]`.

        Raises:
            RowError: a label is unknown.
        """
        if self.encoder.problem_type == "multi_label":
            return self._vectors(labels, strict)
        unknown = np.zeros(len(labels), bool)
        known: dict[str, Any] = {}  # of single labels: few, and the same ones again and again
        encoded = []
        for row, label in enumerate(labels):
            value = known.get(label) if isinstance(label, str) else None
            if value is None:
                try:
                    value = self.encoder.encode(label)
                except UserError as error:
                    if strict:
                        raise RowError(row, f"column {self.reader.columns}: {error}") from None
                    unknown[row], value = True, self.encoder.encode(None)
                else:
                    if isinstance(label, str):
                        known[label] = value
            encoded.append(value)
        return np.array(encoded, np.int64 if self.encoder.problem_type == "single_label" else np.float32), unknown

    def _vectors(self, labels: list[Any], strict: bool) -> tuple[Array, Array]:
        """Encodes lists of names; without a Python number for each label that a row does not have."""
        vectors = np.zeros((len(labels), len(self.encoder.names)), np.float32)
        unknown = np.zeros(len(labels), bool)
        for row, names in enumerate(labels):
            if names is None:
                vectors[row] = np.nan
                continue
            try:
                vectors[row, [self.encoder.id_of(name) for name in names]] = 1
            except UserError as error:
                if strict:
                    raise RowError(row, f"column {self.reader.columns}: {error}") from None
                unknown[row], vectors[row] = True, np.nan
        return vectors, unknown


def numbered_labels(rows: RawRows, columns: list[str]) -> Array | None:
    """Numbers the labels of each row as they appear, `[rows]`; `None` where they are too many to be strata."""
    numbers: dict[Any, int] = {}
    found = np.empty(len(rows), np.int64)
    first = 0
    for batch in rows.batches(columns):
        cells = list(zip(*(batch[name] for name in columns), strict=True))
        found[first : first + len(cells)] = [numbers.setdefault(_key(cell), len(numbers)) for cell in cells]
        first += len(cells)
        if len(numbers) > min(MOST, len(rows) / 2):
            return None
    return found


def count_labels(labels: Array, description: Description, total: Description) -> None:
    """Counts the rows of each label in the order of the ids, of encoded labels.

    Args:
        labels: what `LabelCoder.encode` returned, one per row.
        description: what `LabelColumns.describe` returned.
        total: `label_counts` (empty for regression) and `num_train_rows` are added up here.
    """
    kind, names = description["problem_type"], description["labels"]
    if kind == "regression":
        counts = []
    elif kind == "single_label":
        counts = np.bincount(labels[labels >= 0], minlength=len(names)).tolist()
    else:
        counts = np.nansum(labels, axis=0).astype(int).tolist()
    before = total.get("label_counts", [0] * len(counts))
    total["label_counts"] = [one + other for one, other in zip(before, counts, strict=True)]
    total["num_train_rows"] = total.get("num_train_rows", 0) + len(labels)


def count_labelled_rows(stores: Sequence[FeatureStore], description: Description) -> Description:
    """Counts the rows of each label in prepared sets; see `count_labels`."""
    total: Description = {}
    for store in stores:
        last = -1
        for row, labels in store.parts("row", "labels"):
            begins = np.diff(row, prepend=last) > 0  # the windows of a row count once
            last = row[-1] if len(row) else last
            count_labels(labels[begins], description, total)
    return total


def rows_by_label(store: FeatureStore, description: Description) -> dict[str, int]:
    """Counts the rows of each label by its name; empty where rows have no labels, or numbers."""
    if "labels" not in store.column_names or description["problem_type"] == "regression":
        return {}
    counts = count_labelled_rows([store], description)["label_counts"]
    return dict(zip(description["labels"], counts, strict=True))


def label_name(label: Array, description: Description) -> str | None:
    """Returns an encoded label as people write it: a name, several, or a number; `None` where there is none.

    Args:
        label: as `LabelCoder.encode` returned it, of one row.
        description: what `LabelColumns.describe` returned.
    """
    kind, names = description["problem_type"], description["labels"]
    if kind == "single_label":
        return names[int(label)] if label >= 0 else None
    if np.isnan(label).any():
        return None
    if kind == "regression":
        return ", ".join(f"{number:g}" for number in np.atleast_1d(label))
    return ", ".join(name for name, there in zip(names, label, strict=True) if there) or "none"


def _aligned(names: list[str], given: list[str], place: str, fixed: bool, notes: list[str]) -> list[str]:
    """Returns the names in the order of the head's ids where they are the same labels."""
    if are_generic(given) and len(given) == len(names):
        return given if fixed else names
    aligned = align_with_checkpoint(names, given)
    if aligned is not None:
        return aligned
    if fixed:
        raise UserError(f"{place}: the labels {names} are not the model's labels {given}")
    kept = "; the head keeps its pretrained weights under these new names" if len(names) == len(given) else ""
    notes.append(f"{place}: the labels {names} are not those of the pretrained head, {given}{kept}")
    return names
