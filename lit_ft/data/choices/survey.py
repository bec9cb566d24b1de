"""How many choices the rows of a set have, and what is to be said of them."""

from collections import Counter

from lit_ft.data.choices.columns import ChoiceLayout
from lit_ft.data.choices.rows import FEWEST, LabelVotes, read_choices
from lit_ft.data.reading.raw import RawRows

ENOUGH = 10_000
"""Labels that are looked at to find out how they are written."""


def survey_choices(rows: RawRows, layout: ChoiceLayout, votes: LabelVotes | None) -> tuple[set[int], list[str]]:
    """Reads all choices.

    Args:
        rows: the rows.
        layout: their columns.
        votes: is told the labels of the first rows; `None` = there are none.

    Returns:
        The numbers of choices that rows have, and what to say: where rows differ, choices are missing or come twice.

    Raises:
        RowError: a cell is no list of choices.
    """
    counts: Counter[int] = Counter()
    missing = twice = 0
    columns = [*layout.choices, *([layout.label] if votes is not None else [])]
    for batch, choices in rows.read(lambda batch: (batch, read_choices(batch, layout.choices)), columns):
        counts.update(len(each.texts) for each in choices)
        missing += sum(len(each.texts) < each.size for each in choices)
        twice += sum(len(set(each.texts)) < len(each.texts) for each in choices)
        if votes is not None and votes.cells < ENOUGH:
            votes.add(batch[layout.label], choices)
    notes = []
    if len(counts) > 1:
        shown = ", ".join(f"{number:,} rows of {count}" for count, number in sorted(counts.items()))
        notes.append(f"{rows.place}: rows have different numbers of choices: {shown}")
    if missing:
        notes.append(f"{rows.place}: {missing:,} of {len(rows):,} rows have empty choices, which count as none")
    if twice:
        notes.append(f"{rows.place}: {twice:,} of {len(rows):,} rows have the same choice twice")
    return {count for count in counts if count >= FEWEST}, notes
