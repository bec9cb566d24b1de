"""Pieces of documents come together, special tokens stand around documents or blocks, however rows are dealt out."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_ft.data.features.ragged import Column, Ragged
from lit_ft.data.grouping.blocks import PART, TextBlocks
from lit_ft.data.grouping.cutting import Sliding, Wrapped

Documents = list[list[list[int]]]
"""Tokens of each piece of each document."""


def rows_of(documents: Documents) -> tuple[list[list[int]], list[int]]:
    pieces = [piece for document in documents for piece in document]
    parts = [(number + 7 << 24) | at for number, document in enumerate(documents) for at in range(len(document))]
    return pieces, parts


def fed(blocks: TextBlocks, pieces: list[list[int]], parts: list[int] | None, cuts: list[int]) -> dict[str, Any]:
    """Feeds rows in several calls and returns the blocks of all of them."""
    came: list[dict[str, Column]] = []
    edges = [0, *sorted(min(cut, len(pieces)) for cut in cuts), len(pieces)]
    for start, stop in pairwise(edges):
        columns: dict[str, Column] = {"input_ids": Ragged.of(pieces[start:stop]), "row": np.arange(start, stop)}
        if parts is not None:
            columns[PART] = np.array(parts[start:stop], np.int64)
        came.append(blocks.add(columns))
    came.append(blocks.finish())
    return {name: [row.tolist() for call in came for row in call[name]] for name in came[0]}


piece = st.lists(st.integers(10, 99), min_size=1, max_size=7)
documents = st.lists(st.just([[]]) | st.lists(piece, min_size=1, max_size=4), min_size=1, max_size=8)


@given(documents, st.lists(st.integers(0, 30), max_size=4), st.integers(2, 9))
def test_documents_in_pieces_are_laid_end_to_end_with_tokens_around_each(
    documents: Documents, cuts: list[int], size: int
) -> None:
    joined = [[token for piece in document for token in piece] for document in documents]
    whole = [token for document in joined if document for token in [1, *document, 2, 3]]
    pieces, parts = rows_of(documents)
    made = fed(TextBlocks(Wrapped(size), size, ([1], [2]), [3]), pieces, parts, cuts)
    assert made == {"input_ids": [whole[at : at + size] for at in range(0, len(whole), size)]}


@given(documents, st.lists(st.integers(0, 30), max_size=4))
def test_lengths_of_documents_do_not_depend_on_their_pieces(documents: Documents, cuts: list[int]) -> None:
    joined = [[token for piece in document for token in piece] for document in documents]
    pieces, parts = rows_of(documents)
    in_pieces = fed(TextBlocks(Wrapped(5), 5, ([], []), [0], isolated=True), pieces, parts, cuts)
    at_once = fed(TextBlocks(Wrapped(5), 5, ([], []), [0], isolated=True), joined, None, [])
    assert in_pieces == at_once


def test_a_piece_whose_neighbour_went_elsewhere_is_a_document_by_itself() -> None:
    # as after a validation split was cut from the pieces of one file
    pieces, parts = [[11], [12], [14], [15], [16]], [7 << 24, 7 << 24 | 1, 7 << 24 | 3, 7 << 24 | 4, 8 << 24]
    made = fed(TextBlocks(Wrapped(50), 50, ([1], [2]), [], isolated=True), pieces, parts, [])
    assert made == {"input_ids": [[1, 11, 12, 2, 1, 14, 15, 2, 1, 16, 2]], "documents": [[4, 4, 3]]}


def test_a_document_of_number_nought_begins_like_any_other() -> None:
    made = fed(TextBlocks(Wrapped(50), 50, ([1], [2]), []), [[11], [12], [13]], [0, 1, 1 << 24], [])
    assert made == {"input_ids": [[1, 11, 12, 2, 1, 13, 2]]}


def test_tokens_around_every_block() -> None:
    blocks = TextBlocks(Wrapped(3), 5, ([], []), [], around_blocks=([1], [2]))
    made = fed(blocks, [[11, 12], [13, 14]], None, [1])
    assert made == {"input_ids": [[1, 11, 12, 13, 2], [1, 14, 2]]}


def test_a_state_goes_on_where_it_was_taken() -> None:
    rows = [[11, 12, 13], [14], [15, 16, 17, 18]]
    columns = [{"input_ids": Ragged.of([row])} for row in rows]
    first, second = (TextBlocks(Wrapped(5), 5, ([], []), [0], isolated=True) for _ in range(2))
    first.add(columns[0])
    second.load(first.state())
    for each in columns[1:]:
        ours, theirs = first.add(each), second.add(each)
        assert [row.tolist() for row in ours["input_ids"]] == [row.tolist() for row in theirs["input_ids"]]
        assert [row.tolist() for row in ours["documents"]] == [row.tolist() for row in theirs["documents"]]


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (
            TextBlocks(Wrapped(4), 4, ([], []), []),
            "2 documents of 10 tokens in 3 blocks of 4 (83.3% full), 1 of them shorter",
        ),
        (
            TextBlocks(Wrapped(4, drop_last=True), 4, ([], []), []),
            "2 tokens did not fill the last block and are dropped",
        ),
        (TextBlocks(Wrapped(64), 64, ([], []), []), "all of it is less than one block"),
        (TextBlocks(Sliding(6, 2), 6, ([], []), []), "2 documents of 10 tokens in 2 blocks of 6"),
    ],
)
def test_what_came_of_it_is_said(blocks: TextBlocks, said: str) -> None:
    fed(blocks, [[1] * 6, [2] * 4], None, [])
    (note,) = blocks.notes()
    assert said in note


def test_nothing_is_explained() -> None:
    blocks = TextBlocks(Wrapped(64, drop_last=True), 64, ([], []), [])
    assert fed(blocks, [[1] * 6], None, []) == {"input_ids": []}
    assert "6 tokens do not fill one block of 64" in blocks.nothing()
    empty = TextBlocks(Wrapped(64), 64, ([], []), [])
    assert fed(empty, [[], []], None, []) == {"input_ids": []}
    assert "no text in 2 documents" in empty.nothing()
