"""SQuAD's nested JSON -> one flat row per question: id, title, question, context, answers."""

from collections.abc import Iterator
from typing import Any

from lit_ft.data.formats.common import shorten
from lit_ft.errors import UserError


def is_squad(records: list[Any]) -> bool:
    """Says whether these are documents with paragraphs, as SQuAD's files hold them."""
    return bool(records) and all(
        isinstance(record, dict)
        and isinstance(record.get("paragraphs"), list)
        and all(isinstance(paragraph, dict) and "qas" in paragraph for paragraph in record["paragraphs"])
        for record in records
    )


def flat_questions(records: list[dict[str, Any]], place: str) -> Iterator[dict[str, Any]]:
    """Yields a row per question, in the file's order.

    `answers` is `{"text": [...], "answer_start": [...]}`, empty for a question that cannot be answered and `None` where
    the file gives none; `plausible_answers` (SQuAD 2.0) are no answers and stay out.

    Args:
        records: the documents.
        place: how messages name the file.

    Raises:
        UserError: a paragraph has no context, or a question that is marked as impossible has answers.
    """
    for record in records:
        for paragraph in record["paragraphs"]:
            if not isinstance(paragraph.get("context"), str):
                found = shorten(", ".join(paragraph))
                raise UserError(f"{place}: a paragraph of {record.get('title')!r} has no context; it has {found}")
            for question in paragraph["qas"]:
                number = question.get("id")
                yield {
                    "id": None if number is None else str(number),
                    "title": record.get("title"),
                    "question": question.get("question"),
                    "context": paragraph["context"],
                    "answers": _answers(question, place),
                }


def _answers(question: dict[str, Any], place: str) -> dict[str, list[Any]] | None:
    given = question.get("answers")
    impossible = bool(question.get("is_impossible"))
    if given and impossible:
        raise UserError(
            f"{place}: question {question.get('id')!r} is_impossible, but has the answer "
            f"{shorten(given[0].get('text'))}; take out one of the two"
        )
    if given is None:
        return {"text": [], "answer_start": []} if impossible else None
    return {"text": [each.get("text") for each in given], "answer_start": [each.get("answer_start") for each in given]}
