"""JSON, one object a line."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa

from lit_ft.data.reading.formats.common import Chunks, Position, TextStart, shorten
from lit_ft.data.reading.formats.lines import check_line_ends, line_ends, read_records
from lit_ft.data.reading.formats.rows import rows_to_table
from lit_ft.errors import UserError


def read_json_lines(
    path: Path, start: TextStart, position: Position, rows: int, as_text: Collection[str] = ()
) -> Chunks:
    """Reads one object a line; blank lines are skipped."""
    newline = start.newline.decode()

    def parse(content: bytes, text: str, at: Position) -> pa.Table:
        check_line_ends(content, path, at["line"], start.newline)
        lines = enumerate(text.split(newline), start=at["line"])
        values = [_value(line, path, number) for number, line in lines if line and not line.isspace()]
        return rows_to_table(values, str(path), at["row"] + 1, as_text) if values else pa.table({})

    return read_records(path, start, position, rows, line_ends(start.newline), parse)


def _value(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: line {number}: broken JSON ({error.msg}): {shorten(line.strip())}; each line is one whole object"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of open brackets
        raise UserError(f"{path}: line {number}: JSON that cannot be read ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: line {number}: expected an object with named columns, found {shorten(line.strip())}")
    return value
