"""Rows against rows, by their hashes: a part of all hashes is sorted at a time, so that much fits in little memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_ft.data.quality.marks import Form, RowMarks

Mask = NDArray[np.bool_]
Hashes = dict[Form, NDArray[np.uint64]]
"""Sorted hashes, of texts as they stand and in normal form."""
FORMS: tuple[Form, Form] = ("exact", "normal")

STRETCH = 1 << 16
"""Rows that are looked at at a time; marks may lie on disk."""
PART = 1 << 19
"""Most hashes that a part is to have."""
MOST_BITS = 6
"""Leading bits of a hash that say which part it is of, at most: every part takes a look at all rows."""


class Chosen(NamedTuple):
    """Some rows of a set: the marks of all its rows, and which are meant `[rows]`."""

    marks: RowMarks
    rows: Mask


_Keys = Callable[[RowMarks], NDArray[np.uint64]]


def stretches(rows: int) -> Iterator[slice]:
    """Yields all rows, a few at a time."""
    return (slice(start, min(start + STRETCH, rows)) for start in range(0, rows, STRETCH))


def repeated(some: Chosen, earlier: Sequence[Chosen], form: Form) -> Mask:
    """Says which of some rows have text and label of one before, in this set or an earlier one `[rows]`."""
    again = np.zeros(len(some.rows), np.bool_)
    for *before, (rows, keys) in _parts([*earlier, some], lambda marks: marks.keys(form)):
        known = [hashes for _, hashes in before]
        later = _later(np.concatenate([*known, keys]))
        again[rows[later[sum(map(len, known)) :]]] = True
    return again


def contradicting(some: Chosen, form: Form) -> Mask:
    """Says which of some rows have a label, and share their text with one that is labelled otherwise `[rows]`."""
    against = np.zeros(len(some.rows), np.bool_)
    labelled = some.rows & (some.marks.label != 0)
    if not labelled.any():
        return against
    for ((rows, texts),) in _parts([Chosen(some.marks, labelled)], lambda marks: marks.texts(form)):
        order, starts = _runs(texts)
        labels = some.marks.label[rows[order]]
        differ = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts) if len(starts) else starts
        against[rows[order]] = np.repeat(differ, np.diff(starts, append=len(order)))
    return against


def among(some: Chosen, known: Hashes, form: Form) -> Mask:
    """Says which of some rows have a text that is known `[rows]`."""
    seen, hashes = np.zeros(len(some.rows), np.bool_), known[form]
    for stretch in stretches(len(some.rows) if len(hashes) else 0):
        texts = some.marks.texts(form)[stretch]
        places = np.minimum(np.searchsorted(hashes, texts), len(hashes) - 1)
        seen[stretch] = some.rows[stretch] & (hashes[places] == texts)
    return seen


def sorted_texts(sets: Sequence[Chosen], form: Form) -> Iterator[NDArray[np.uint64]]:
    """Yields the hashes of the texts of all sets, sorted, part by part."""
    for parts in _parts(sets, lambda marks: marks.texts(form)):
        yield np.sort(np.concatenate([np.zeros(0, np.uint64), *(hashes for _, hashes in parts)]))


def first(rows: Mask, count: int) -> list[int]:
    """Returns the indices of the first rows of a mask."""
    found: list[int] = []
    for stretch in stretches(len(rows)):
        found += (np.flatnonzero(rows[stretch])[: count - len(found)] + stretch.start).tolist()
        if len(found) == count:
            break
    return found


def _parts(sets: Sequence[Chosen], keys: _Keys) -> Iterator[list[tuple[NDArray[np.intp], NDArray[np.uint64]]]]:
    """Yields, by leading bits of their keys, the rows of each set and these keys."""
    rows = sum(len(one.rows) for one in sets)
    bits = min(max(rows // PART, 1).bit_length(), MOST_BITS)
    for part in range(1 << bits):
        yield [_part(one, keys, part, bits) for one in sets]


def _part(some: Chosen, keys: _Keys, part: int, bits: int) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
    rows, hashes = [np.zeros(0, np.intp)], [np.zeros(0, np.uint64)]
    for stretch in stretches(len(some.rows)):
        these = keys(some.marks.only(stretch))
        here = np.flatnonzero(some.rows[stretch] & (these >> np.uint64(64 - bits) == part))
        rows.append(here + stretch.start)
        hashes.append(these[here])
    return np.concatenate(rows), np.concatenate(hashes)


def _runs(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns an order in which equal hashes stand together, and where each run of them begins."""
    order = np.argsort(hashes)
    ordered = hashes[order]
    return order, np.flatnonzero(np.append(np.ones(min(len(order), 1), np.bool_), ordered[1:] != ordered[:-1]))


def _later(hashes: NDArray[np.uint64]) -> Mask:
    """Says which hashes there were before `[hashes]`."""
    order, starts = _runs(hashes)
    later = np.ones(len(hashes), np.bool_)
    if len(starts):  # within a run the order is any
        later[np.minimum.reduceat(order, starts)] = False
    return later
