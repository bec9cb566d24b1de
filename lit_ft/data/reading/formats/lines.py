"""Text in records that end at line ends: read in blocks, checked, parsed in chunks, with a place after each."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lit_ft.data.reading.formats.common import BLOCK, LONGEST, Chunks, Position, TextStart, opened, piped
from lit_ft.errors import UserError

Offsets = npt.NDArray[np.int64]
FindEnds = Callable[[bytes], Offsets]
Parse = Callable[[bytes, str, Position], pa.Table]

LONE_RETURN = rb"\r(?![\r\n])"


def line_ends(newline: bytes) -> FindEnds:
    """Returns a function that finds the offsets behind the line ends of a block."""
    return lambda content: np.flatnonzero(np.frombuffer(content, np.uint8) == newline[0]) + 1


def read_records(
    path: Path, start: TextStart, position: Position, rows: int, find_ends: FindEnds, parse: Parse
) -> Chunks:
    """Reads records from a position on.

    Args:
        path: the file.
        start: what is known of its text.
        position: where the first record begins.
        rows: most records in a chunk.
        find_ends: gives the offsets behind each whole record of a block that begins with a record.
        parse: makes a table of whole records, given as bytes and as text, and the position they begin at.
    """
    with opened(path, position["byte"]) as stream:
        pending, more = b"", True
        while more:
            size = max(BLOCK, len(pending))
            block = stream.read(size)
            more = len(block) == size
            pending += block
            ends = find_ends(pending)
            if not more and pending and (not len(ends) or ends[-1] < len(pending)):
                ends = np.append(ends, len(pending))
            if not len(ends) and len(pending) > LONGEST:
                raise UserError(
                    f"{path}: line {position['line']}: the row that begins here takes more than {LONGEST >> 20} MB; "
                    "a quote that is never closed?"
                )
            begin = 0
            for end in [int(end) for end in (*ends[rows - 1 :: rows], *ends[-1:])]:
                if end == begin:
                    continue
                piece = pending[begin:end]
                table = parse(piece, decode(piece, path, position["line"]), position)
                position = {
                    "byte": position["byte"] + len(piece),
                    "line": position["line"] + piece.count(start.newline),
                    "row": position["row"] + table.num_rows,
                }
                begin = end
                if table.num_rows:
                    yield position, table
            pending = pending[begin:]


def decode(content: bytes, path: Path, line: int) -> str:
    """Decodes text that begins at a line.

    Raises:
        UserError: a byte is not UTF-8, or is NUL; its line is named.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line += content.count(b"\n", 0, error.start)
        raise UserError(
            f"{path}: line {line} is not UTF-8 (byte {content[error.start]:#04x}); "
            f"convert the file: {piped(path, 'iconv -f latin1 -t utf-8')}"
        ) from None
    if (place := content.find(b"\0")) >= 0:
        line += content.count(b"\n", 0, place)
        tr_null = r"tr -d '\000'"
        raise UserError(
            f"{path}: line {line} holds a NUL byte: the file is damaged or no text; take it out: {piped(path, tr_null)}"
        )
    return text


def check_line_ends(content: bytes, path: Path, line: int, newline: bytes) -> None:
    """Refuses carriage returns within the lines of a file whose lines end otherwise, and the other way round.

    Raises:
        UserError: where such a line end is, and how to make them alike.
    """
    if newline == b"\n" and content.count(b"\r") == content.count(b"\r\n"):
        return
    if found := re.search(LONE_RETURN if newline == b"\n" else b"\n", content):
        raise mixed_line_ends(path, line + content.count(newline, 0, found.start()), newline)


def mixed_line_ends(path: Path, line: int, newline: bytes) -> UserError:
    """Returns the error for a line end of another kind than the file's others."""
    one_kind = r"tr '\r' '\n'"
    found, others = ("carriage return", "line feeds") if newline == b"\n" else ("line feed", "carriage returns")
    return UserError(
        f"{path}: line {line} holds a lone {found}, but lines of this file end in {others}: one row or two? "
        f"make them alike: {piped(path, one_kind)}, or delete it (tr -d '\\r')"
    )
