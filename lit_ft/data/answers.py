"""Cells of answers -> texts with places in the context, verified and repaired; what cannot be found is named."""

import ast
import json
import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import numpy as np

from lit_ft.data.formats.common import shorten
from lit_ft.data.ragged import Array
from lit_ft.errors import RowError

OnBadAnswer = Literal["error", "drop"]


class Answer(NamedTuple):
    """A gold answer: its text and where it is said to begin in the context, in characters; `None` = nobody says."""

    text: str
    start: int | None


def text_of(cell: Any) -> str:
    """Returns the text of a cell of questions or contexts; of a number, as it is written."""
    return "" if cell is None else str(cell)


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


def read_answers(cell: Any) -> list[Answer] | None:
    """Reads one cell in any of the shapes that answers have.

    Args:
        cell: `{"text": [...], "answer_start": [...]}`, a list of `{"text": ..., "answer_start": ...}`, a list of texts,
            one text, or any of these as JSON or as Python writes it. An empty list is a question that cannot be
            answered; blank texts are no answers.

    Returns:
        The answers; `None` where the cell says nothing (null, or blank).

    Raises:
        ValueError: it has none of these shapes.
    """
    cell = _answers_of(cell)
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    texts, starts = _texts_and_starts(cell)
    if texts is None:
        return None
    if len(texts) != len(starts):
        raise ValueError(f"it has {len(texts)} texts, but {len(starts)} answer_start")
    places = [_number(start) for start in starts]
    for text, start, number in zip(texts, starts, places, strict=True):
        if not isinstance(text, str) or (number is None and start is not None):
            raise ValueError(f"text {shorten(text)} with answer_start {shorten(start)}; expected a text and a number")
    return [Answer(text, number) for text, number in zip(texts, places, strict=True) if text.strip()]


def _parsed(cell: Any) -> Any:
    """Reads a cell of a csv file that holds JSON, or a list or dict as Python writes it."""
    if not isinstance(cell, str) or cell.lstrip()[:1] not in ("{", "["):
        return cell
    try:
        return json.loads(cell)
    except ValueError:
        pass
    try:
        return ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell


def _answers_of(cell: Any) -> Any:
    """Reads a cell of answers; a text may begin with a bracket, too (`[1]`)."""
    found = _parsed(cell)
    kinds = {type(each) for each in found} if isinstance(found, list) else None
    shaped = kinds in (set(), {str}, {dict}) or (isinstance(found, dict) and "text" in found)
    return found if shaped else cell


def _number(start: Any) -> int | None:
    if isinstance(start, str) and start.strip().removeprefix("-").isdecimal():
        return int(start)
    if isinstance(start, float) and start.is_integer():  # of pandas
        return int(start)
    return start if isinstance(start, int) else None


def with_starts(cells: Sequence[Any], starts: Sequence[Any]) -> list[Any]:
    """Lays answers beside their places where these have a column of their own; cells with places keep them."""
    return [_with_start(cell, start) for cell, start in zip(cells, starts, strict=True)]


def _with_start(cell: Any, start: Any) -> Any:
    texts, places = _answers_of(cell), _parsed(start)
    if isinstance(texts, str) and texts.strip():
        texts = [texts]
    blank = places is None or places == "" or (isinstance(places, float) and math.isnan(places))
    if blank or not texts or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return cell
    return {"text": texts, "answer_start": places if isinstance(places, list) else [places]}


def _texts_and_starts(cell: Any) -> tuple[list[Any] | None, list[Any]]:
    if isinstance(cell, str):
        return [cell], [None]
    if isinstance(cell, dict) and "text" in cell:
        texts, starts = cell["text"], cell.get("answer_start")
        if texts is not None and not isinstance(texts, list):
            texts, starts = [texts], [starts] if not isinstance(starts, list) else starts
        if starts is not None and not isinstance(starts, list):
            starts = [starts]
        return texts, [None] * len(texts or []) if starts is None else starts
    if isinstance(cell, list) and all(isinstance(each, str) for each in cell):
        return cell, [None] * len(cell)
    if isinstance(cell, list) and all(isinstance(each, dict) and "text" in each for each in cell):
        return [each["text"] for each in cell], [each.get("answer_start") for each in cell]
    raise ValueError(
        f"found {shorten(cell)}, expected {{'text': [...], 'answer_start': [...]}}, a list of "
        "{'text': ..., 'answer_start': ...}, or a text"
    )


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


def answer_key(cell: Any) -> list[str] | None:
    """Returns the different texts of a cell of answers, by which rows are compared; `None` = the cell says nothing."""
    answers = read_answers(cell)
    return None if answers is None else sorted({answer.text.strip() for answer in answers})
