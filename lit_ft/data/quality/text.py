"""Texts -> normal forms that nearly equal texts share, and what is damaged in them; whole batches at a time."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import contains

import numpy as np
from numpy.typing import NDArray

from lit_ft.data.quality.mojibake import garbled

LF, CRLF, CR = 1, 2, 4
"""Bits of the line ends in a text."""

_SEPARATOR = "\0"
_SPACE = 32
_C0 = bytes(set(range(32)) - set(b"\t\n\r"))
_CONTROL = re.compile(f"[{re.escape(_C0.decode())}]")


def normal_forms(cells: Sequence[str]) -> list[bytes]:
    """Returns each text's normal form, in UTF-8.

    Compatible characters (NFKC), letter case, white space and punctuation make no difference, nor do characters that
    nobody sees. Symbols count (emoji, `+`, `$`), and where there is nothing but punctuation, that does, too.
    Empty = nothing in the text can be seen.
    """
    forms = _folded(cells, _without_punctuation)
    bare = [row for row, form in enumerate(forms) if not form and cells[row]]
    for row, form in zip(bare, _folded([cells[row] for row in bare], _visible), strict=True):
        forms[row] = form
    return forms


def damages(cells: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Says of each damage that the texts show which texts show it `[rows]`; most batches show none."""
    joined, found = _SEPARATOR.join(cells), {}
    raw = joined.encode("utf-8", "surrogatepass")
    if len(raw) - len(raw.translate(None, _C0)) >= len(cells):  # separators are one less
        found["control_characters"] = _which(cells, _CONTROL.search)
    if "\ufeff" in joined:
        found["byte_order_mark"] = _which(cells, lambda cell: "\ufeff" in cell)
    if not joined.isascii():
        found["mojibake"] = garbled(cells)
    return found


def line_ends(cells: Sequence[str]) -> NDArray[np.uint16]:
    """Returns the bits of the line ends that each text has `[rows]`."""
    joined = _SEPARATOR.join(cells)
    if "\r" in joined:
        return np.fromiter(map(_line_ends, cells), np.uint16, len(cells))
    if "\n" in joined:
        return np.fromiter(map(contains, cells, repeat("\n")), np.uint16, len(cells)) * np.uint16(LF)
    return np.zeros(len(cells), np.uint16)


def _line_ends(cell: str) -> int:
    pairs = cell.count("\r\n")
    return LF * (cell.count("\n") > pairs) | CRLF * (pairs > 0) | CR * (cell.count("\r") > pairs)


def _which(cells: Sequence[str], test: Callable[[str], object]) -> NDArray[np.bool_]:
    return np.fromiter((bool(test(cell)) for cell in cells), np.bool_, len(cells))


_Stands = Callable[[str], str]


def _visible(char: str) -> str:
    """Returns what stands for a character: itself, a space, or nothing."""
    category = unicodedata.category(char)
    return " " if char.isspace() or category == "Cc" else "" if category == "Cf" else char


def _without_punctuation(char: str) -> str:
    return " " if unicodedata.category(char).startswith("P") else _visible(char)


def _folded(cells: Sequence[str], stands: _Stands) -> list[bytes]:
    """Folds case and compatible characters, puts what `stands` for each character, and leaves single spaces."""
    if not cells:
        return []
    cells = [cell.replace(_SEPARATOR, " ") for cell in cells] if _SEPARATOR in "".join(cells) else list(cells)
    others = [row for row, cell in enumerate(cells) if not cell.isascii()]
    if others:
        text = _SEPARATOR.join(cells[row] for row in others).casefold()
        for char in _beyond_ascii(text):
            if (instead := "".join(map(stands, _folded_char(char)))) != char:
                text = text.replace(char, instead)
        # all that is left to do is to compose letters with marks: NFKC is slow where there is more
        for row, cell in zip(others, unicodedata.normalize("NFKC", text).split(_SEPARATOR), strict=True):
            cells[row] = cell
    raw = _SEPARATOR.join(cells).encode("utf-8", "surrogatepass").translate(_ASCII[stands])
    return [form.strip() for form in _single_spaces(raw).split(_SEPARATOR.encode())]


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _beyond_ascii(text: str) -> list[str]:
    """Returns the different characters of a text that are not ASCII."""
    seen = np.zeros(0x110000, bool)
    seen[_codes(text)] = True
    return [chr(128 + code) for code in np.flatnonzero(seen[128:])]


def _folded_char(char: str) -> str:
    while (folded := unicodedata.normalize("NFKC", char).casefold()) != char:
        char = folded
    return char


def _single_spaces(raw: bytes) -> bytes:
    codes = np.frombuffer(raw, np.uint8)
    space = codes == _SPACE
    space[1:] &= space[:-1].copy()
    if len(space):
        space[0] = False
    return bytes(codes[~space])


def _ascii_table(stands: _Stands) -> bytes:
    ascii_chars = _SEPARATOR + "".join(stands(chr(code)).lower() for code in range(1, 128))
    return ascii_chars.encode() + bytes(range(128, 256))


_ASCII: dict[_Stands, bytes] = {stands: _ascii_table(stands) for stands in (_visible, _without_punctuation)}
