"""Context, question and choice -> the texts that a model reads together, one pair (or single text) for each choice."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lit_ft.data.choices.rows import Choices
from lit_ft.data.features.ragged import Array


@dataclass(frozen=True)
class ChoiceTexts:
    """What is to be encoded of a batch of rows.

    Attributes:
        firsts: text that comes before every choice of a row, `[rows]`; `None` = its choices stand alone.
        seconds: text of each choice, all rows' choices one after the other, `[choices]`.
        spans: where the choice itself begins and ends in that text, in characters, `[choices, 2]`.
        counts: choices of each row, `[rows]`.
    """

    firsts: list[str | None]
    seconds: list[str]
    spans: Array
    counts: Array


def choice_texts(
    contexts: Sequence[str] | None, questions: Sequence[str] | None, choices: Sequence[Choices], blank: str = ""
) -> ChoiceTexts:
    """Lays out rows as run_swag and RACE do: (context, question + choice), (context, choice) or (question, choice).

    Args:
        contexts: of each row; `None` = there is no such column.
        questions: likewise.
        choices: of each row.
        blank: what the choice takes the place of in a question that has it; `""` = nothing. A filled question without
            a context is a text of its own.
    """
    firsts: list[str | None] = []
    seconds: list[str] = []
    spans: list[tuple[int, int]] = []
    gap = re.compile(f"(?:{re.escape(blank)})+") if blank else None
    for row, each in enumerate(choices):
        question = questions[row] if questions is not None else ""
        hole = gap.search(question) if gap else None
        if hole:
            before, behind = question[: hole.start()], question[hole.end() :]
            firsts.append(contexts[row] if contexts is not None else None)
        elif contexts is None:
            before = behind = ""
            firsts.append(question)
        else:
            before, behind = question + " " if question else "", ""
            firsts.append(contexts[row])
        for text in each.texts:
            # all blanks of a question stand for the same choice; the first is where it must not be cut
            rest = gap.sub(lambda _, text=text: text, behind) if gap else behind  # type: ignore[misc]
            seconds.append(before + text + rest)
            spans.append((len(before), len(before) + len(text)))
    counts = np.fromiter((len(each.texts) for each in choices), np.int64, len(choices))
    return ChoiceTexts(firsts, seconds, np.array(spans, np.int64).reshape(-1, 2), counts)
