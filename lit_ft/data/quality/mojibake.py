"""Finds texts that were UTF-8 and read as Latin-1 or Windows-1252, by patterns that real text does not have."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_OTHER = 1
_LONGEST = 6
"""Bytes that the longest pattern looks at."""

_LOWER = rb"[a-z\xdf-\xff]"
_REST = rb"[\x80-\xbf]"
_RARE = rb"\x80\x82-\x84\x86-\x8c\x8e\x98\x9a\x9c\x9e\x9f"
"""Of the bytes after the first, those that as characters do not follow a letter; quotes, dashes and dots do."""

_MISREAD = re.compile(
    _LOWER + rb"[\xc2-\xc5]" + _REST  # a capital A in a word, then a sign
    + rb"|[\xc2-\xc5][\xa0-\xaa\xac-\xba\xbc-\xbf" + _RARE + rb"](?=" + _LOWER + rb")"  # the same at a word's start
    + rb"|[\xc3-\xc5][\xa1-\xa9\xac\xaf\xb4-\xb6\xb8\xbc-\xbf" + _RARE + rb"]"  # and among capitals
    + rb"|\xc2[\xa1-\xa9\xac\xaf\xb0\xb4-\xb8\xbf]|(?<![^\0\s.,:;!?)])\xc2\xa0"  # pound, degree; the hard space
    + rb"|\xe2\x80|\xe2[\x99" + _RARE + rb"]" + _REST  # quotes, dashes, euro, arrows, stars
    + rb"|\xf0\x9f|\xef\xbb\xbf|\xef\xbf\xbd"  # emoji, byte-order mark, replacement character
    + rb"|(?:[\xc3-\xdf]" + _REST + rb"){3}|(?:[\xe0-\xef]" + _REST + rb"{2}){2}"  # words in other scripts
)  # fmt: skip


def _table() -> NDArray[np.uint8]:
    """Returns the byte that each character is taken for `[code points]`; `_OTHER` where it stands for none."""
    table = np.full(0x110000, _OTHER, np.uint8)
    table[:256] = range(256)
    for byte in range(0x80, 0xA0):
        table[ord(bytes([byte]).decode("cp1252", "replace"))] = byte
    table[0xFFFD] = _OTHER
    return table


_BYTES = _table()


def garbled(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Says which texts are garbled, at least in part `[texts]`.

    A text is called garbled for what no language writes: a letter of Latin-1 with a sign behind it that together are
    one character of UTF-8, the replacement character, or a control character above ASCII.
    """
    rows = np.array([row for row, text in enumerate(texts) if not text.isascii()], np.int64)
    joined = "\0".join(texts[row] for row in rows.tolist())
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
    ends = np.cumsum([len(texts[row]) + 1 for row in rows.tolist()], dtype=np.int64) - 1
    found = np.zeros(len(texts), np.bool_)
    lost = np.flatnonzero((codes >= 0x80) & (codes < 0xA0) | (codes == 0xFFFD))
    found[rows[np.searchsorted(ends, lost)]] = True
    # expressions are slow: they look only where there are the first two bytes of a character
    read = _BYTES[codes]
    pairs = np.flatnonzero((read[:-1] >= 0xC2) & (read[:-1] < 0xF5) & (read[1:] >= 0x80) & (read[1:] < 0xC0))
    content = read.tobytes()
    for place, row in zip(pairs.tolist(), rows[np.searchsorted(ends, pairs)].tolist(), strict=True):
        found[row] = found[row] or _MISREAD.search(content, max(place - 1, 0), place + _LONGEST) is not None
    return found
