"""Delimited text (csv, tsv): Arrow's parser on pieces that are cut at the ends of records, every cell a string."""

import codecs
import csv
import io
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lit_ft.data.reading.formats.common import Chunks, Position, ReadOptions, TextStart, shorten, text_start
from lit_ft.data.reading.formats.header import (
    check_names,
    check_no_second_header,
    check_not_data,
    fields_of,
    likely_delimiter,
)
from lit_ft.data.reading.formats.lines import (
    FindEnds,
    Offsets,
    check_line_ends,
    line_ends,
    read_records,
)
from lit_ft.errors import UserError

_SAMPLE_LINES = 20


def read_delimited(
    path: Path, options: ReadOptions, position: Position | None, rows: int, default_delimiter: str
) -> Chunks:
    """Reads records; an empty cell is null, blank lines are skipped."""
    start = text_start(path)
    layout = _layout(path, options, start, options.delimiter or default_delimiter)
    at = layout.first if position is None else position
    for after, table in read_records(path, start, at, rows, layout.find_ends, partial(_parse, layout)):
        at = after
        yield after, table
    if at["row"] == 0:
        raise UserError(f"{path}: only a header, no rows; columns: {layout.names}")


@dataclass(frozen=True)
class _Layout:
    path: Path
    options: ReadOptions
    newline: bytes
    delimiter: str
    names: list[str]
    first: Position  # of the first record below the header
    find_ends: FindEnds

    @property
    def quoted(self) -> re.Pattern[bytes] | None:
        return None if self.options.quoting == "none" else _quoted(self.delimiter)


def _quoted(delimiter: str) -> re.Pattern[bytes]:
    """Matches a quoted field, also one that is never closed; a quote within an unquoted field is a character."""
    before = re.escape(delimiter.encode())
    # begins with the quote itself, which is found fast; what stands before it is looked at afterwards
    return re.compile(rb'"(?:(?<=[\n\r' + before + rb']")|(?<!."))[^"]*+(?:""[^"]*+)*+(?P<closed>")?', re.DOTALL)


def _record_ends(delimiter: str, options: ReadOptions, newline: bytes) -> FindEnds:
    all_ends = line_ends(newline)
    if options.quoting == "none":
        return all_ends
    quoted = _quoted(delimiter)

    def find(content: bytes) -> Offsets:
        ends = all_ends(content)
        if b'"' not in content:
            return ends
        spans = np.array([match.span() for match in quoted.finditer(content)], np.int64).reshape(-1, 2)
        begun, ended = (np.searchsorted(spans[:, side], ends - 1, "right") for side in (0, 1))
        outside: Offsets = ends[begun == ended]
        return outside

    return find


def _layout(path: Path, options: ReadOptions, start: TextStart, delimiter: str) -> _Layout:
    if len(delimiter.encode()) != 1 or delimiter in '"\n\r\0':
        raise UserError(
            f'{path}: delimiter {delimiter!r} must be one character, no quote or line end (a tab in YAML is "\\t")'
        )
    find_ends = _record_ends(delimiter, options, start.newline)
    make = partial(_Layout, path, options, start.newline, delimiter, find_ends=find_ends)
    if options.column_names is not None:
        check_names(options.column_names, f"{path}: column_names")
        return make(names=options.column_names, first=start.position)
    lines, first = _first_records(path, start, find_ends)
    (line, header), *below = lines
    if '"' not in header:
        check_line_ends(header.encode(), path, line, start.newline)
    try:
        names = next(fields_of([header], delimiter, options.quoting))
    except csv.Error as error:
        raise UserError(f"{path}: line {line}: the header cannot be read ({error}); a stray quote?") from None
    if len(names) == 1 and below:
        likely = likely_delimiter([record for _, record in lines], delimiter, options.quoting)
        if likely:
            raise UserError(
                f"{path}: line {line}: the header {shorten(header)} is one column when split at {delimiter!r}; "
                f"is the delimiter {likely}? set delimiter"
            )
    check_names(names, f"{path}: line {line}")
    return make(names=names, first=first)


def _first_records(path: Path, start: TextStart, find_ends: FindEnds) -> tuple[list[tuple[int, str]], Position]:
    """Returns the first records with their lines, and the place behind the first; blank lines are skipped."""
    records: list[tuple[int, str]] = []
    first = start.position

    def collect(content: bytes, text: str, at: Position) -> pa.Table:
        if text.strip("\r\n"):
            records.append((at["line"], text.rstrip("\r\n")))
        return pa.table({"line": [text]})

    for position, _ in read_records(path, start, start.position, 1, find_ends, collect):
        if len(records) == 1:
            first = {**position, "row": 0} if first is start.position else first
        if len(records) == _SAMPLE_LINES:
            break
    return records, first


def _parse(layout: _Layout, content: bytes, text: str, at: Position) -> pa.Table:
    if not content.strip(b"\r\n"):
        return pa.table({})
    _check_marks(layout, content, at["line"])
    broken: list[Any] = []

    def keep(row: Any) -> str:
        broken.append(row)
        return "skip"

    quoted = layout.options.quoting == "minimal"
    table = pa.csv.read_csv(
        # Arrow would take a byte-order mark away; behind a blank line it is part of the cell
        pa.BufferReader(b"\n" + content if content.startswith(codecs.BOM_UTF8) else content),
        # one thread: with several, rows do not come in order
        read_options=pa.csv.ReadOptions(
            column_names=layout.names, use_threads=False, block_size=max(len(content) + 2, 1 << 16)
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=layout.delimiter,
            quote_char='"' if quoted else False,
            newlines_in_values=quoted,
            invalid_row_handler=keep,
        ),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(layout.names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        ),
    )
    if broken:
        raise _ragged(layout, broken[0], text, at)
    given = layout.options.column_names is not None
    if not given and at["byte"] == layout.first["byte"]:
        check_not_data(layout.names, table, layout.path, at["line"] - 1)
    check_no_second_header(layout.names, table, given, layout.path, at["row"] + 1)
    return table


def _check_marks(layout: _Layout, content: bytes, line: int) -> None:
    """Refuses quotes that do not enclose a field (they would be lost), and line ends of several kinds around fields."""
    if layout.quoted is None or b'"' not in content:
        check_line_ends(content, layout.path, line, layout.newline)
        return
    behind = (b"", b"\r", b"\n", layout.delimiter.encode())
    for match in layout.quoted.finditer(content):
        if not match["closed"] or content[match.end() : match.end() + 1] not in behind:
            line += content.count(layout.newline, 0, match.start())
            what = "is never closed" if not match["closed"] else "is closed in the middle of a field"
            found = shorten(content[match.start() : match.end() + 20][:200].decode(errors="replace"))
            raise UserError(
                f"{layout.path}: line {line}: the quote that opens here {what}: {found}; "
                "stray quotes in the text? try `quoting: none`"
            )
    if layout.newline == b"\r" or content.count(b"\r") != content.count(b"\r\n"):
        other = b"\r" if layout.newline == b"\n" else b"\n"
        outside = layout.quoted.sub(lambda match: match.group().replace(other, b" "), content)
        check_line_ends(outside, layout.path, line, layout.newline)


def _ragged(layout: _Layout, row: Any, text: str, at: Position) -> UserError:
    records = fields_of(io.StringIO(text, newline=""), layout.delimiter, layout.options.quoting)
    read = 0
    for fields in records:
        if fields and len(fields) != len(layout.names):
            break
        read = records.line_num
    reason = f"Expected {row.expected_columns} columns, got {row.actual_columns}: {shorten(row.text)}"
    if layout.options.column_names is not None:
        reason += f"; column_names gives {len(layout.names)} names"
    likely = likely_delimiter([row.text], layout.delimiter, layout.options.quoting, len(layout.names))
    first = at["byte"] == layout.first["byte"] and read == 0
    if likely and first and row.actual_columns == 1:
        hint = f"is the delimiter {likely}? set delimiter"
    elif layout.options.quoting == "minimal" and '"' in row.text:
        hint = "stray quotes in the text? try `quoting: none`"
    else:
        hint = f"a field that holds {layout.delimiter!r} or a line end must stand in double quotes"
    return UserError(f"{layout.path}: line {at['line'] + read}: {reason}; {hint}")
