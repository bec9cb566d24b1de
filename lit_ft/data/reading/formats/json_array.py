"""JSON: an array of objects, decoded one by one from a window that slides over the file; or one object, read whole."""

import codecs
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

from lit_ft.data.reading.formats.common import BLOCK, LONGEST, Chunks, Position, TextStart, opened, shorten
from lit_ft.data.reading.formats.lines import decode
from lit_ft.data.reading.formats.rows import rows_to_table
from lit_ft.data.reading.formats.squad import flat_questions, is_squad
from lit_ft.errors import UserError

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def read_json_array(
    path: Path, start: TextStart, position: Position | None, rows: int, as_text: Collection[str] = ()
) -> Chunks:
    """Reads `[{...}, {...}]`; a position is the place behind an element."""
    if position and not position["open"]:
        return
    with opened(path, (position or start.position)["byte"]) as stream:
        window = _Window(stream, path, position or {**start.position, "column": 1})
        if position is None:
            window.expect("[")
        batch: list[dict[str, Any]] = []
        number = window.place["row"]
        ended = number == 0 and window.next_character() == "]"
        while not ended:
            if number:
                ended = window.expect(",]") == "]"
            if not ended:
                batch.append(window.value())
                number += 1
            if batch and (ended or len(batch) == rows):
                table = rows_to_table(batch, str(path), number - len(batch) + 1, as_text)
                yield window.advance(number, ended), table
                batch = []
        if number == 0:
            window.expect("]")
        if window.next_character():
            raise window.broken("Extra data", window.offset)


def read_json_object(
    path: Path, start: TextStart, position: Position | None, rows: int, as_text: Collection[str] = ()
) -> Chunks:
    """Reads the one list of objects that an object holds, or the object as the only row; of SQuAD the questions."""
    with opened(path, start.position["byte"]) as stream:
        text = decode(stream.read(), path, 1)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}, column {error.colno}: broken JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: JSON that cannot be read ({error})") from None
    lists = [cell for cell in value.values() if isinstance(cell, list) and cell and isinstance(cell[0], dict)]
    records = lists[0] if len(lists) == 1 else [value]
    if is_squad(records):
        records = list(flat_questions(records, str(path)))  # contexts are shared, so this takes little memory
    for first in range(position["row"] if position else 0, len(records), rows):
        batch = records[first : first + rows]
        yield {"row": first + len(batch)}, rows_to_table(batch, str(path), first + 1, as_text)


class _Window:
    """The part of a text that is being decoded; `place` is where in the file it begins."""

    def __init__(self, stream: BinaryIO, path: Path, place: Position) -> None:
        self.stream, self.path, self.place = stream, path, place
        self.text, self.offset = "", 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def next_character(self) -> str:
        """Returns the next one that is no white space, or nothing at the end of the file."""
        while True:
            match = _SPACE.match(self.text, self.offset)
            self.offset = match.end() if match else self.offset
            if self.offset < len(self.text) or not self._more():
                return self.text[self.offset : self.offset + 1]

    def expect(self, wanted: str) -> str:
        """Passes over one character, which must be one of those wanted."""
        found = self.next_character()
        if not found or found not in wanted:
            expected = " or ".join(repr(character) for character in wanted)
            what = repr(found) if found else "the end of the file: was it cut?"
            raise self.broken(f"expected {expected}, found {what}", self.offset)
        self.offset += 1
        return found

    def value(self) -> dict[str, Any]:
        """Decodes the object that comes next."""
        self.next_character()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.offset)
                break
            except json.JSONDecodeError as error:
                # an error far from the window's end is none that more text would mend; an open string may be long
                broken = self.broken(error.msg, error.pos)
                near = error.msg.startswith("Unterminated string") or len(self.text) - error.pos < 64
                if len(self.text) - self.offset > LONGEST or not near or not self._more():
                    raise broken from None
            except (ValueError, RecursionError) as error:
                raise self.broken(str(error), self.offset) from None
        if not isinstance(value, dict):
            line, column = self._line_and_column(self.offset)
            raise UserError(
                f"{self.path}: line {line}, column {column}: expected an object with named columns, "
                f"found {shorten(self.text[self.offset : end])}"
            )
        self.offset = end
        return value

    def advance(self, row: int, ended: bool) -> Position:
        """Moves the window's beginning to where decoding has come; returns that place."""
        self._cut()
        self.place = {**self.place, "row": row, "open": int(not ended)}
        return self.place

    def broken(self, reason: str, offset: int) -> UserError:
        """Returns the error for an offset in the window."""
        line, column = self._line_and_column(offset)
        return UserError(f"{self.path}: line {line}, column {column}: broken JSON ({reason})")

    def _line_and_column(self, offset: int) -> tuple[int, int]:
        lines = self.text.count("\n", 0, offset)
        column = offset - self.text.rfind("\n", 0, offset) if lines else self.place["column"] + offset
        return self.place["line"] + lines, column

    def _cut(self) -> None:
        line, column = self._line_and_column(self.offset)
        byte = self.place["byte"] + len(self.text[: self.offset].encode())
        self.place = {**self.place, "byte": byte, "line": line, "column": column}
        self.text, self.offset = self.text[self.offset :], 0

    def _more(self) -> bool:
        self._cut()
        block = self.stream.read(max(BLOCK, len(self.text)))
        try:
            self.text += self._utf8.decode(block, final=not block)
        except UnicodeDecodeError as error:
            before = self.place["line"] + self.text.count("\n")
            decode(error.object, self.path, before)
        return bool(block)
