"""Answers -> places in their contexts, verified and repaired; what cannot be found is named."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import numpy as np

from lit_ft.data.features.ragged import Array
from lit_ft.data.reading.formats.answers import Answer, read_answers
from lit_ft.data.reading.formats.common import shorten
from lit_ft.errors import RowError

OnBadAnswer = Literal["error", "drop"]


class State(IntEnum):
    """What is known of a row's answer."""

    UNLABELLED = 0
    UNANSWERABLE = 1
    EXACT = 2
    MOVED = 3
    """It stands elsewhere than the row says."""
    SEARCHED = 4
    """The row does not say where it stands: its first occurrence."""
    LOST = 5


def place(context: str, answer: Answer) -> tuple[int, int, State] | None:
    """Returns where an answer stands, without white space around it: first character, end, and how it was found.

    The text must be in the context; it is taken where it begins nearest to where it is said to. White space within it
    may be written otherwise there.
    """
    text, said = answer.text.strip(), answer.start
    if said is not None and said >= 0 and context.startswith(answer.text, said):
        start = said + len(answer.text) - len(answer.text.lstrip())
        return start, start + len(text), State.EXACT
    state = State.SEARCHED if said is None else State.MOVED
    if said is None and (start := context.find(text)) >= 0:
        return start, start + len(text), state
    pattern = re.escape(text) if text in context else r"\s+".join(map(re.escape, text.split()))
    spans = [match.span(1) for match in re.finditer(f"(?=({pattern}))", context)]
    if not spans:
        return None
    near = bisect_left(spans, (said or 0, 0))
    nearest = min(spans[max(0, near - 1) : near + 1], key=lambda span: abs(span[0] - (said or 0)))
    return (*nearest, state)


class Spans(NamedTuple):
    """The first gold answer of each row of a batch: first character and end in the context, and its `State`.

    Characters are -1 where there is none. All are `[rows]`.
    """

    start: Array
    end: Array
    state: Array


def answer_spans(
    contexts: Sequence[str], cells: Sequence[Any], names: Sequence[Any], on_bad_answer: OnBadAnswer
) -> Spans:
    """Finds the first gold answer of each row in its context.

    Args:
        contexts: texts that hold the answers.
        cells: what `read_answers` reads.
        names: how messages name each row beside its number; `None` = not at all.
        on_bad_answer: `drop` marks answers that are not in the context as lost.

    Raises:
        RowError: an answer is not in the context, or a cell has no shape of answers.
    """
    rows = len(contexts)
    spans = Spans(np.full(rows, -1, np.int64), np.full(rows, -1, np.int64), np.zeros(rows, np.uint8))
    for row, (context, cell) in enumerate(zip(contexts, cells, strict=True)):
        named = "" if names[row] is None else f" of question {names[row]!r}"
        try:
            answers = read_answers(cell)
        except ValueError as error:
            raise RowError(row, f"answers{named}: {error}") from None
        if not answers:
            spans.state[row] = State.UNLABELLED if answers is None else State.UNANSWERABLE
            continue
        found = place(context, answers[0])
        if found is not None:
            spans.start[row], spans.end[row], spans.state[row] = found
        elif on_bad_answer == "drop":
            spans.state[row] = State.LOST
        else:
            raise RowError(
                row,
                f"answer {shorten(answers[0].text)}{named} is not in its context ({shorten(context)}): mend it, or set "
                "on_bad_answer: drop",
            )
    return spans


def count_states(spans: Spans) -> Array:
    """Returns how many rows are of each `State`, `[6]`."""
    return np.bincount(spans.state, minlength=len(State))


def note_on_states(counts: Array) -> str:
    """Says what was repaired or left out, given how many rows are of each `State`; empty where nothing was."""
    rows = int(counts.sum())
    said = {
        State.MOVED: "stand elsewhere in the context than answer_start says, and were found there",
        State.SEARCHED: "come without answer_start: the first place in the context that has them counts",
        State.LOST: "are not in their context: their rows are not trained on (on_bad_answer: drop)",
    }
    return "; ".join(f"{counts[state]:,} of {rows:,} answers {what}" for state, what in said.items() if counts[state])
