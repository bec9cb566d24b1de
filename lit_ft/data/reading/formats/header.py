"""The header line of delimited text: its names, and the signs that it is none or that the delimiter is another."""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lit_ft.data.reading.formats.common import Quoting, shorten
from lit_ft.errors import UserError

LONGEST_NAME = 100
"""Characters; a longer header cell is a text."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_DELIMITERS = {",": "','", ";": "';'", "\t": 'a tab ("\\t")', "|": "'|'"}


def fields_of(lines: Iterable[str], delimiter: str, quoting: Quoting) -> Any:
    """Returns the standard library's reader of delimited text: slow, but it says where it is."""
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL)


def check_names(names: Sequence[str], place: str) -> None:
    """Refuses names that cannot name columns.

    Args:
        names: the names.
        place: the file and the line of the header, or the option that they come from.

    Raises:
        UserError: a name is empty, appears twice, holds a line end or a byte-order mark, or is as long as data are.
    """
    for number, name in enumerate(names, start=1):
        if len(name) > LONGEST_NAME:
            raise _is_data(place, f"{shorten(name)} is too long for a column's name")
        pandas_index = number == 1 < len(names) and not name
        if not name.strip() and not pandas_index:
            raise UserError(
                f"{place}: column {number} of the header has no name ({shorten(list(names), 200)}); "
                "name it, or take the column out"
            )
        if found := re.search("[\n\r\ufeff]", name):
            what = "a byte-order mark" if found.group() == "\ufeff" else "a line end (a stray quote before it?)"
            raise UserError(f"{place}: column {number} of the header, {shorten(name)}, holds {what}; rename the column")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"{place}: columns {repeated} appear twice in the header; rename one "
            "(or set column_names, if the file has no header line)"
        )


def likely_delimiter(lines: Sequence[str], delimiter: str, quoting: Quoting, fields: int | None = None) -> str:
    """Returns how to write the delimiter that splits all lines, two at least, into the same number of fields.

    Args:
        lines: the first records.
        delimiter: the one that it is not.
        quoting: how the fields are quoted.
        fields: the number there must be; `None` = any above one.

    Returns:
        An empty string when there is no such delimiter.
    """
    for candidate, written in _DELIMITERS.items():
        if candidate == delimiter:
            continue
        try:
            counts = {len(fields) for line in lines for fields in fields_of([line], candidate, quoting)}
        except csv.Error:
            continue
        if len(counts) == 1 and (
            counts == {fields} if fields else (len(lines) >= 2 and counts > {1}) or min(counts) > 1
        ):
            return written
    return ""


def check_not_data(names: Sequence[str], table: pa.Table, path: Path, line: int) -> None:
    """Refuses a header that the rows below it show to be a row itself.

    A header cell is data if it is a number above nothing but numbers (pandas' names 0, 1, 2, ... are no data), or if it
    appears in at least two rows and in 1 % of the rows below it.

    Raises:
        UserError: the header is data, with `column_names` as the way out.
    """
    place = f"{path}: line {line}"
    counted = list(names) == [str(number) for number in range(len(names))]
    for name, column in zip(names, table.columns, strict=True):
        values = column.drop_null()
        if not len(values):
            continue
        if not counted and re.match(_NUMBER, name) and pc.all(pc.match_substring_regex(values, _NUMBER)).as_py():
            raise _is_data(place, f"{name!r} is a number like all values below it")
        same = pc.sum(pc.equal(values, name)).as_py()
        if same >= 2 and same >= len(values) / 100:
            raise _is_data(place, f"{shorten(name)} appears again in {same} of the first {len(table)} rows")


def check_no_second_header(names: Sequence[str], table: pa.Table, given: bool, path: Path, first: int) -> None:
    """Refuses a row that is the header once more, as files have that were joined with their headers.

    Raises:
        UserError: the number of the row, from 1.
    """
    if len(names) < 2 or pc.index(table.column(0), names[0]).as_py() < 0:
        return
    same = pc.equal(table.column(0), names[0])
    for number in range(1, len(names)):
        same = pc.and_kleene(same, pc.equal(table.column(number), names[number]))
    row = pc.index(same, True).as_py()
    if row >= 0:
        fix = "leave column_names out, the file has a header line" if given and first + row == 1 else "delete it"
        raise UserError(f"{path}: row {first + row} repeats the columns' names {list(names)}; {fix}")


def _is_data(place: str, why: str) -> UserError:
    return UserError(
        f"{place}: the header looks like a row of data: {why}; has the file no header line? set column_names "
        "(else rename the column)"
    )
