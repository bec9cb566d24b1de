"""Plain text: one row a line, a paragraph, or a piece of a document, in the column `text`."""

import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lit_ft.data.reading.formats.common import LONGEST, Chunks, Position, ReadOptions, text_start
from lit_ft.data.reading.formats.lines import FindEnds, Offsets, check_line_ends, line_ends, read_records
from lit_ft.errors import UserError

ToRows = Callable[[bytes, Position], dict[str, list[bytes] | list[int]]]

DOCUMENT_PIECE = 1 << 16
"""Most bytes of a row that is a piece of a document."""
PIECES_AT_ONCE = 64
"""Most pieces in a chunk. Of a mapped file of many small chunks, finding the chunks alone loads all pages."""
PART_BITS = 24
"""A piece's `document_part` is `crc32(path) << PART_BITS | number of the piece`."""

_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b"))  # a log may hold colours, an old file end in Ctrl-Z
_BINARY = {
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"%PDF-": "a PDF document: extract its text",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"BZh": "compressed with bzip2: unpack it",
    b"\xfd7zXZ": "compressed with xz: unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
}


def read_text(path: Path, options: ReadOptions, position: Position | None, rows: int) -> Chunks:
    r"""Reads text, in rows as `options.sample_by` says; every line end becomes `\n`.

    - `line`: an empty line is a row with an empty text.
    - `paragraph`: lines up to a blank one. A line of nothing but spaces, tabs, form feeds and the like is blank, and
      several blank lines are as good as one, so that no paragraph is empty. With `keep_linebreaks` the blank lines are
      part of the paragraph before them (at the file's beginning: of the first).
    - `document`: the whole file, in pieces of at most `DOCUMENT_PIECE` bytes that end with a line where there is an end
      in them, else behind a space or tab, else between any two characters. A second column `document_part` (int64) is
      `crc32(path) << 24 | number of the piece`: a row goes on with the text of the row before exactly where its value
      is one more. Where pieces are cut depends on the content alone.
    """
    start = text_start(path)
    _check_no_binary(path, start.head)
    find_ends, to_rows = {
        "line": (line_ends(start.newline), _lines(options)),
        "paragraph": (_paragraph_ends(path, start.newline), _paragraphs(options)),
        "document": (_piece_ends(start.newline), _piece(path)),
    }[options.sample_by]

    def parse(content: bytes, _: str, at: Position) -> pa.Table:
        check_line_ends(content, path, at["line"], start.newline)
        # a return that is left is part of a line feed, or the file has no line feeds
        plain = content.replace(b"\r", b"" if start.newline == b"\n" else b"\n")
        columns = to_rows(plain, at)
        texts = pa.array(columns.pop("text"), pa.string())
        return pa.table({"text": texts, **{name: pa.array(cells, pa.int64()) for name, cells in columns.items()}})

    at = position or start.position
    if options.sample_by == "document":  # one by one: the edges of several are not to be found again in their text
        return _gathered(read_records(path, start, at, 1, find_ends, parse), min(rows, PIECES_AT_ONCE))
    return read_records(path, start, at, rows, find_ends, parse)


def _gathered(chunks: Chunks, size: int) -> Chunks:
    while some := list(islice(chunks, size)):
        yield some[-1][0], pa.concat_tables([table for _, table in some]).combine_chunks()


def first_line(path: Path, options: ReadOptions) -> int:
    """Returns the line, from 1, that the first row of a text file begins at."""
    start = text_start(path)
    if options.sample_by != "paragraph" or options.keep_linebreaks:
        return 1
    begins, filled = _filled_lines(start.head, start.newline)
    return 1 + int(np.argmax(filled)) if filled.any() else len(begins)


def _check_no_binary(path: Path, head: bytes) -> None:
    what = next((what for magic, what in _BINARY.items() if head.startswith(magic)), None)
    sample = head if what else head[:4096]  # a text may begin with BZh, too, but holds no control characters then
    controls = len(sample) - len(sample.translate(None, _CONTROL))
    if controls > (0 if what else 0.05 * len(sample)):
        raise UserError(f"{path}: the file is binary{f' ({what})' if what else ''}, not text")


def _lines(options: ReadOptions) -> ToRows:
    def rows(content: bytes, _: Position) -> dict[str, list[bytes] | list[int]]:
        # not splitlines(): it also cuts at lone returns, and of str at form feeds and Unicode separators
        if not options.keep_linebreaks:
            return {"text": content.removesuffix(b"\n").split(b"\n")}
        *ended, rest = content.split(b"\n")
        return {"text": [line + b"\n" for line in ended] + [rest] * (rest != b"")}

    return rows


def _filled_lines(content: bytes, newline: bytes) -> tuple[Offsets, npt.NDArray[np.bool_]]:
    """Returns the offset that each line begins at, and whether it holds more than whitespace, both `[lines]`."""
    codes = np.frombuffer(content, np.uint8)
    begins = np.append(0, np.flatnonzero(codes == newline[0]) + 1)
    begins = begins[begins < len(codes)]
    # neither a space nor one of the five bytes from tab to return: below tab the difference wraps around
    dark = (codes - np.uint8(ord("\t")) > ord("\r") - ord("\t")) & (codes != ord(" "))
    return begins, np.logical_or.reduceat(dark, begins) if len(begins) else np.zeros(0, np.bool_)


def _firsts(filled: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Says which lines are the first of a paragraph, `[lines]`."""
    firsts = filled.copy()
    firsts[1:] &= ~filled[:-1]
    return firsts


def _paragraph_ends(path: Path, newline: bytes) -> FindEnds:
    def find(content: bytes) -> Offsets:
        begins, filled = _filled_lines(content, newline)
        # each ends where the next begins: before that, nobody knows how many blank lines there are
        ends: Offsets = begins[_firsts(filled)][1:]
        if not len(ends) and len(content) > LONGEST:
            raise UserError(
                f"{path}: a paragraph takes more than {LONGEST >> 20} MB, there is no blank line in it; "
                "set sample_by: document (pieces of any text) or line"
            )
        return ends

    return find


def _paragraphs(options: ReadOptions) -> ToRows:
    def rows(content: bytes, _: Position) -> dict[str, list[bytes] | list[int]]:
        begins, filled = _filled_lines(content, b"\n")
        starts = begins[_firsts(filled)]
        if options.keep_linebreaks:
            starts[:1] = 0
            ends = np.append(starts[1:], len(content))
        else:
            ends = np.append(begins[1:], len(content))[_firsts(filled[::-1])[::-1]]
            ends = ends - (np.frombuffer(content, np.uint8)[ends - 1] == ord("\n"))
        return {"text": [content[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]}

    return rows


def _piece_ends(newline: bytes) -> FindEnds:
    def find(content: bytes) -> Offsets:
        ends, begin = [], 0
        while len(content) - begin > DOCUMENT_PIECE:
            begin = _piece_end(content, begin, newline)
            ends.append(begin)
        return np.array(ends, np.int64)

    return find


def _piece_end(content: bytes, begin: int, newline: bytes) -> int:
    end = begin + DOCUMENT_PIECE
    for marks in ((newline,), (b" ", b"\t")):
        if (found := max(content.rfind(mark, begin, end) for mark in marks)) >= 0:
            return found + 1
    least = end - 3
    while end > least and content[end] & 0xC0 == 0x80:  # the inner bytes of a character
        end -= 1
    while end > begin + 1 and content[end - 1] == ord("\r"):  # what follows is its line feed
        end -= 1
    return end


def _piece(path: Path) -> ToRows:
    document = zlib.crc32(str(path).encode("utf-8", "surrogateescape")) << PART_BITS

    def rows(content: bytes, at: Position) -> dict[str, list[bytes] | list[int]]:
        if at["row"] >> PART_BITS:
            raise UserError(f"{path}: one document of more than {1 << PART_BITS} pieces; split the file")
        return {"text": [content], "document_part": [document | at["row"]]}

    return rows
