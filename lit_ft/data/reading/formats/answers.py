"""Cells of answers, in all the shapes that people keep them in: texts, and the places given for them."""

import ast
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from lit_ft.data.reading.formats.common import shorten


class Answer(NamedTuple):
    """A gold answer: its text and where it is said to begin in the context, in characters; `None` = nobody says."""

    text: str
    start: int | None


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


def answer_key(cell: Any) -> list[str] | None:
    """Returns the different texts of a cell of answers, by which rows are compared; `None` = the cell says nothing."""
    answers = read_answers(cell)
    return None if answers is None else sorted({answer.text.strip() for answer in answers})
