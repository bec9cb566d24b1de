"""Longest common subsequences by bits: one operation on a long whole number in place of a row of a table."""

from collections.abc import Sequence

Places = dict[str, int]
"""At which places of a text each word stands, as bits."""


def places(words: Sequence[str]) -> Places:
    """Returns where each word of a text stands."""
    found: Places = {}
    for at, word in enumerate(words):
        found[word] = found.get(word, 0) | 1 << at
    return found


def table(words: Sequence[str], others: Places, width: int) -> list[int]:
    """Returns the rows of the table of common lengths, as bits (Hyyrö 2004).

    Args:
        words: of one text.
        others: the other text's.
        width: how many words that has.

    Returns:
        Whole numbers, one more than `words`: of the first i words and the first j of the other text, the longest common
        subsequence is as long as there are zeros in the lowest j bits of the i-th.
    """
    full = row = (1 << width) - 1
    rows = [row]
    for word in words:
        both = row & others.get(word, 0)
        row = ((row + both) | (row - both)) & full
        rows.append(row)
    return rows


def common_length(words: Sequence[str], others: Places, width: int) -> int:
    """Returns the length of the longest common subsequence; arguments as of `table`."""
    return width - table(words, others, width)[-1].bit_count()


def common_places(words: Sequence[str], others: Places, width: int) -> set[int]:
    """Returns at which places of `words` the longest common subsequence stands; arguments as of `table`.

    Of several as long it is the one that rouge_score's way back through the table finds.
    """
    rows, found = table(words, others, width), set()
    row, column = len(words), width
    length = width - rows[-1].bit_count()
    while length:
        if others.get(words[row - 1], 0) >> (column - 1) & 1:
            row, column, length = row - 1, column - 1, length - 1
            found.add(row)
        elif column - (rows[row - 1] & ((1 << column) - 1)).bit_count() < length:
            column -= 1
        else:
            row -= 1
    return found
