"""CoNLL files: a word a line with its columns, a blank line between sentences -> one row a sentence, a list a column.

CoNLL-2003, CoNLL-U and GermEval are layouts of it; what differs is seen in the file.
"""

import re
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from lit_ft.data.reading.formats.common import Chunks, Position, ReadOptions, TextStart, shorten, text_start
from lit_ft.data.reading.formats.lines import FindEnds, Offsets, check_line_ends, line_ends, read_records
from lit_ft.errors import UserError

UNIVERSAL = ["number", "tokens", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]
"""Columns of CoNLL-U (universaldependencies.org/format.html)."""
ID, OPENS_DOCUMENT = "id", "opens_document"
"""What a row has beside its columns: the id that a comment gives, and whether a document begins with it."""

_DOCUMENT = "-DOCSTART-"
_ID = re.compile(r"#\s*(?:sent_id\s*=?|id\b\s*=?)\s*(\S+)")
FIRST = 50
"""Words that tell the layout."""
_BLANK = " \t\r"
"""What may stand around cells; other spaces (U+00A0, U+3000) are characters like any other."""
_TAG = re.compile(r"O|[BIESLU]-\S+")


def read_conll(path: Path, options: ReadOptions, position: Position | None, rows: int, universal: bool) -> Chunks:
    """Reads sentences.

    Columns are separated by tabs where the first word's line has any, else by spaces. They are called
    `options.column_names`, else `tokens`, `column_2`, ... and the last one `tags`; a first column that counts the words
    of each sentence (GermEval) is `number`. Lines that begin with `#` before a sentence's first word are comments;
    words over several tokens (`1-2`) and empty ones (`1.1`) of CoNLL-U are not read.

    Args:
        path: the file.
        options: names of the columns.
        position: where to go on; `None` = the beginning.
        rows: most sentences in a chunk.
        universal: the columns are those of CoNLL-U.

    Raises:
        UserError: a line has more or fewer columns than the first one.
    """
    start = text_start(path)
    layout = _layout(path, start, options, universal)
    find_ends = partial(_sentence_ends, line_ends(start.newline), start.newline)
    return read_records(path, start, position or start.position, rows, find_ends, partial(_parse, layout))


@dataclass(frozen=True)
class _Layout:
    path: Path
    newline: bytes
    separator: str | None
    names: list[str]
    counts: bool
    universal: bool

    @property
    def width(self) -> int:
        return len(self.names)

    def cells(self, line: str) -> list[str]:
        if self.separator is None:
            return re.split(r"[ \t]+", line.strip(_BLANK))
        cells = [cell.strip(" ") for cell in line.rstrip("\r").split(self.separator)]
        while len(cells) > max(self.width, 1) and not cells[-1]:  # tabs at the end
            cells.pop()
        return cells

    def is_comment(self, line: str) -> bool:
        """Says whether a line before a sentence's first word is none of its words; a word may be `#`."""
        if not line.startswith("#"):
            return False
        cells = self.cells(line)
        if self.universal or self.counts or len(cells) != self.width:
            return True
        return self.separator is None and line.startswith("# ") and not _TAG.fullmatch(cells[-1])


def _layout(path: Path, start: TextStart, options: ReadOptions, universal: bool) -> _Layout:
    lines = start.head.decode("utf-8", "replace").split(start.newline.decode())
    found = (line for line in lines if line.strip(_BLANK) and not line.startswith(("#", _DOCUMENT)))
    words = list(islice(found, FIRST))
    if not words:
        raise UserError(f"{path}: no line with a word in it")
    separator = "\t" if "\t" in words[0].strip(_BLANK) else None
    layout = _Layout(path, start.newline, separator, [], False, universal)
    width = len(layout.cells(words[0]))
    firsts = [layout.cells(line)[0] for line in words]
    counts = not universal and width > 2 and firsts[0] == "1" and all(cell.isdecimal() for cell in firsts)
    names = options.column_names or (UNIVERSAL if universal else _names(width, counts))
    if universal and options.column_names is None and width != len(UNIVERSAL):
        raise UserError(f"{path}: {width} columns, but CoNLL-U has {len(UNIVERSAL)}; name the file .conll")
    if len(names) != width:
        raise UserError(f"{path}: {width} columns, but column_names gives {len(names)} names: {shorten(words[0])}")
    return _Layout(path, start.newline, separator, names, counts, universal)


def _names(width: int, counts: bool) -> list[str]:
    first = ["number", "tokens"] if counts else ["tokens"]
    others = [f"column_{number}" for number in range(len(first) + 1, width)]
    return [*first, *others, "tags"][:width]


def _sentence_ends(all_ends: FindEnds, newline: bytes, content: bytes) -> Offsets:
    """Finds the offsets of sentences behind blank lines; a document's first line stays with what follows it."""
    ends = all_ends(content)
    begins = np.append(0, ends)
    codes = np.frombuffer(content, np.uint8)
    blank = np.isin(codes[begins[:-1]], np.frombuffer(b" \t\r\n", np.uint8))
    for line in np.flatnonzero(blank).tolist():  # few: what begins with a space may have more
        blank[line] = not content[begins[line] : begins[line + 1]].strip(b" \t\r\n")
    # a line after a blank one: what comes before it is whole, if it is there
    opens = np.flatnonzero(blank[:-1] & ~blank[1:]) + 1
    kept, waiting = [], bool(content[: len(_DOCUMENT)] == _DOCUMENT.encode())
    for line in opens.tolist():
        start = int(begins[line])
        if not waiting and start:
            kept.append(start)
        waiting = content[start : start + len(_DOCUMENT)] == _DOCUMENT.encode()
    return np.array(kept, np.int64)


def _parse(layout: _Layout, content: bytes, text: str, at: Position) -> pa.Table:
    check_line_ends(content, layout.path, at["line"], layout.newline)
    columns: dict[str, list[list[str]]] = {name: [] for name in layout.names}
    ids: list[str | None] = []
    opened: list[bool] = []
    words: list[list[str]] = []
    sentence_id, opens = None, False

    def close() -> None:
        nonlocal sentence_id, opens
        if words:
            for name, cells in zip(layout.names, zip(*words, strict=True), strict=True):
                columns[name].append(list(cells))
            ids.append(sentence_id)
            opened.append(opens)
            sentence_id, opens = None, False
            words.clear()

    for number, line in enumerate(text.split(layout.newline.decode()), start=at["line"]):
        if not line.strip(_BLANK):
            close()
        elif line.startswith(_DOCUMENT) or (not words and line.startswith("# newdoc")):
            close()
            opens = True
        elif not words and layout.is_comment(line):
            sentence_id = found[1] if (found := _ID.match(line)) else sentence_id
        else:
            cells = layout.cells(line)
            if layout.universal and not cells[0].isdecimal():
                continue
            if len(cells) != layout.width:
                raise UserError(
                    f"{layout.path}: line {number}: {len(cells)} columns, but {layout.width} in the first line with a "
                    f"word: {shorten(line)}"
                )
            words.append(cells)
    close()
    if not ids:
        return pa.table({})
    lists = {name: pa.array(cells, pa.list_(pa.string())) for name, cells in columns.items()}
    return pa.table({ID: pa.array(ids, pa.string()), OPENS_DOCUMENT: pa.array(opened), **lists})
