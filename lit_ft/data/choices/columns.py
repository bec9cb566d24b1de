"""Which columns hold context, question, choices and label: given by name, or guessed from the names data sets have."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lit_ft.data.labels import natural_key
from lit_ft.data.reading.columns import LABEL_NAMES, check_columns, check_texts, is_plain
from lit_ft.data.reading.raw import RawRows
from lit_ft.errors import UserError

LAYOUTS = (
    ("sent1", "sent2", "ending"),  # SWAG
    ("ctx", "", "endings"),  # HellaSwag
    ("article", "question", "options"),  # RACE
    ("", "question", "choices"),  # ARC, CommonsenseQA, OpenBookQA
    ("premise", "question", "choice"),  # COPA
    ("prompt", "", "ending"),  # CODAH
    ("context", "question", "answer"),  # CosmosQA
    ("context", "question", "choice"),
    ("context", "question", "choices"),
    ("context", "question", "options"),
    ("", "goal", "sol"),  # PIQA
)
"""Columns of context and question, and one of lists or what comes before the number of each choice's column."""
IN_DESCRIPTION = ("context_column", "question_column", "choice_columns", "label_column")
ANSWER_NAMES = (*LABEL_NAMES, "answer", "answerKey")


@dataclass(frozen=True)
class ChoiceLayout:
    """Names of the columns.

    Attributes:
        context: what is read first; `""` = none.
        question: what each choice answers, or goes on with; `""` = none.
        choices: columns of one choice each, or one of lists.
        label: what says which choice is right; `""` = none.
    """

    context: str
    question: str
    choices: list[str]
    label: str

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "ChoiceLayout":
        """Returns the columns that a description names."""
        return cls(*(description[name] for name in IN_DESCRIPTION))

    def plain(self) -> dict[str, Any]:
        """Returns plain values for a description."""
        return dict(zip(IN_DESCRIPTION, (self.context, self.question, self.choices, self.label), strict=True))

    @property
    def inputs(self) -> list[str]:
        """The columns that a model's input is made of."""
        return [name for name in (self.context, self.question, *self.choices) if name]

    def check(self, rows: RawRows, labelled: bool) -> None:
        """Looks for the columns in some rows.

        Args:
            rows: the rows.
            labelled: they must have the label, too.

        Raises:
            UserError: one is not there, or holds something else.
        """
        features, named = rows.data.features, [*self.inputs, *filter(None, [self.label])]
        if twice := next((name for name in named if named.count(name) > 1), None):
            raise UserError(f"column {twice!r} cannot be two of context, question, choices and label at once")
        check_columns([*self.inputs, *([self.label] if labelled else [])], rows.data.column_names, rows.place)
        texts = [name for name in (self.context, self.question) if name]
        check_texts(texts + (self.choices if len(self.choices) > 1 else []), features, rows.place)
        (first, *others) = self.choices
        if not others and is_plain(features[first]) and getattr(features[first], "dtype", "") != "null":
            raise UserError(
                f"{rows.place}: column {first!r} alone holds one choice a row: choice_column_names must name a column "
                "for each choice, or one of lists (json, parquet)"
            )


def guess_layout(present: Sequence[str], place: str) -> ChoiceLayout:
    """Finds the columns that a known data set has.

    Raises:
        UserError: there is none, or more than one reading.
    """
    found = []
    for context, question, choices in LAYOUTS:
        columns = [choices] if choices in present and choices.endswith("s") else numbered(present, choices)
        if columns and {context, question} - {""} <= set(present):
            found.append((context, question, columns))
    # what leaves out a column that another reading has a use for is no reading
    best = [one for one in found if not any(_columns(one) < _columns(other) for other in found)]
    if len(best) != 1:
        raise UserError(
            f"{place}: which columns are context, question and choices? columns: {list(present)}; set "
            "choice_column_names and context_column_name, question_column_name or both"
        )
    if gap := missing_between(best[0][2]):
        raise UserError(f"{place}: there are choices in {best[0][2]}, but none in {gap!r}: set choice_column_names")
    return ChoiceLayout(*best[0], guess_answer_column(present))


def find_layout(
    rows: RawRows, given: ChoiceLayout, known: Mapping[str, Any], labelled: bool
) -> tuple[ChoiceLayout, bool]:
    """Takes the columns that are given, else those that a checkpoint knows, else guesses.

    Args:
        rows: what has the columns.
        given: the user's; empty names where nothing is given.
        known: description of a checkpoint, or nothing.
        labelled: rows must have a label.

    Returns:
        The columns, and whether they are guessed.

    Raises:
        UserError: what is given is half of a layout, or the columns fit none, or several.
    """
    present = rows.data.column_names
    label = given.label or known.get("label_column") or guess_answer_column(present)
    if labelled and not label:
        raise UserError(f"{rows.place}: which column is the label? columns: {present}; set label_column_name")
    if not given.inputs:
        if "choice_columns" in known:
            return ChoiceLayout.of({**known, "label_column": label}), False
        return replace(guess_layout(present, rows.place), label=label), True
    if not given.choices or not (given.context or given.question):
        lacking = "neither context_column_name nor question_column_name" if given.choices else "no choice_column_names"
        raise UserError(
            f"choice_column_names and context_column_name, question_column_name or both go together: {lacking} given"
        )
    return replace(given, label=label), False


def _columns(found: tuple[str, str, list[str]]) -> set[str]:
    context, question, choices = found
    return {context, question, *choices} - {""}


def numbered(present: Sequence[str], stem: str) -> list[str]:
    """Returns the columns named by a stem and a number or letter (`ending0`, `choice_A`), in order; two or more."""
    names = [name for name in present if re.fullmatch(rf"{re.escape(stem)}_?(\d+|[A-Za-z])", name)]
    return sorted(names, key=natural_key) if len(names) > 1 else []


def missing_between(names: Sequence[str]) -> str:
    """Returns the first name that numbered columns leave out, such as `ending1` of `ending0, ending2`; `""` = none."""
    if len(names) < 2:
        return ""
    stem = re.sub(r"(\d+|[A-Za-z])$", "", names[0])
    ends = [name.removeprefix(stem) for name in names]
    if all(end.isdecimal() for end in ends):
        numbers = list(map(int, ends))
        lacking = sorted(set(range(min(1, *numbers), max(numbers))) - set(numbers))
        return f"{stem}{lacking[0]}" if lacking else ""
    if not all(len(end) == 1 and end.isalpha() for end in ends):
        return ""
    first = "A" if ends[0].isupper() else "a"
    lacking = sorted(set(range(ord(first), max(map(ord, ends)))) - set(map(ord, ends)))
    return f"{stem}{chr(lacking[0])}" if lacking and ends == sorted(ends) else ""


def guess_answer_column(present: Sequence[str]) -> str:
    """Returns the one column that is named as labels are; `""` where there is none, or several are."""
    found = [name for name in ANSWER_NAMES if name in present]
    return found[0] if len(found) == 1 else ""
