"""What is done about bad rows: their kinds, what a user may ask for, and the judgement over the rows of all sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lit_ft.data.quality_marks import OF_A_ROW, Form, RowMarks
from lit_ft.data.quality_report import Found, Report, SetReport, Split
from lit_ft.data.quality_text import CR, CRLF, LF
from lit_ft.errors import UserError, did_you_mean

Action = Literal["keep", "drop", "error"]
Mask = NDArray[np.bool_]
Hashes = dict[Form, NDArray[np.uint64]]
"""Sorted hashes, of texts as they stand and in normal form."""

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
}
"""The kinds of bad rows, in the order in which they are judged: a row that goes for one is of none that comes later."""


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
    """Which rows stay `[rows]` (one mask per set; `None` = all), what is to be reported, and the texts trained on."""

    kept: list[Mask | None]
    report: Report
    texts: Hashes


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


def judge(sets: Sequence[SetMarks], actions: Mapping[str, Action], trained_on: Hashes | None = None) -> Judgement:
    """Decides which rows stay.

    Training sets are judged first, as one: what is dropped from them, no row was seen in. Of duplicates the first row
    stays, of contradicting rows none, of rows seen in train that of train. Rows to predict all stay, as each needs its
    prediction; rows without a label are no error where they are only scored.

    Args:
        sets: all sets of a stage.
        actions: what `check_actions` returned.
        trained_on: the texts of an earlier stage's training rows, where this one has none: its `Judgement.texts`.

    Raises:
        UserError: there are rows of a kind whose action is `error`, or a set has no row left.
    """
    judged: dict[int, _Judged] = {}
    own: list[RowMarks] = []
    for number, one in enumerate(sets):
        if one.split == "train":
            judged[number] = _judge_set(one, _sorted([]), _sorted([part.keys for part in own]), actions)
            own.append(one.marks.only(judged[number][0]))
    texts = _sorted([part.texts for part in own]) if own else trained_on or _sorted([])
    for number, one in enumerate(sets):
        if one.split != "train":
            known = _sorted([]) if one.split == "predict" else texts
            judged[number] = _judge_set(one, known, _sorted([]), actions)
    masks = [judged[number][0] for number in range(len(sets))]
    reports = [judged[number][1] for number in range(len(sets))]
    meaning = {kind: bad.are for kind, bad in KINDS.items() if any(kind in report["found"] for report in reports)}
    report: Report = {"on_bad_rows": dict(actions), "meaning": meaning, "sets": reports}
    return Judgement([None if mask.all() else mask for mask in masks], report, texts)


def _judge_set(one: SetMarks, train: Hashes, earlier: Hashes, actions: Mapping[str, Action]) -> _Judged:
    kept = np.ones(len(one.marks), np.bool_)
    report: SetReport = {
        "split": one.split, "name": one.name, "place": one.place, "rows": len(kept), "kept": len(kept), "found": {}
    }  # fmt: skip
    for kind in KINDS:
        rows = _rows_of(kind, one, kept, train, earlier)
        if not rows.any():
            continue
        action = _action(kind, one.split, actions)
        if action == "error":
            raise _error(kind, one, rows)
        report["found"][kind] = _found(one, rows, action)
        if kind in _EXACTLY:
            report["found"][kind]["exact"] = int(_EXACTLY[kind](one.marks.only(rows), train).sum())
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
    examples = [one.row(row) for row in np.flatnonzero(rows)[:EXAMPLES].tolist()]
    return {"count": count, "dropped": count if action == "drop" else 0, "examples": examples}


def _error(kind: str, one: SetMarks, rows: Mask) -> UserError:
    bad, found = KINDS[kind], _found(one, rows, "error")
    first, *others = found["examples"]
    then = f" (then: {', '.join(others)})" if others else ""
    return UserError(
        f"{one.place}: {found['count']} of {len(rows)} rows {bad.are}, the first is {first}; {bad.fix}, "
        f"or set on_bad_rows: {{{kind}: drop}}{then}"
    )


def _rows_of(kind: str, one: SetMarks, kept: Mask, train: Hashes, earlier: Hashes) -> Mask:
    """Returns which of the kept rows are of a kind `[rows]`; `earlier` rows are those of training sets before."""
    marks = one.marks
    if kind == "mixed_line_ends":
        return (marks.shows(kind) | _unlike_most(marks, kept)) & kept
    if kind in OF_A_ROW:
        return marks.shows(kind) & kept
    rows: Mask = kept & (marks.exact != 0)
    compared = marks if rows.all() else marks.only(rows)
    rows[rows] = {
        "contradicting_labels": lambda: _contradicting(compared.normal, compared.label),
        "duplicate": lambda: _known(compared, earlier, "exact"),
        "near_duplicate": lambda: _known(compared, earlier, "normal") & ~_known(compared, earlier, "exact"),
        "seen_in_train": lambda: _among(compared.normal, train["normal"]),
    }[kind]()
    return rows


def _unlike_most(marks: RowMarks, kept: Mask) -> Mask:
    ends = np.where(kept, marks.line_ends(), 0)
    counts = {kind: int((ends == kind).sum()) for kind in (LF, CRLF, CR)}
    most = max(counts, key=lambda kind: counts[kind])
    return np.isin(ends, [kind for kind in counts if kind != most])


def _sorted(parts: Sequence[Callable[[Form], NDArray[np.uint64]]]) -> Hashes:
    """Returns the sorted hashes of all parts, by form; `parts` are methods of marks."""
    none = np.zeros(0, np.uint64)
    forms: tuple[Form, Form] = ("exact", "normal")
    hashes: Hashes = {form: np.concatenate([none, *(part(form) for part in parts)]) for form in forms}
    for each in hashes.values():
        each.sort()
    return hashes


def _known(marks: RowMarks, earlier: Hashes, form: Form) -> Mask:
    """Says which texts with their label there were before, in this set or an earlier one `[rows]`."""
    keys = marks.keys(form)
    return np.asarray(_repeated(keys) | _among(keys, earlier[form]))


def _among(hashes: NDArray[np.uint64], known: NDArray[np.uint64]) -> Mask:
    """Says which hashes there are among sorted ones `[rows]`; `np.isin` takes many times as long."""
    if not len(known):
        return np.zeros(len(hashes), np.bool_)
    places = np.searchsorted(known, hashes)
    np.minimum(places, len(known) - 1, out=places)
    return np.asarray(known[places] == hashes)


def _twins(keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Returns the rows whose key is that of another row; few, so that what follows costs little memory."""
    ordered = np.sort(keys)
    return np.flatnonzero(_among(keys, np.unique(ordered[1:][ordered[1:] == ordered[:-1]])))


def _repeated(keys: NDArray[np.uint64]) -> Mask:
    """Says which keys there were before `[rows]`."""
    repeated = np.zeros(len(keys), np.bool_)
    twins = _twins(keys)
    order = twins[np.argsort(keys[twins], kind="stable")]
    repeated[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return repeated


def _contradicting(texts: NDArray[np.uint64], labels: NDArray[np.uint64]) -> Mask:
    """Says which labelled rows share their text with a row that is labelled otherwise `[rows]`."""
    twins = _twins(texts)
    labelled = twins[labels[twins] != 0]
    order = labelled[np.argsort(texts[labelled], kind="stable")]
    rows = np.zeros(len(labels), np.bool_)
    if not len(order):
        return rows
    text, label = texts[order], labels[order]
    starts = np.flatnonzero(np.concatenate([[True], text[1:] != text[:-1]]))
    differ = np.minimum.reduceat(label, starts) != np.maximum.reduceat(label, starts)
    rows[order] = np.repeat(differ, np.diff(np.append(starts, len(order))))
    return rows


_EXACTLY: dict[str, Callable[[RowMarks, Hashes], Mask]] = {
    "contradicting_labels": lambda marks, train: _contradicting(marks.exact, marks.label),
    "seen_in_train": lambda marks, train: _among(marks.exact, train["exact"]),
}
"""Of the rows of these kinds, those that are so character by character."""
