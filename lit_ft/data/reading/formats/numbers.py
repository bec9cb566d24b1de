"""Which columns of text cells are numbers, found chunk by chunk, and the numbers they are."""

from collections.abc import Iterable
from enum import IntEnum

import pyarrow as pa
import pyarrow.compute as pc


class Cells(IntEnum):
    """What the cells of a column are, the narrower first; the widest of its chunks is the column's."""

    EMPTY = 0
    INTEGER = 1
    DECIMAL = 2
    TEXT = 3

    @property
    def type(self) -> pa.DataType:
        """The kind of the column that loses nothing."""
        return {Cells.INTEGER: pa.int64(), Cells.DECIMAL: pa.float64()}.get(self, pa.string())


_INTEGER = r"^(0|-?[1-9]\d{0,17})$"
# "1.50" stays text: it may be a version or a price, to be written as it stood
_DECIMAL = r"^-?(0|[1-9]\d{0,14})(\.\d{1,20})?([eE][+-]?\d{1,2})?$"


def kind_of_cells(column: pa.ChunkedArray) -> Cells:
    """Says whether cells, empty ones null, can be numbers without any loss (`007` cannot)."""
    values = column.drop_null()
    if not len(values):
        return Cells.EMPTY
    if pc.all(pc.match_substring_regex(values, _INTEGER)).as_py():
        return Cells.INTEGER
    is_number = pc.all(pc.match_substring_regex(values, _DECIMAL)).as_py()
    return (
        Cells.DECIMAL if is_number and all(repr(float(value)) == value for value in values.to_pylist()) else Cells.TEXT
    )


def combined(kinds: Iterable[Cells]) -> Cells:
    """Returns the kind of a column of one file from those of its chunks; whole numbers among decimals stay text."""
    found = set(kinds) - {Cells.EMPTY}
    if found == {Cells.INTEGER, Cells.DECIMAL}:
        return Cells.TEXT
    return max(found, default=Cells.EMPTY)
