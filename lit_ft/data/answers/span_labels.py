"""Windows and answers -> the tokens at which each answer starts and ends; which windows without one are trained on."""

from collections.abc import Sequence

import numpy as np

from lit_ft.data.answers.places import OnBadAnswer, Spans, State
from lit_ft.data.answers.windows import Windows
from lit_ft.data.features.ragged import Array
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.chance import drawn
from lit_ft.data.quality.marks import label_hash
from lit_ft.errors import RowError

NOTHING = "no answer here"
"""What is said of a window without an answer."""


def span_labels(windows: Windows, spans: Spans, on_bad_answer: OnBadAnswer) -> tuple[Array, Array]:
    """Labels each window with the tokens that hold the first and the last character of its row's answer.

    A window that does not hold the whole answer, and every window of a question that cannot be answered, is labelled
    with `cls_index` twice; rows without an answer that is known are labelled with -100. An answer of characters that
    the tokenizer drops is an error, or becomes a lost one.

    Returns:
        First and last token, `[windows, 2]` int32, and whether the window holds an answer, `[windows]`.

    Raises:
        RowError: the tokenizer drops an answer.
    """
    first, last = windows.contexts.tokens_of(spans.start, spans.end)
    dropped = np.flatnonzero((spans.start >= 0) & (last < first))
    if len(dropped) and on_bad_answer == "error":
        raise RowError(
            int(dropped[0]),
            "the answer consists of characters that the tokenizer drops; take it out, or set on_bad_answer: drop",
        )
    spans.state[dropped] = State.LOST
    answered = (spans.start >= 0) & (first <= last)
    known = answered | (spans.state == State.UNANSWERABLE)
    row = windows.row
    start, end = first[row] - windows.first, last[row] - windows.first
    inside = answered[row] & (start >= 0) & (end < windows.size)
    places = np.stack([np.where(inside, each + windows.place, windows.cls_index) for each in (start, end)], 1)
    return np.where(known[row, None], places, IGNORED).astype(np.int32), inside


def count_windows(store: FeatureStore) -> dict[str, int]:
    """Counts the windows with an answer, and those without; nothing where answers are not known."""
    if "labels" not in store.column_names:
        return {}
    if "cls_index" in store.column_names:
        starts = store.column("labels")[:, 0]
        holds = (starts >= 0) & (starts != store.column("cls_index"))
    else:
        holds = store.column("holds_answer") > 0
    return {"with an answer": int(holds.sum()), NOTHING: int((~holds).sum())}


def windows_to_keep(row: Array, inside: Array, keys: Sequence[str], ratio: float) -> Array:
    """Chooses, of each row with an answer, which of its windows without it are trained on.

    Rows without any window that holds an answer keep all of theirs: they teach when there is none.

    Args:
        row: row of each window, ascending, `[windows]`.
        inside: which windows hold the answer, `[windows]`.
        keys: text of each row that decides, with the number of the window, by chance that is always the same.
        ratio: windows without the answer per window with it; what is left of a whole number is decided by chance.

    Returns:
        Which windows stay, `[windows]`.
    """
    states = np.fromiter(map(label_hash, keys), np.uint64, len(keys))
    chance = drawn(states[row], np.arange(len(row)) - np.searchsorted(row, row), 1)
    order = np.lexsort((chance, inside, row))  # of each row first the windows without the answer, as chance has it
    rank = np.empty(len(row), np.int64)
    rank[order] = np.arange(len(row)) - np.searchsorted(row, row)[order]
    answered = np.bincount(row, weights=inside, minlength=len(keys))
    wanted = ratio * answered
    rounded = np.floor(wanted + (drawn(states, np.zeros(len(keys), np.int64), 2) >> np.uint64(11)) * 2.0**-53)
    return np.asarray(inside | (answered == 0)[row] | (rank < rounded[row]))
