"""Rows as Python dicts -> Arrow tables, each column of one kind."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from lit_ft.data.reading.formats.common import shorten
from lit_ft.errors import UserError

SCALARS = {str, int, float, bool}


def rows_to_table(
    rows: Sequence[dict[str, Any]], place: str, first: int = 1, as_text: Collection[str] = ()
) -> pa.Table:
    """Builds a table from a list of dicts; a key that a row lacks is null there, scalars of several kinds become text.

    Args:
        rows: the rows.
        place: how messages name where they come from.
        first: number of the first row in messages.
        as_text: columns whose scalars become text in any case.

    Raises:
        UserError: a row is no dict, or a column holds values of different kinds.
    """
    for number, row in enumerate(rows, start=first):
        if not isinstance(row, dict):
            raise UserError(f"{place}: row {number}: expected an object with named columns, found {shorten(row)}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise UserError(f"{place}: row {first}: the object has no columns")
    columns = []
    for name in names:
        values = [row.get(name) for row in rows]
        if not _is_text(name):
            raise UserError(f"{place}: column name {name!r} holds half of a surrogate pair, which is no character")
        columns.append(_column(values, f"{place}: ", name, first, name in as_text))
    return pa.table(columns, names=names)


def _column(values: list[Any], place: str, name: str, first: int, as_text: bool) -> pa.Array:
    if as_text and all(value is None or type(value) in SCALARS for value in values):
        return texts(values)
    try:
        return pa.array(values)
    except UnicodeEncodeError:
        number = next(number for number, value in enumerate(values, start=first) if not _is_text(value))
        raise UserError(
            f"{place}row {number}, column {name!r}: half of a surrogate pair (such as \\ud83d) is no character; "
            "write the text as UTF-8"
        ) from None
    except (OverflowError, pa.ArrowException, TypeError, ValueError) as error:
        reason = str(error)
    kinds = _first_of_each_kind(values, first)
    if set(kinds) == {list} and (written := _parts_as_text(values)) is not None:
        return written
    if not set(kinds) <= SCALARS:
        if len(kinds) == 1:
            raise UserError(f"{place}column {name!r}: the values inside its {_names(kinds)} differ ({reason})")
        raise UserError(f"{place}column {name!r} mixes values of kinds {_names(kinds)}; make it one kind")
    return texts(values)


def _first_of_each_kind(values: Sequence[Any], first: int) -> dict[type, int]:
    """Returns the number of the first row of each type of value."""
    kinds: dict[type, int] = {}
    for number, value in enumerate(values, start=first):
        if value is not None:
            kinds.setdefault(type(value), number)
    return kinds


def texts(values: Sequence[Any]) -> pa.Array:
    """Writes scalars as Python does."""
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def is_scalar(kind: pa.DataType) -> bool:
    """Says whether values of this kind can be written as text."""
    types = pa.types
    return any(
        check(kind)
        for check in (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    )


def _parts_as_text(values: Sequence[Any]) -> pa.Array | None:
    """Writes lists of short lists of several kinds (`[[0, 5, "PER"]]`, spans with names) as texts; else `None`."""
    lists = [part for value in values if value is not None for part in value]
    if not lists or not all(isinstance(part, list) and all(type(cell) in SCALARS for cell in part) for part in lists):
        return None
    return pa.array(
        [None if value is None else [[str(cell) for cell in part] for part in value] for value in values],
        pa.list_(pa.list_(pa.string())),
    )


def _names(kinds: dict[type, int]) -> str:
    return ", ".join(f"{kind.__name__} (row {number})" for kind, number in kinds.items())


def _is_text(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return False
    return True
