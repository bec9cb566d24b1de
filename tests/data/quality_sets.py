"""Sets of rows that are judged, and what is found in them, for the tests of bad rows."""

import numpy as np

from lit_ft.data.quality.judgement import SetMarks, judge
from lit_ft.data.quality.kinds import check_actions
from lit_ft.data.quality.marks import RowMarks, row_marks

KEEP = {**check_actions({}), "unlabelled": "keep", "unknown_label": "keep"}


def concat(parts: list[RowMarks]) -> RowMarks:
    names = ("exact", "normal", "label", "flags")
    return RowMarks(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def marked(
    split: str, texts: list, labels: list | None = None, batch: int = 1000, place: str | None = None
) -> SetMarks:
    columns = texts if texts and isinstance(texts[0], list) else [texts]
    starts = range(0, len(columns[0]), batch)
    parts = [
        row_marks([c[at : at + batch] for c in columns], None if labels is None else labels[at : at + batch])
        for at in starts
    ]
    place = place or f"{split}.csv"
    return SetMarks(split, "", place, concat(parts), lambda row: f"{place}: row {row + 1}")


def found(*sets: SetMarks, **actions: str) -> list[dict]:
    """Returns per set: kind -> indices of the rows; there are never more than the examples show here."""
    report = judge(sets, {**KEEP, **actions}).report
    return [
        {kind: [int(name.split()[1]) - 1 for name in kinds["examples"]] for kind, kinds in one["found"].items()}
        for one in report["sets"]
    ]
