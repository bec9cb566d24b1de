"""What is done about bad rows: their kinds, what a user may ask for, and the judgement over the rows of all sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

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
from lit_ft.data.quality.marks import OF_A_ROW, RowMarks
from lit_ft.data.quality.report import Found, Report, SetReport
from lit_ft.data.quality.text import CR, CRLF, LF
from lit_ft.data.reading.raw import Split
from lit_ft.errors import UserError, did_you_mean

Action = Literal["keep", "drop", "error"]

EXAMPLES = 5
"""Rows that a report names of each kind."""


@dataclass(frozen=True)
class BadRows:
    """One kind of bad rows.

    Attributes:
        are: what such rows do, after "3 of 200 rows"; shown in the help and in messages.
        fix: what a user can do about it.
        default: what is done when nothing is asked for.
        may: what can be asked for.
    """

    are: str
    fix: str
    default: Action = "keep"
    may: tuple[Action, ...] = ("keep", "drop", "error")


_LOOK = "mend them in the file"
_NOT_KEPT: tuple[Action, ...] = ("drop", "error")

KINDS: dict[str, BadRows] = {
    "empty_text": BadRows("have no text (null, or nothing that can be seen) in a text column", "take them out"),
    "control_characters": BadRows("hold control characters, such as NUL", _LOOK),
    "byte_order_mark": BadRows("hold a byte-order mark (U+FEFF)", "save the file as UTF-8 without it"),
    "mojibake": BadRows(
        "look garbled (UTF-8 that was read as Latin-1 or Windows-1252, or U+FFFD)", "read their source as UTF-8"
    ),
    "mixed_line_ends": BadRows("mix CRLF, CR and LF, or end lines unlike most rows of the set", "use one of them"),
    "unlabelled": BadRows(
        "have no label (empty, null or -1)", "label them or take them out", default="error", may=_NOT_KEPT
    ),
    "unknown_label": BadRows("have a label that train does not have", "mend it", default="error", may=_NOT_KEPT),
    "ill_formed_tags": BadRows("have tags that their scheme does not allow", "mend them"),
    "equal_replies": BadRows("have the same reply as chosen and as rejected", "nothing can be learned from them"),
    "unknown_tokens": BadRows("consist of unknown tokens by more than a fifth", "take a tokenizer of their language"),
    "cut": BadRows("are longer than max_seq_length", "raise max_seq_length"),
    "contradicting_labels": BadRows(
        "have the text of another row (but for case, punctuation and space) and another label", "decide on one label"
    ),
    "duplicate": BadRows("have the text and the label of an earlier row", "take them out"),
    "near_duplicate": BadRows(
        "have the label and, but for case, punctuation and space, the text of an earlier row", "take them out"
    ),
    "seen_in_train": BadRows("have a text (but for case, punctuation and space) that is in train", "take them out"),
    "seen_in_validation": BadRows(
        "have a text (but for case, punctuation and space) that is in validation", "take them out, or test on others"
    ),
}
"""The kinds of bad rows, in the order in which they are judged: a row that goes for one is of none that comes later."""

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
        report = _report(self.report["on_bad_rows"], sets)
        chosen = {split: [*self.chosen[split], *other.chosen[split]] for split in COMPARED}
        return Judgement([*self.kept, *other.kept], report, chosen)


_Judged = tuple[Mask, SetReport]


def check_actions(on_bad_rows: Mapping[str, str]) -> dict[str, Action]:
    """Returns what is to be done about each kind: as asked for, else the default.

    Raises:
        UserError: there is no such kind, no such action, or the kind does not allow it.
    """
    actions = {kind: bad.default for kind, bad in KINDS.items()}
    for kind, action in on_bad_rows.items():
        if kind not in KINDS:
            raise UserError(f"on_bad_rows: there is no kind {kind!r}; kinds: {list(KINDS)}{did_you_mean(kind, KINDS)}")
        known: dict[str, Action] = {known: known for known in get_args(Action)}
        if action not in known:
            guess = did_you_mean(str(action), known)
            raise UserError(f"on_bad_rows: {kind}: {action!r} is none of {', '.join(known)}{guess}")
        if known[action] not in KINDS[kind].may:
            raise UserError(
                f"on_bad_rows: {kind}: {action} cannot be: these rows {KINDS[kind].are}; "
                f"use {' or '.join(KINDS[kind].may)}"
            )
        actions[kind] = known[action]
    return actions


def judge(
    sets: Sequence[SetMarks], actions: Mapping[str, Action], known: Mapping[Split, Hashes] | None = None
) -> Judgement:
    """Decides which rows stay.

    Training sets are judged first, as one: what is dropped from them, no row was seen in. Of duplicates the first row
    stays, of contradicting rows none, of rows seen in train that of train. Rows to predict all stay, as each needs its
    prediction; rows without a label are no error where they are only scored.

    Args:
        sets: the sets of a stage.
        actions: what `check_actions` returned.
        known: sorted texts (`sorted_texts`) of the rows of splits that are not among these sets.

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
            judged[number] = _judge_set(one, seen, chosen["train"] if split == "train" else [], actions)
            chosen[split].append(Chosen(one.marks, judged[number][0]))
        if chosen[split] and len(judged) < len(sets):
            texts[split] = {form: np.concatenate([*sorted_texts(chosen[split], form)]) for form in FORMS}
    masks = [judged[number][0] for number in range(len(sets))]
    report = _report(actions, [judged[number][1] for number in range(len(sets))])
    return Judgement([None if mask.all() else mask for mask in masks], report, chosen)


def _report(actions: Mapping[str, str], sets: list[SetReport]) -> Report:
    meaning = {kind: bad.are for kind, bad in KINDS.items() if any(kind in one["found"] for one in sets)}
    return {"on_bad_rows": dict(actions), "meaning": meaning, "sets": sets}


def _judge_set(
    one: SetMarks, seen: Mapping[str, Hashes], earlier: Sequence[Chosen], actions: Mapping[str, Action]
) -> _Judged:
    kept = np.ones(len(one.marks), np.bool_)
    duplicates = np.zeros(0, np.bool_)
    report: SetReport = {
        "split": one.split, "name": one.name, "place": one.place, "rows": len(kept), "kept": len(kept), "found": {}
    }  # fmt: skip
    for kind in KINDS:
        rows = _rows_of(kind, Chosen(one.marks, kept), seen, earlier)
        if kind == "duplicate":
            duplicates = rows
        if kind == "near_duplicate":
            rows &= ~duplicates
        if not rows.any():
            continue
        action = _action(kind, one.split, actions)
        if action == "error":
            raise _error(kind, one, rows)
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


def _error(kind: str, one: SetMarks, rows: Mask) -> UserError:
    bad, found = KINDS[kind], _found(one, rows, "error")
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
    if kind in OF_A_ROW:
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
