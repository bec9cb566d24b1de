"""Columns of features: plain arrays, or rows of different lengths in one flat array with offsets."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, laid end to end.

    Attributes:
        values: all rows, `[total]`.
        offsets: where each row begins, and the end of the last one, `[rows + 1]`.
    """

    values: Array
    offsets: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Array:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[Array]:
        return (self[row] for row in range(len(self)))

    def tolist(self) -> list[list[Any]]:
        """Returns the rows as lists."""
        return [row.tolist() for row in self]

    @property
    def lengths(self) -> Array:
        """Length of each row, `[rows]`."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]], dtype: npt.DTypeLike = np.int32) -> "Ragged":
        """Lays lists or arrays end to end."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.fromiter(chain.from_iterable(rows), dtype, int(lengths.sum())), offsets_of(lengths))

    def sums(self, of: Array) -> Array:
        """Sums `of`, `[total]`, over each row, `[rows]`."""
        running = np.concatenate([[0], np.cumsum(of)])
        return np.asarray(running[self.offsets[1:]] - running[self.offsets[:-1]])


Column = Array | Ragged


def offsets_of(lengths: Array) -> Array:
    """Returns the offsets of rows of these lengths, `[rows + 1]`."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def as_column(values: Any) -> Column:
    """Makes a column of what a task returns: an array, a `Ragged`, or a list of numbers or of lists of them.

    Raises:
        TypeError: lists are nested deeper than one level.
    """
    if isinstance(values, (Ragged, np.ndarray)):
        return values
    if not len(values) or not isinstance(values[0], (list, tuple, np.ndarray)):
        return np.asarray(values)
    parts = [np.asarray(row) for row in values]
    if any(part.ndim != 1 for part in parts):
        raise TypeError("features may be numbers or lists of numbers; flatten deeper lists and keep their lengths")
    flat = np.concatenate([part for part in parts if len(part)] or [np.zeros(0, np.int32)])
    offsets = offsets_of(np.array([len(part) for part in parts]))
    kinds = {"f": np.float32, "i": np.int32, "u": np.int32, "b": np.int32}
    return Ragged(flat.astype(kinds.get(flat.dtype.kind, flat.dtype)), offsets)


def concatenate(parts: Sequence[Column]) -> Column:
    """Lays columns of the same kind end to end."""
    if not isinstance(parts[0], Ragged):
        return np.concatenate(parts)  # type: ignore[arg-type]
    ragged = [part for part in parts if isinstance(part, Ragged)]
    lengths = np.concatenate([part.lengths for part in ragged])
    return Ragged(np.concatenate([part.values for part in ragged]), offsets_of(lengths))


def taken(column: Column, rows: Array) -> Column:
    """Returns some rows of a column, by number."""
    if not isinstance(column, Ragged):
        return np.asarray(column[rows])
    return rows_at(column.values, column.offsets[rows], column.lengths[rows])


def rows_at(values: Array, starts: Array, lengths: Array) -> Ragged:
    """Returns the rows that begin at `starts` in a flat array, in the order given; they may overlap."""
    offsets = offsets_of(lengths)
    if np.array_equal(starts[1:], starts[:-1] + lengths[:-1]):  # one after the other: nothing to gather
        first = int(starts[0]) if len(starts) else 0
        return Ragged(values[first : first + offsets[-1]], offsets)
    places = np.repeat(starts - offsets[:-1], lengths)
    places += np.arange(len(places))
    return Ragged(values[places], offsets)


def to_arrow(column: Column) -> pa.Array:
    """Hands a column to Arrow: `[rows]`, `[rows, n]` (fixed lists) or ragged (lists)."""
    if isinstance(column, Ragged):
        return pa.ListArray.from_arrays(pa.array(column.offsets.astype(np.int32)), pa.array(column.values))
    if column.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), column.shape[1])
    return pa.array(column)


def from_arrow(array: pa.Array) -> Column:
    """Views an Arrow array that `to_arrow` made, without copying."""
    if pa.types.is_fixed_size_list(array.type):
        return array.values.to_numpy(zero_copy_only=True).reshape(len(array), -1)  # type: ignore[no-any-return]
    if pa.types.is_list(array.type):
        return Ragged(array.values.to_numpy(zero_copy_only=True), array.offsets.to_numpy(zero_copy_only=True))
    return array.to_numpy(zero_copy_only=True)  # type: ignore[no-any-return]


def length_of(columns: Iterable[Column]) -> int:
    """Returns the number of rows of columns that belong together."""
    return len(next(iter(columns)))
