"""What all formats share: the options, the place in a file, opening it, and what its first bytes say."""

import codecs
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO, Literal, cast, get_args

import pyarrow as pa

from lit_ft.errors import UserError
from lit_ft.ranges import check_choice

Quoting = Literal["minimal", "none"]
SampleBy = Literal["line", "paragraph", "document"]
Position = dict[str, int]
Chunks = Iterator[tuple[Position, pa.Table]]

BLOCK = 1 << 22
"""Bytes read at once."""
LONGEST = 1 << 28
"""Bytes that one row may take; more is a quote or a bracket that is never closed."""

_OTHER_CONTENT = {
    b"\x1f\x8b": "is compressed with gzip: its name must end in .gz",
    b"PK\x03\x04": "is a zip archive (or an Excel file): unpack it, or save it as csv",
    b"PAR1": "is a parquet file: its name must end in .parquet",
    b"ARROW1": "is an Arrow file: its name must end in .arrow",
    b"version https://git-lfs": "is a pointer of git-lfs, not the data: run `git lfs pull`",
    codecs.BOM_UTF32_LE: "is UTF-32",
    codecs.BOM_UTF16_LE: "is UTF-16",
    codecs.BOM_UTF16_BE: "is UTF-16",
}


@dataclass(frozen=True)
class ReadOptions:
    """How delimited and plain text are read.

    Args:
        column_names: names of the columns of files that have no header line.
        quoting: `minimal` (fields may stand in double quotes) or `none` (a quote is a character like any other).
        delimiter: the separator; `None` means comma for csv and tab for tsv.
        sample_by: what a row of a txt file is; see `lit_ft.data.reading.formats.text.read_text`.
        keep_linebreaks: rows of txt files keep the line ends, and blank lines, that follow them.
        as_conll: extensions of files that hold a word a line, beside conll and conllu.
        sides: names of source and target of parallel text files, whose extensions may be any.
    """

    column_names: list[str] | None = None
    quoting: Quoting = "minimal"
    delimiter: str | None = None
    sample_by: SampleBy = "line"
    keep_linebreaks: bool = False
    as_conll: tuple[str, ...] = ()
    sides: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        check_choice({"sample_by": self.sample_by}, "sample_by", get_args(SampleBy))
        if not isinstance(self.keep_linebreaks, bool):
            raise UserError(f"keep_linebreaks is {self.keep_linebreaks!r}, expected true or false")


@contextmanager
def opened(path: Path, byte: int = 0) -> Iterator[BinaryIO]:
    """Opens a file, decompressed when its name ends in `.gz`, at a byte of its (decompressed) content.

    Raises:
        UserError: the file cannot be read, is no complete gzip file, or ends before that byte.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            stream.seek(byte)
            if byte > (stream.tell() if path.suffix == ".gz" else os.fstat(stream.fileno()).st_size):
                raise UserError(f"{path}: reading stopped at byte {byte}, but the file is shorter now; it was changed")
            yield cast(BinaryIO, stream)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a complete gzip file ({error}); download or compress it again") from None
    except PermissionError:
        raise UserError(f"{path}: permission denied; make it readable for this user (chmod +r {path.name})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None


def shorten(value: Any, length: int = 60) -> str:
    """Returns the beginning of a text, or of what a value is written as, for a message."""
    text = str(value)
    text = text if len(text) <= length else text[:length] + "..."
    return repr(text) if isinstance(value, str) else text


def piped(path: Path, command: str) -> str:
    """Returns the line for a shell that writes a file anew through a command."""
    unpacked = path.name.removesuffix(".gz")
    return f"{'zcat' if path.suffix == '.gz' else 'cat'} {quote(path.name)} | {command} > {quote('new-' + unpacked)}"


@dataclass(frozen=True)
class TextStart:
    """Where the text of a file begins (behind a byte-order mark), and the byte that ends its lines."""

    position: Position
    newline: bytes
    head: bytes


def text_start(path: Path) -> TextStart:
    """Looks at the first bytes of a file of text.

    Raises:
        UserError: the file is empty, or its bytes are those of another format or encoding.
    """
    with opened(path) as stream:
        head = stream.read(BLOCK)
        _check_content(head, path)
        mark = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
        blank = not head[mark:].strip()
        while blank and (more := stream.read(BLOCK)):
            blank = not more.strip()
    if blank:
        raise UserError(f"{path}: the file is empty")
    # lone carriage returns end the lines of a file that has nothing else to end them
    newline = b"\r" if b"\n" not in head and b"\r" in head[:-1] else b"\n"
    return TextStart({"byte": mark, "line": 1, "row": 0}, newline, head[mark:])


def _check_content(head: bytes, path: Path) -> None:
    for magic, what in _OTHER_CONTENT.items():
        if head.startswith(magic):
            raise UserError(f"{path}: the file {what}{_recode(what, path)}")
    pairs = len(head[:400]) // 2
    for first, name in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        if pairs and head[first:400:2].count(0) > pairs * 0.6 and head[1 - first : 400 : 2].count(0) < pairs * 0.2:
            what = f"is {name}"
            raise UserError(f"{path}: the file {what}{_recode(what, path)}")


def _recode(what: str, path: Path) -> str:
    encoding = what.removeprefix("is ")
    if not encoding.startswith("UTF"):
        return ""
    return f", not UTF-8; convert it: {piped(path, f'iconv -f {encoding} -t UTF-8')}"
