"""Which columns hold the text, the second text and the label: given by name, or guessed where there is one reading."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from datasets import ClassLabel, Value

from lit_ft.errors import UserError, did_you_mean

Names = str | list[str]

TEXT_NAMES = ("text", "sentence")
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
LABEL_NAMES = ("label", "labels")


def as_list(names: Names | None) -> list[str]:
    """Returns a list for a name, a list of names, or nothing."""
    if not names:
        return []
    return [names] if isinstance(names, str) else list(names)


def check_columns(wanted: Iterable[str], present: Sequence[str], place: str) -> None:
    """Raises a `UserError` with the closest name for the first of `wanted` that is not in `present`."""
    for name in wanted:
        if name not in present:
            raise UserError(f"{place} has no column {name!r}; columns: {list(present)}{did_you_mean(name, present)}")


def text_of(cell: Any) -> str:
    """Returns the text of a cell, none where there is nothing; of a number, as it is written."""
    return "" if cell is None else str(cell)


def texts_of(rows: Mapping[str, Sequence[Any]], names: Sequence[str], delimiter: str = " ") -> list[str]:
    """Returns the text of each row, of one column, or of several joined; of a number, as it is written.

    Args:
        rows: cells by column.
        names: the columns.
        delimiter: what joins several.
    """
    columns = [[text_of(cell) for cell in rows[name]] for name in names]
    return columns[0] if len(columns) == 1 else [delimiter.join(cells) for cells in zip(*columns, strict=True)]


def check_texts(wanted: Iterable[str], features: Mapping[str, Any], place: str) -> None:
    """Raises a `UserError` for the first column that holds lists or the like where a text is expected."""
    for name in wanted:
        if not is_plain(features[name]):
            raise UserError(
                f"{place}: column {name!r} is nested ({features[name]}), not text; name another column, or flatten "
                "it in the file"
            )


def is_plain(feature: Any) -> bool:
    """Says whether a column holds single values: texts, numbers or names of classes."""
    return isinstance(feature, (Value, ClassLabel))


def is_text(feature: Any) -> bool:
    """Says whether a column holds strings."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def string_column(features: Mapping[str, Any], given: str | None, place: str) -> str:
    """Returns the column of strings that is given, or else `text`, or else the only one.

    Raises:
        UserError: there is no such column, it holds something else, or there is more than one reading.
    """
    strings = [name for name, feature in features.items() if is_text(feature)]
    held = {name: str(getattr(feature, "dtype", feature)) for name, feature in features.items()}
    if given:
        check_columns([given], list(features), place)
        if given not in strings:
            raise UserError(f"{place}: column {given!r} holds {held[given]}, not text; columns of text: {strings}")
        return given
    if "text" in strings or len(strings) == 1:
        return "text" if "text" in strings else strings[0]
    if not strings:
        raise UserError(f"{place}: no column of text; columns: {held}")
    raise UserError(f"{place}: which column is the text? columns: {list(features)}; set text_column_name")


def guess_text_columns(present: Sequence[str], label_columns: Sequence[str], place: str) -> tuple[list[str], list[str]]:
    """Finds the text column, or the two of a pair, in this order: known pairs, known names, the only one there is.

    Returns:
        The names of the text columns and of the pair columns (empty for single texts).

    Raises:
        UserError: there is more than one reading.
    """
    rest = [name for name in present if name not in label_columns]
    pairs = [pair for pair in PAIR_NAMES if set(pair) <= set(rest)]
    singles = [name for name in TEXT_NAMES if name in rest and not any(name in pair for pair in pairs)]
    if len(pairs) == 1 and not singles:
        return [pairs[0][0]], [pairs[0][1]]
    if len(singles) == 1 and not pairs:
        return singles, []
    if len(rest) == 1:
        return rest, []
    raise UserError(f"{place}: which column is the text? columns: {list(present)}; set text_column_names")


class TextColumns(NamedTuple):
    """Columns of a text, or of a pair of texts, and of what is to be said of it.

    Attributes:
        texts: those that make the text.
        pairs: those that make the second text; empty = there is none.
        labels: those of the label; empty = none is known.
        guessed: whether the texts are read off the names of columns.
    """

    texts: list[str]
    pairs: list[str]
    labels: list[str]
    guessed: bool


def find_text_columns(
    present: Sequence[str], place: str, texts: Names, pairs: Names, labels: Names, known: Mapping[str, Any]
) -> TextColumns:
    """Takes the columns that are asked for, else those that a checkpoint knows, else guesses.

    Args:
        present: the columns that there are.
        place: how messages name the rows.
        texts: the user's columns of the text.
        pairs: the user's columns of the second text.
        labels: the user's columns of the label.
        known: description of a checkpoint, or nothing.

    Raises:
        UserError: the text can be read in more than one way.
    """
    of_labels = as_list(labels) or known.get("label_columns") or guess_label_column(present)
    if texts:
        return TextColumns(as_list(texts), as_list(pairs), of_labels, False)
    if "text_columns" in known:
        return TextColumns(known["text_columns"], known["pair_columns"], of_labels, False)
    guessed, beside = guess_text_columns(present, of_labels + as_list(pairs), place)
    return TextColumns(guessed, as_list(pairs) or beside, of_labels, True)


def guess_label_column(present: Sequence[str]) -> list[str]:
    """Returns `label` or `labels` when exactly one of them is there, else nothing."""
    found = [name for name in LABEL_NAMES if name in present]
    return found if len(found) == 1 else []


def require_label_column(present: Sequence[str], place: str) -> list[str]:
    """Returns the guessed label column, or raises a `UserError` that lists the columns."""
    found = guess_label_column(present)
    if not found:
        raise UserError(f"{place}: which column is the label? columns: {list(present)}; set label_column_name")
    return found
