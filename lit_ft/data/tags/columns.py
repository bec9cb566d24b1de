"""Which columns hold the words and the tags of sentences: by name, by number, or where there is one reading."""

from collections.abc import Mapping, Sequence
from typing import Any

from lit_ft.data.labels import is_list_column
from lit_ft.data.reading.columns import check_columns
from lit_ft.data.reading.formats.conll import ID, OPENS_DOCUMENT
from lit_ft.data.reading.raw import RawRows
from lit_ft.errors import UserError

WORDS = ("tokens", "words", "text", "sentence")
"""Names of the column of words where nobody says otherwise."""


def column_of(given: int | str, rows: RawRows) -> str:
    """Returns a column by its name, or by its number in the file: from 1, or from the last one, -1.

    Raises:
        UserError: there is no such column.
    """
    present: list[str] = rows.data.column_names
    if not isinstance(given, int):
        check_columns([given], present, rows.place)
        return given
    if OPENS_DOCUMENT in present:  # what a CoNLL file does not hold has no number there
        present = [name for name in present if name not in (ID, OPENS_DOCUMENT)]
    if not 1 <= abs(given) <= len(present):
        raise UserError(f"{rows.place} has no column {given}; its {len(present)} columns: {present}")
    return present[given - 1 if given > 0 else given]


def guess_words(rows: RawRows) -> str:
    """Returns the column of the words: by a known name, else the first that holds lists, else the first one."""
    present: list[str] = rows.data.column_names
    lists = [name for name in present if is_list_column(rows.data.features, name)]
    known = [name for name in WORDS if name in present]
    return [*known, *lists, *present][0]


def guess_tags(rows: RawRows, words: str) -> str:
    """Returns the column of the tags: the last one beside the words; of lists where there are any.

    Raises:
        UserError: there is no other column.
    """
    others: list[str] = [name for name in rows.data.column_names if name not in (words, ID, OPENS_DOCUMENT)]
    lists = [name for name in others if is_list_column(rows.data.features, name)]
    if not others:
        raise UserError(f"{rows.place} has no column of tags beside {words!r}: set label_column_name")
    return [*others, *lists][-1]


def find_columns(
    sets: Sequence[RawRows], words: int | str, tags: int | str, known: Mapping[str, Any], tagged: bool
) -> tuple[str, Any]:
    """Returns the columns of words and tags: as given, else as a checkpoint knows them, else the only ones there are.

    Args:
        sets: what has the columns.
        words: the user's column of words, by name or number; `""` where none is given.
        tags: the user's column of tags, likewise.
        known: description of a checkpoint, or nothing.
        tagged: there have to be tags; else their column is looked up nowhere, and returned as it is given.

    Raises:
        UserError: a column is missing.
    """
    first, words, tags = sets[0], words or known.get("text_column", ""), tags or known.get("tag_column", "")
    text = column_of(words, first) if words else guess_words(first)
    if tagged:
        tags = column_of(tags, first) if tags else guess_tags(first, text)
    for rows in sets:
        for name in [text, tags] if tagged else [text]:
            column_of(name, rows)
    return text, tags
