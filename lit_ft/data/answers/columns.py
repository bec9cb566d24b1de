"""Which columns hold questions, contexts and answers: given by name, or as SQuAD calls them; and what stands there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_ft.data.answers.places import OnBadAnswer, Spans, answer_spans
from lit_ft.data.reading.columns import check_columns, check_texts, texts_of
from lit_ft.data.reading.formats.answers import with_starts
from lit_ft.data.reading.raw import RawRows
from lit_ft.errors import UserError

USUAL = {
    "question": ("question",), "context": ("context",), "answer": ("answers", "answer"),
    "answer_start": ("answer_start",), "id": ("id",),
}  # fmt: skip
"""Names that each column has where nobody says otherwise."""
OPTIONAL, OF_ANSWERS = ("answer_start", "id"), ("answer", "answer_start")


@dataclass(frozen=True)
class AnswerColumns:
    """Names of the columns.

    Attributes:
        question: what is asked.
        context: the text that holds the answer.
        answer: the answers.
        answer_start: where they begin, if they are texts alone; `""` = nothing says it.
        id: what names a row in messages; `""` = its number.
    """

    question: str
    context: str
    answer: str
    answer_start: str
    id: str

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "AnswerColumns":
        """Returns the columns that a description names."""
        return cls(**{name: description[f"{name}_column"] for name in USUAL})

    def plain(self) -> dict[str, str]:
        """Returns plain values for a description."""
        return {f"{name}_column": getattr(self, name) for name in USUAL}

    def needed(self, answered: bool) -> list[str]:
        """Returns the columns that are read of rows with or without answers."""
        return list(dict.fromkeys(filter(None, (getattr(self, name) for name in _read_of(answered)))))

    def texts(self, rows: Mapping[str, list[Any]]) -> tuple[list[str], list[str]]:
        """Returns question and context of each row."""
        return texts_of(rows, [self.question]), texts_of(rows, [self.context])

    def spans(self, rows: Mapping[str, list[Any]], on_bad_answer: OnBadAnswer) -> Spans:
        """Returns where the answers of a batch of rows stand in their contexts.

        Raises:
            RowError: one stands nowhere, and that is an error.
        """
        contexts = texts_of(rows, [self.context])
        names = rows[self.id] if self.id else [None] * len(contexts)
        starts = rows[self.answer_start] if self.answer_start else []
        cells = with_starts(rows[self.answer], starts) if starts else rows[self.answer]
        return answer_spans(contexts, cells, names, on_bad_answer)


def find_columns(
    sets: Sequence[tuple[RawRows, bool]], asked: Mapping[str, str], known: Mapping[str, Any]
) -> AnswerColumns:
    """Takes the columns that are asked for, else those that a checkpoint knows, else those with a usual name.

    Args:
        sets: what has the columns, and whether it has to have answers.
        asked: the user's, by attribute; `""` where nothing is asked for.
        known: description of a checkpoint, or nothing.

    Raises:
        UserError: one is missing, holds something else, or is named twice.
    """
    present = sets[0][0].data.column_names
    found = {name: column_of(name, asked, known, present) for name in USUAL}
    for name in OPTIONAL:  # what nobody asked for may be missing
        needing = [rows for rows, answered in sets if name in _read_of(answered)]
        if not asked[name] and not all(found[name] in rows.data.column_names for rows in needing):
            found[name] = ""
    columns = AnswerColumns(**found)
    if columns.question == columns.context:
        raise UserError(f"column {columns.question!r} cannot be both question and context")
    for rows, answered in sets:
        check_columns(columns.needed(answered), rows.data.column_names, rows.place)
        check_texts([columns.question, columns.context], rows.data.features, rows.place)
    return columns


def column_of(name: str, asked: Mapping[str, str], known: Mapping[str, Any], present: Sequence[str]) -> str:
    """Returns the column of `question`, `context`, ... as for `find_columns`, of rows with some columns."""
    usual = [column for column in USUAL[name] if column in present]
    return asked[name] or known.get(f"{name}_column") or (usual or ["" if name in OPTIONAL else USUAL[name][0]])[0]


def _read_of(answered: bool) -> list[str]:
    return [name for name in USUAL if answered or name not in OF_ANSWERS]
