"""Plain text: one row a line, in the column `text`."""

from pathlib import Path

import pyarrow as pa

from lit_ft.data.formats.common import Chunks, Position, ReadOptions, text_start
from lit_ft.data.formats.lines import check_line_ends, line_ends, read_records


def read_text(path: Path, options: ReadOptions, position: Position | None, rows: int) -> Chunks:
    """Reads lines; an empty line is a row with an empty text."""
    start = text_start(path)
    newline = start.newline.decode()

    def parse(content: bytes, text: str, at: Position) -> pa.Table:
        check_line_ends(content, path, at["line"], start.newline)
        # not splitlines(): it also cuts at form feeds and Unicode separators inside a line
        lines = text.removesuffix(newline).split(newline)
        return pa.table({"text": [line.rstrip("\r") for line in lines] if "\r" in text else lines})

    return read_records(path, start, position or start.position, rows, line_ends(start.newline), parse)
