"""What the labels of a data set are: problem type and names, from the training rows or from a head that knows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lit_ft.data.columns import check_columns
from lit_ft.data.labels import (
    LabelEncoder,
    LabelReader,
    ProblemType,
    align_with_checkpoint,
    are_generic,
    class_names,
    count_labels,
    infer_problem_type,
    is_multi_hot,
    sorted_names,
)
from lit_ft.data.raw import RawRows
from lit_ft.errors import UserError

Description = dict[str, Any]


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

    def describe(self, rows: RawRows, given: list[str] | None, fixed: bool, notes: list[str]) -> Description:
        """Describes the labels of training rows.

        Args:
            rows: the rows; names are looked for in those that a cap leaves out, too.
            given: label names of a head that is there already.
            fixed: the head's labels are the only ones possible (a checkpoint of ours, or `labels=`).
            notes: what is guessed is added here.

        Returns:
            `problem_type`, `labels`, `multi_hot`, `label_counts` and `num_train_rows`.

        Raises:
            UserError: the labels cannot be read, are all one, or do not fit the head.
        """
        whole = RawRows(rows.uncut, rows.place)
        check_columns(self.columns, whole.data.column_names, rows.place)
        columns = {name: whole.data[name][:] for name in self.columns}
        try:
            kind = self.problem_type or infer_problem_type(columns, whole.data.features, self.delimiter)
        except UserError as error:
            raise UserError(f"{rows.place}: {error}") from None
        if self.problem_type is None:
            notes.append(f"{rows.place}: labels read as {kind}")
        names_of_ids = self.names or class_names(whole.data.features, self.columns[0])
        multi_hot = self.holds_vectors(kind, columns[self.columns[0]], names_of_ids)
        found: Description = {"problem_type": kind, "multi_hot": multi_hot}
        reader = self._reader(whole, found)
        labels = reader.read(columns)
        names = sorted_names(labels, reader)
        if kind == "single_label" and len(names) < 2:
            raise UserError(
                f"{rows.place}: column {self.columns[0]!r} has one label only ({names}); two or more are needed"
            )
        if given and kind != "regression":
            names = _aligned(names, given, rows.place, fixed, notes)
        found["labels"] = names
        self._encode(labels, found, whole)  # names the row of a label that is none of the names
        if rows.kept is not None:
            labels = [labels[row] for row in rows.kept]
        return {**found, "label_counts": count_labels(labels, found), "num_train_rows": len(labels)}

    def holds_vectors(self, kind: str, cells: Sequence[Any], names: list[str] | None) -> bool:
        """Says whether the one column of a multi-label set holds 0/1 vectors."""
        return kind == "multi_label" and len(self.columns) == 1 and is_multi_hot(cells, names)

    def encode(self, rows: RawRows, description: Description, required: bool, notes: list[str]) -> list[Any]:
        """Returns the rows' labels as the loss takes them.

        Args:
            rows: rows that have the columns.
            description: what `describe` returned.
            required: every row must have a label (training).
            notes: rows without one are counted here.

        Raises:
            UserError: a label is unknown or missing where it must not be (file and row named).
        """
        labels = self._reader(rows, description).read({name: rows.data[name][:] for name in self.columns})
        missing = [rows.number(row) for row, label in enumerate(labels) if label is None]
        counted = f"{rows.place}: {len(missing)} of {len(labels)} rows have no label (empty, null or -1)"
        if missing and required:
            raise UserError(f"{counted}, the first is row {missing[0]}; label them or take them out")
        if len(missing) == len(labels):
            raise UserError(f"{rows.place}: no row has a label, so there is nothing to score; use predict")
        if missing:
            notes.append(f"{counted} and are not scored")
        return self._encode(labels, description, rows)

    def _encode(self, labels: list[Any], description: Description, rows: RawRows) -> list[Any]:
        encoder = LabelEncoder(description)
        encoded = []
        for row, label in enumerate(labels):
            try:
                encoded.append(encoder.encode(label))
            except UserError as error:
                raise UserError(f"{rows.place}: row {rows.number(row)}, column {self.columns}: {error}") from None
        return encoded

    def _reader(self, rows: RawRows, description: Description) -> LabelReader:
        return LabelReader(
            columns=self.columns,
            features=rows.data.features,
            problem_type=description["problem_type"],
            names=self.names,
            delimiter=self.delimiter,
            multi_hot=description["multi_hot"],
            place=rows.place,
            number=rows.number,
        )


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
