"""JSON under any name: which of its shapes a file has, seen from its beginning."""

import json
from collections.abc import Collection
from pathlib import Path

from lit_ft.data.reading.formats.common import Chunks, Position, TextStart, opened, shorten, text_start
from lit_ft.data.reading.formats.json_array import read_json_array, read_json_object
from lit_ft.data.reading.formats.json_lines import read_json_lines
from lit_ft.data.reading.formats.lines import decode
from lit_ft.errors import UserError


def read_json(path: Path, lines: bool, position: Position | None, rows: int, as_text: Collection[str]) -> Chunks:
    """Reads an array of objects, or lines of them, or one object.

    Args:
        path: the file.
        lines: its name says one object a line; else that is found out from the first line.
        position: where to go on.
        rows: most rows in a chunk.
        as_text: columns whose scalars become text in any case.

    Raises:
        UserError: the file begins with neither an object nor an array.
    """
    start = text_start(path)
    first = start.head.lstrip()[:1]
    if first == b"[":
        return read_json_array(path, start, position, rows, as_text)
    if lines or (first == b"{" and _is_lines(path, start)):
        return read_json_lines(path, start, position or start.position, rows, as_text)
    if first == b"{":
        return read_json_object(path, start, position, rows, as_text)
    line = 1 + start.head[: len(start.head) - len(start.head.lstrip())].count(b"\n")
    found = decode(start.head.strip()[:20].splitlines()[0], path, line) if first else "nothing in the first megabytes"
    raise UserError(f"{path}: line {line}: expected a JSON object or array, found {shorten(found)}")


def _is_lines(path: Path, start: TextStart) -> bool:
    """Says whether the first line is a whole object and another follows."""
    with opened(path, start.position["byte"]) as stream:
        line = b""
        while not line.strip():
            line = stream.readline()
        rest = b""
        while not rest.strip() and (block := stream.readline()):
            rest = block
    if not rest.strip():
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
