"""Texts, and what is known of them -> numbers: the same for the same text or label, and scores as they are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from lit_ft.data.features.ragged import Array
from lit_ft.data.label_description import DistinctCells
from lit_ft.data.labels import IGNORED, is_missing, is_no_category, natural_key
from lit_ft.data.reading.raw import RawRows
from lit_ft.errors import RowError

MOST_NAMES = 1000
"""Labels whose names are kept, for people to look at; of more there are only numbers."""


def number_of(text: str) -> int:
    """Returns a number that is the same for the same text, everywhere."""
    return xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) >> 1


def label_numbers(cells: Sequence[Any]) -> Array:
    """Returns the number of each label, `[rows]` int64; -100 = there is none."""
    return np.array([IGNORED if is_no_category(cell) else number_of(str(cell)) for cell in cells], np.int64)


def scores(cells: Sequence[Any], column: str) -> Array:
    """Returns the scores, `[rows]` float32; NaN = there is none.

    Raises:
        RowError: a cell is no number.
    """
    found = np.empty(len(cells), np.float32)
    for row, cell in enumerate(cells):
        try:
            found[row] = math.nan if is_missing(cell) else float(cell)
        except (TypeError, ValueError):
            raise RowError(row, f"{column} is {cell!r}, not a number") from None
    return found


def label_names(sets: Mapping[str, RawRows], column: str) -> list[str] | None:
    """Returns the names of the labels of some sets, sorted; `None` where they are too many to be kept."""
    cells = DistinctCells([column], [*sets.values()]).columns[column]
    names = sorted({str(cell) for cell in cells if not is_no_category(cell)}, key=natural_key)
    return names if len(names) <= MOST_NAMES else None
