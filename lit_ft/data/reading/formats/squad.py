"""SQuAD's nested JSON -> one flat row per question: id, title, question, context, answers."""

from collections.abc import Iterator
from typing import Any

from lit_ft.data.reading.formats.answers import read_answers
from lit_ft.data.reading.formats.common import shorten
from lit_ft.errors import UserError


def is_squad(records: list[Any]) -> bool:
    """Says whether these are documents with paragraphs, as SQuAD's files hold them."""
    paragraphs = [record.get("paragraphs") for record in records if isinstance(record, dict)]
    return len(paragraphs) == len(records) and any(
        isinstance(each, dict) and "qas" in each for some in paragraphs if isinstance(some, list) for each in some
    )


def flat_questions(records: list[dict[str, Any]], place: str) -> Iterator[dict[str, Any]]:
    """Yields a row per question, in the file's order.

    `answers` is `{"text": [...], "answer_start": [...]}`, empty for a question that cannot be answered and `None` where
    the file gives none; `plausible_answers` (SQuAD 2.0) are no answers and stay out.

    Args:
        records: the documents.
        place: how messages name the file.

    Raises:
        UserError: a paragraph has no context or questions, or a question that is marked as impossible has answers.
    """
    for record in records:
        for number, paragraph in enumerate(_listed(record, "paragraphs", f"{place}: {record.get('title')!r}"), 1):
            where = f"{place}: paragraph {number} of {record.get('title')!r}"
            if not isinstance(paragraph.get("context"), str):
                raise UserError(f"{where} has no context (a text); it has {shorten(paragraph)}")
            for question in _listed(paragraph, "qas", where):
                name = question.get("id")
                yield {
                    "id": None if name is None else str(name),
                    "title": record.get("title"),
                    "question": question.get("question"),
                    "context": paragraph["context"],
                    "answers": _answers(question, place),
                }


def _listed(holder: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    found = holder.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UserError(f"{where} has no {name} (a list of objects); it has {shorten(holder)}")
    return found


def _answers(question: dict[str, Any], place: str) -> dict[str, list[Any]] | None:
    try:
        given = read_answers(question.get("answers"))
    except ValueError as error:
        raise UserError(f"{place}: answers of question {question.get('id')!r}: {error}") from None
    impossible = bool(question.get("is_impossible"))
    if given and impossible:
        raise UserError(
            f"{place}: question {question.get('id')!r} is_impossible, but has the answer "
            f"{shorten(given[0].text)}; take out one of the two"
        )
    if given is None:
        return {"text": [], "answer_start": []} if impossible else None
    return {"text": [each.text for each in given], "answer_start": [each.start for each in given]}
