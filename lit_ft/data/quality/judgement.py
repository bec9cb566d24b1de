"""What is done about bad rows: the judgement over the rows of all sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lit_ft.data.quality.keys import (
    FORMS,
    Chosen,
    Hashes,
    Mask,
    among,
    contradicting,
    first,
    repeated,
    sorted_texts,
    stretches,
)
from lit_ft.data.quality.kinds import KINDS, Action, BadRows
from lit_ft.data.quality.marks import RowMarks
from lit_ft.data.quality.report import Found, Report, SetReport
from lit_ft.data.quality.text import CR, CRLF, LF
from lit_ft.data.reading.raw import Split
from lit_ft.errors import UserError

EXAMPLES = 5
"""Rows that a report names of each kind."""


SEEN: dict[str, Split] = {"seen_in_train": "train", "seen_in_validation": "validation"}
"""Kinds of rows whose text is in another split, and in which."""
COMPARED: dict[Split, tuple[Split, ...]] = {
    "train": (),
    "validation": ("train",),
    "test": ("train", "validation"),
    "predict": (),
}
"""Each split, in the order in which they are judged, and those whose texts it should not have."""


@dataclass(frozen=True)
class SetMarks:
    """The marks of one set.

    Attributes:
        split: which split the set is of.
        name: name of the set among those of its split; `""` = the only one.
        place: how messages name the set.
        marks: the marks of all its rows.
        where: names a row, from its index, for messages (`train.csv: row 17`).
    """

    split: Split
    name: str
    place: str
    marks: RowMarks
    where: Callable[[int], str]

    def row(self, row: int) -> str:
        """Names a row where the set is named already."""
        return self.where(row).removeprefix(f"{self.place}: ")


@dataclass(frozen=True)
class Judgement:
    """What was decided.

    Attributes:
        kept: which rows stay `[rows]`, one mask per set; `None` = all.
        report: what is to be reported.
        chosen: the rows that stay, by split.
    """

    kept: list[Mask | None]
    report: Report
    chosen: Mapping[Split, list[Chosen]]

    def followed_by(self, other: "Judgement") -> "Judgement":
        """Returns this judgement with that of sets which come behind."""
        sets = [*self.report["sets"], *other.report["sets"]]
        meaning = {**self.report["meaning"], **other.report["meaning"]}
        report: Report = {"on_bad_rows": self.report["on_bad_rows"], "meaning": meaning, "sets": sets}
        chosen = {split: [*self.chosen[split], *other.chosen[split]] for split in COMPARED}
        return Judgement([*self.kept, *other.kept], report, chosen)


_Judged = tuple[Mask, SetReport]


def judge(
    sets: Sequence[SetMarks],
    actions: Mapping[str, Action],
    known: Mapping[Split, Hashes] | None = None,
    kinds: Mapping[str, BadRows] = KINDS,
) -> Judgement:
    """Decides which rows stay.

    Training sets are judged first, as one: what is dropped from them, no row was seen in. Of duplicates the first row
    stays, of contradicting rows none, of rows seen in train that of train. Rows to predict all stay, as each needs its
    prediction; rows without a label are no error where they are only scored.

    Args:
        sets: the sets of a stage.
        actions: what `check_actions` returned.
        known: sorted texts (`sorted_texts`) of the rows of splits that are not among these sets.
        kinds: of bad rows, in the order in which they are judged.

    Raises:
        UserError: there are rows of a kind whose action is `error`, or a set has no row left.
    """
    judged: dict[int, _Judged] = {}
    chosen: dict[Split, list[Chosen]] = {split: [] for split in COMPARED}
    texts = dict(known or {})
    for split, others in COMPARED.items():
        for number, one in enumerate(sets):
            if one.split != split:
                continue
            seen = {kind: texts[other] for kind, other in SEEN.items() if other in others and other in texts}
            earlier = chosen["train"] if split == "train" else []
            judged[number] = _judge_set(one, seen, earlier, actions, kinds)
            chosen[split].append(Chosen(one.marks, judged[number][0]))
        if chosen[split] and len(judged) < len(sets):
            texts[split] = {form: np.concatenate([*sorted_texts(chosen[split], form)]) for form in FORMS}
    masks = [judged[number][0] for number in range(len(sets))]
    reports = [judged[number][1] for number in range(len(sets))]
    meaning = {kind: bad.are for kind, bad in kinds.items() if any(kind in one["found"] for one in reports)}
    report: Report = {"on_bad_rows": dict(actions), "meaning": meaning, "sets": reports}
    return Judgement([None if mask.all() else mask for mask in masks], report, chosen)


def _judge_set(
    one: SetMarks,
    seen: Mapping[str, Hashes],
    earlier: Sequence[Chosen],
    actions: Mapping[str, Action],
    kinds: Mapping[str, BadRows],
) -> _Judged:
    kept = np.ones(len(one.marks), np.bool_)
    duplicates = np.zeros(0, np.bool_)
    report: SetReport = {
        "split": one.split, "name": one.name, "place": one.place, "rows": len(kept), "kept": len(kept), "found": {}
    }  # fmt: skip
    for kind, bad in kinds.items():
        rows = _rows_of(kind, Chosen(one.marks, kept), seen, earlier)
        if kind == "duplicate":
            duplicates = rows
        if kind == "near_duplicate":
            rows &= ~duplicates
        if not rows.any():
            continue
        action = _action(kind, one.split, actions)
        if action == "error":
            raise _error(kind, bad, one, rows)
        report["found"][kind] = _found(one, rows, action)
        if (exactly := _exactly(kind, Chosen(one.marks, rows), seen)) is not None:
            report["found"][kind]["exact"] = int(exactly.sum())
        if action == "drop":
            kept &= ~rows
    report["kept"] = int(kept.sum())
    if not report["kept"]:
        dropped = [f"{found['dropped']} {kind}" for kind, found in report["found"].items() if found["dropped"]]
        why = f": on_bad_rows drops all {len(kept)} ({', '.join(dropped)}); mend them, or keep some" if dropped else ""
        raise UserError(f"{one.place}: no row is left for {one.split}{why}")
    return kept, report


def _action(kind: str, split: Split, actions: Mapping[str, Action]) -> Action:
    if split == "predict" or (kind == "unlabelled" and split != "train" and actions[kind] == "error"):
        return "keep"
    return actions[kind]


def _found(one: SetMarks, rows: Mask, action: Action) -> Found:
    count = int(rows.sum())
    places = first(rows, EXAMPLES)
    dropped = count if action == "drop" else 0
    return {"count": count, "dropped": dropped, "examples": [one.row(row) for row in places], "rows": places}


def _error(kind: str, bad: BadRows, one: SetMarks, rows: Mask) -> UserError:
    found = _found(one, rows, "error")
    first, *others = found["examples"]
    then = f" (then: {', '.join(others)})" if others else ""
    return UserError(
        f"{one.place}: {found['count']} of {len(rows)} rows {bad.are}, the first is {first}; {bad.fix}, "
        f"or set on_bad_rows: {{{kind}: drop}}{then}"
    )


def _rows_of(kind: str, kept: Chosen, seen: Mapping[str, Hashes], earlier: Sequence[Chosen]) -> Mask:
    """Returns which of the kept rows are of a kind `[rows]`; `earlier` rows are those of training sets before."""
    marks = kept.marks
    if kind == "mixed_line_ends":
        return marks.shows(kind) & kept.rows | _unlike_most(kept)
    if kind in marks.kinds:
        return marks.shows(kind) & kept.rows
    written = Chosen(marks, kept.rows & (marks.exact != 0))
    if kind == "contradicting_labels":
        return contradicting(written, "normal")
    if kind in SEEN:
        return among(written, seen[kind], "normal") if kind in seen else np.zeros(len(kept.rows), np.bool_)
    return repeated(written, earlier, "exact" if kind == "duplicate" else "normal")


def _unlike_most(kept: Chosen) -> Mask:
    """Says which rows have line ends, and not those that most rows have `[rows]`."""
    rows, counts = np.zeros(len(kept.rows), np.bool_), np.zeros(LF | CRLF | CR, np.int64)
    for stretch in stretches(len(rows)):
        ends = kept.marks.only(stretch).line_ends()
        counts += np.bincount(ends[kept.rows[stretch]], minlength=len(counts) + 1)[1:]
    most = max((LF, CRLF, CR), key=lambda kind: counts[kind - 1])
    others = [kind for kind in (LF, CRLF, CR) if kind != most]
    for stretch in stretches(len(rows)):
        rows[stretch] = np.isin(kept.marks.only(stretch).line_ends(), others)
    return rows & kept.rows


def _exactly(kind: str, rows: Chosen, seen: Mapping[str, Hashes]) -> Mask | None:
    """Returns which of the rows of a kind are so character by character; `None` = that is not asked."""
    if kind == "contradicting_labels":
        return contradicting(rows, "exact")
    return among(rows, seen[kind], "exact") if kind in SEEN else None
