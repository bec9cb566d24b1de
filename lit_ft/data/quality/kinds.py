"""Kinds of bad rows: what they are, what can be done about them, and what a user may ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lit_ft.data.quality.marks import MOST_OWN
from lit_ft.errors import UserError, did_you_mean

Action = Literal["keep", "drop", "error"]


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
    "cut": BadRows("lose tokens", "let rows be longer"),  # by which option, each task says
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
"""Those of every task, in the order in which they are judged: a row that goes for one is of none that comes later."""


def kinds_with(own: Mapping[str, BadRows]) -> dict[str, BadRows]:
    """Returns the kinds of every task and those of one; these are judged after rows without a label that is known.

    Raises:
        UserError: there are too many, or one is there already.
    """
    if len(own) > MOST_OWN or own.keys() & KINDS:
        raise UserError(f"bad_rows: at most {MOST_OWN} kinds with names of their own: {list(own)}")
    after = list(KINDS).index("unknown_label") + 1
    kinds = list(KINDS.items())
    return dict([*kinds[:after], *own.items(), *kinds[after:]])


def check_actions(on_bad_rows: Mapping[str, str], kinds: Mapping[str, BadRows] = KINDS) -> dict[str, Action]:
    """Returns what is to be done about each kind: as asked for, else the default.

    Raises:
        UserError: there is no such kind, no such action, or the kind does not allow it.
    """
    actions = {kind: bad.default for kind, bad in kinds.items()}
    for kind, action in on_bad_rows.items():
        if kind not in kinds:
            raise UserError(f"on_bad_rows: there is no kind {kind!r}; kinds: {list(kinds)}{did_you_mean(kind, kinds)}")
        known: dict[str, Action] = {known: known for known in get_args(Action)}
        if action not in known:
            guess = did_you_mean(str(action), known)
            raise UserError(f"on_bad_rows: {kind}: {action!r} is none of {', '.join(known)}{guess}")
        if known[action] not in kinds[kind].may:
            raise UserError(
                f"on_bad_rows: {kind}: {action} cannot be: these rows {kinds[kind].are}; "
                f"use {' or '.join(kinds[kind].may)}"
            )
        actions[kind] = known[action]
    return actions
