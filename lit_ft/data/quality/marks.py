"""Rows of text -> a few numbers a row: hashes that find equal rows, and a bit for each kind that a row shows itself."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import not_
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from lit_ft.data.labels import is_missing
from lit_ft.data.quality.text import damages, line_ends, normal_forms

OF_A_ROW = (
    "empty_text",
    "control_characters",
    "byte_order_mark",
    "mojibake",
    "mixed_line_ends",
    "unlabelled",
    "unknown_label",
    "unknown_tokens",
    "cut",
)
"""The kinds of every task that a row shows by itself, in the order of their bits in `RowMarks.flags`."""
MOST_OWN = 4
"""Kinds of a task's own that there is room for above them; line ends come last."""

MOST_UNKNOWN = 0.2
"""Share of unknown tokens up to which a row is as it should be: a name or an emoji now and then is."""

_LINE_ENDS = np.uint16(len(OF_A_ROW) + MOST_OWN)
_STEP = np.uint64(0x9E3779B97F4A7C15)


Form = Literal["exact", "normal"]


@dataclass(frozen=True)
class RowMarks:
    """What is kept of some rows: 26 bytes each.

    Attributes:
        exact: hash of the texts as they stand `[rows]`, uint64; 0 = a row without any text, which is like no other.
        normal: hash of the texts' normal forms `[rows]`, uint64; 0 as for `exact`.
        label: hash of the label `[rows]`, uint64; 0 = no label.
        flags: bits of the kinds that a row shows by itself, and of its line ends `[rows]`, uint16.
        own: kinds of the task's own.
    """

    exact: NDArray[np.uint64]
    normal: NDArray[np.uint64]
    label: NDArray[np.uint64]
    flags: NDArray[np.uint16]
    own: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that a row shows by itself, in the order of their bits."""
        return (*OF_A_ROW, *self.own)

    def __len__(self) -> int:
        return len(self.flags)

    def flagged(self, kind: str, rows: NDArray[np.bool_]) -> "RowMarks":
        """Returns the marks with one kind more, for what only tokens and the known labels tell.

        Args:
            kind: one of `kinds`, such as `cut`.
            rows: which rows are of this kind `[rows]`.
        """
        return replace(self, flags=self.flags | rows.astype(np.uint16) << np.uint16(self.kinds.index(kind)))

    def shows(self, kind: str) -> NDArray[np.bool_]:
        """Returns which rows are of one of `kinds` `[rows]`."""
        return np.asarray(self.flags & np.uint16(1 << self.kinds.index(kind)), np.bool_)

    def line_ends(self) -> NDArray[np.uint16]:
        """Returns the bits of each row's line ends `[rows]`, as `quality_text` names them."""
        return self.flags >> _LINE_ENDS

    def only(self, rows: NDArray[Any] | slice) -> "RowMarks":
        """Returns the marks of some rows: their indices, a mask, or a slice, which copies nothing."""
        return RowMarks(self.exact[rows], self.normal[rows], self.label[rows], self.flags[rows], self.own)

    def texts(self, form: Form) -> NDArray[np.uint64]:
        """Returns the hash of the texts, as they stand or in normal form `[rows]`."""
        return self.exact if form == "exact" else self.normal

    def keys(self, form: Form) -> NDArray[np.uint64]:
        """Returns a hash of text and label together `[rows]`."""
        return self.texts(form) * _STEP + self.label


def row_marks(texts: Sequence[Sequence[str | None]], labels: Sequence[Any] | None) -> RowMarks:
    """Marks a batch of rows; a row has the same marks in every process and in every batch.

    Args:
        texts: the cells of each text column. Each of them is to hold text: a column that may be empty is to be joined
            with the one it belongs to. Their order counts: a pair is not its mirror image. Where words are labelled,
            the number of words is to be a column, too: labels of rows that are split otherwise do not contradict.
        labels: one plain cell per row, or `None` where a set has no labels. No label is `None`, NaN, a blank string
            or a list of numbers with a NaN; -1 is a number, as it is in a regression. The order in a list counts.
    """
    rows = len(texts[0])
    exact, normal = np.zeros(rows, np.uint64), np.zeros(rows, np.uint64)
    ends, blank_cells, found = np.zeros(rows, np.uint16), np.zeros(rows, np.uint16), dict[str, NDArray[np.bool_]]()
    for column in texts:
        cells = [cell or "" for cell in column]
        forms = normal_forms(cells)
        exact = exact * _STEP + _hashes(_in_utf8(cells))
        normal = normal * _STEP + _hashes(forms)
        ends |= line_ends(cells)
        blank_cells += np.fromiter(map(not_, forms), np.bool_, rows)
        for kind, which in damages(cells).items():
            found[kind] = found.get(kind, False) | which
    found["empty_text"] = blank_cells > 0
    found["mixed_line_ends"] = (ends & (ends - np.uint16(1))) > 0  # more than one bit
    label = np.zeros(rows, np.uint64)
    if labels is not None:
        label = np.fromiter(map(label_hash, labels), np.uint64, rows)
        found["unlabelled"] = label == 0
    # zero says that there is no text; a hash that happens to be zero is taken for one
    exact, normal = (np.where(blank_cells == len(texts), 0, np.maximum(hashes, 1)) for hashes in (exact, normal))
    marks = RowMarks(exact, normal, label, ends << _LINE_ENDS)
    for kind, which in found.items():
        marks = marks.flagged(kind, which)
    return marks


def label_hash(label: Any) -> int:
    """Returns a hash of a label that is the same everywhere; 0 = no label. `1`, `1.0` and `"1"` are one label."""
    return _hash_of_name(label) if isinstance(label, str | int) else _hash_of(_name(label))


@lru_cache(maxsize=4096)
def _hash_of_name(label: str | int) -> int:
    return _hash_of(_name(label))


def _hash_of(name: str | None) -> int:
    return 0 if name is None else max(1, xxh3_64_intdigest(name.encode("utf-8", "surrogatepass")))


def _name(label: Any) -> str | None:
    if isinstance(label, list | tuple | np.ndarray):
        if any(isinstance(part, float) and math.isnan(part) for part in label):
            return None
        return f"[{','.join(repr(_name(part)) for part in label)}]"
    if is_missing(label):
        return None
    if isinstance(label, bool) or (isinstance(label, float) and label.is_integer()):
        label = int(label)
    return str(label).strip()


def _in_utf8(cells: Sequence[str]) -> list[bytes]:
    try:
        return [*map(str.encode, cells)]
    except UnicodeEncodeError:  # halves of surrogate pairs
        return [cell.encode("utf-8", "surrogatepass") for cell in cells]


def _hashes(values: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.fromiter(map(xxh3_64_intdigest, values), np.uint64, len(values))
