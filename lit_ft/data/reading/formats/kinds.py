"""The one kind of each column over the chunks of all files, and what stands in the way of there being one."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Features

from lit_ft.data.reading.formats.common import shorten
from lit_ft.data.reading.formats.numbers import Cells, combined, kind_of_cells
from lit_ft.data.reading.formats.rows import is_scalar
from lit_ft.errors import UserError


class MixedColumn(Exception):
    """A column holds scalars of several kinds, so that all of them have to be read as text."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


class FileKinds:
    """Sees all chunks of all files once and knows then what every column is.

    Args:
        as_text: columns that were found to be mixed before.
    """

    def __init__(self, as_text: frozenset[str]) -> None:
        self._as_text = as_text
        self._types: dict[str, pa.DataType] = {}  # of values that have a kind; cells of csv have none yet
        self._places: dict[str, dict[str, str]] = defaultdict(dict)  # first place of each kind, by column
        self._cells: dict[str, list[Cells]] = defaultdict(list)  # of each file
        self._columns: list[tuple[Path, list[str]]] = []
        self._named: dict[str, tuple[Any, Path]] = {}
        self._path, self._row = Path(), 0
        self._seen: dict[str, set[Cells]] = {}
        self._features: dict[str, Any] = {}

    def begin(self, path: Path) -> None:
        """The chunks of another file follow."""
        self._path, self._row, self._seen, self._features = path, 0, {}, {}

    def add(self, chunk: pa.Table, cells: bool) -> pa.Schema:
        """Takes in a chunk.

        Returns:
            The schema in which it can be kept: strings for cells, else the columns seen so far in their widest kinds.

        Raises:
            MixedColumn: a column has to be text.
            UserError: a column can be of no one kind.
        """
        for name, column in zip(chunk.column_names, chunk.columns, strict=True):
            if cells:
                known = self._seen.setdefault(name, set())
                if Cells.TEXT not in known:
                    known.add(kind_of_cells(column))
            else:
                self._seen.setdefault(name, set())
                self._widen(name, column)
        if not self._features and chunk.schema.metadata and b"huggingface" in chunk.schema.metadata:
            self._features = self._read_features(chunk.schema)
        self._row += len(chunk)
        return chunk.schema.remove_metadata() if cells else pa.schema(list(self._types.items()))

    def end(self) -> None:
        """The file is read.

        Raises:
            UserError: its columns, or the names of its labels, are others than those of the first file.
        """
        columns = list(self._seen)
        self._columns.append((self._path, columns))
        first, wanted = self._columns[0]
        if set(columns) != set(wanted):
            raise UserError(f"{self._path} has columns {columns}, but {first} has {wanted}")
        for name, kinds in self._seen.items():
            if kinds:
                self._cells[name].append(combined(kinds))
            self._agree_on_labels(name)

    def features(self) -> Features:
        """Returns the features of the whole.

        Raises:
            MixedColumn: a column has to be text.
            UserError: a column can be of no one kind, or of one that `datasets` does not have.
        """
        types = {name: self._type(name) for name in self._columns[0][1]}
        try:
            features = Features.from_arrow_schema(pa.schema(list(types.items())))
        except (ValueError, NotImplementedError) as error:
            raise UserError(f"{self._columns[0][0]}: a column of a kind that cannot be used ({error})") from None
        kept = {name: feature for name, (feature, _) in self._named.items() if feature is not None}
        return Features({**features, **kept})

    def empty_columns(self) -> set[str]:
        """Returns the columns of csv and tsv in which no file has anything."""
        return {name for name, kinds in self._cells.items() if max(kinds) == Cells.EMPTY}

    def _read_features(self, schema: pa.Schema) -> dict[str, Any]:
        try:
            return dict(Features.from_arrow_schema(schema))
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
            raise UserError(f"{self._path}: what `datasets` wrote of its features cannot be read ({error})") from None

    def _widen(self, name: str, column: pa.ChunkedArray) -> None:
        new, old = column.type, self._types.get(name)
        if column.null_count == len(column):  # nothing in it says what it is
            self._types.setdefault(name, new)
            return
        if not self._places[name]:
            old = None
        if str(new) not in self._places[name]:
            row = self._row + 1 + next(number for number, value in enumerate(column) if value.is_valid)
            self._places[name][str(new)] = f"{self._path}, row {row}"
        self._types[name] = new if old is None else self._common(name, old, new)

    def _common(self, name: str, one: pa.DataType, other: pa.DataType) -> pa.DataType:
        schemas = [pa.schema({name: one}), pa.schema({name: other})]
        try:
            return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            if is_scalar(one) and is_scalar(other) and name not in self._as_text:
                raise MixedColumn(name) from None
        found = [f"{kind} ({place})" for kind, place in self._places[name].items()]
        if name in self._cells:
            found.append(f"{max(self._cells[name]).type} (cells of csv or tsv)")
        raise UserError(f"column {name!r} mixes values of kinds {', '.join(found)}; make it one kind")

    def _type(self, name: str) -> pa.DataType:
        kinds, typed = self._cells.get(name), self._types.get(name)
        if kinds is None:
            return typed
        cells = max(kinds)
        if typed is None or not self._places[name]:
            return cells.type
        if pa.types.is_string(typed) or pa.types.is_large_string(typed):
            return typed  # cells are kept as they are written
        return typed if cells is Cells.EMPTY else self._common(name, typed, cells.type)

    def _agree_on_labels(self, name: str) -> None:
        feature = self._features.get(name)
        if len(self._columns) == 1:
            self._named[name] = (feature, self._path)
            return
        other, path = self._named[name]
        if _label_names(feature) != _label_names(other):
            raise UserError(
                f"column {name!r} has {_said(feature)} in {self._path}, but {_said(other)} in {path}: "
                "the same number would stand for another label; write both with the same names in the same order"
            )
        if feature != other:
            self._named[name] = (None, path)


def _label_names(feature: Any) -> list[str] | None:
    while not isinstance(feature, ClassLabel) and hasattr(feature, "feature"):
        feature = feature.feature
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def _said(feature: Any) -> str:
    names = _label_names(feature)
    return "no label names" if names is None else f"the label names {shorten(names, 200)}"
