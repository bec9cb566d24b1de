"""Documents cut into blocks: against the scripts' own code, dealt out in any pieces, every token counted."""

import json
from collections.abc import Callable
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_ft.data.features.ragged import Ragged, concatenate
from lit_ft.data.grouping.cutting import Grouper, Separate, Sliding, Wrapped, insert_around
from lit_ft.data.grouping.packing import BestFit
from lit_ft.errors import UserError

Rows = list[list[int]]
Blocks = dict[str, list[Any]]
DTYPES = {"input_ids": np.int32, "word_starts": np.uint8}


Dealt = tuple[Rows, list[bool], list[int]]


@st.composite
def dealt_pieces(draw: st.DrawFn) -> Dealt:
    """Pieces of documents, every token a number of its own; which continue a document; and where new calls begin."""
    drawn = draw(st.lists(st.tuples(st.integers(0, 13), st.booleans(), st.booleans()), max_size=20))
    tokens = iter(range(sum(length for length, _, _ in drawn)))
    rows = [[next(tokens) for _ in range(length)] for length, _, _ in drawn]
    continues = [goes_on and number > 0 for number, (_, goes_on, _) in enumerate(drawn)]
    return rows, continues, [number for number, (_, _, cut) in enumerate(drawn) if cut]


def as_columns(rows: Rows) -> dict[str, Ragged]:
    # the values of each token's second column follow from the token, so a token that loses its own is seen
    return {
        "input_ids": Ragged.of(rows, np.int32),
        "word_starts": Ragged.of([[token % 7 for token in row] for row in rows], np.uint8),
    }


def documents_of(rows: Rows, continues: list[bool]) -> Rows:
    joined: Rows = []
    for row, goes_on in zip(rows, continues, strict=True):
        if goes_on:
            joined[-1] = joined[-1] + row
        else:
            joined.append(row)
    return joined


def grouped(
    make: Callable[[], Grouper], rows: Rows, continues: list[bool], cuts: list[int] | None = None, reload: bool = False
) -> tuple[Blocks, Grouper]:
    """All blocks of a grouper that gets the pieces in several calls, written and read again between them if wished."""
    grouper, given_out = make(), []
    for begin, end in zip([0, *(cuts or [])], [*(cuts or []), len(rows)], strict=True):
        given_out.append(grouper.add(as_columns(rows[begin:end]), np.array(continues[begin:end], bool)))
        if reload:
            state = json.loads(json.dumps(grouper.state()))
            grouper = make()
            grouper.load(state)
    given_out.append(grouper.finish())
    for name, dtype in {**DTYPES, "documents": np.int32}.items():
        assert {part[name].values.dtype for part in given_out} == {np.dtype(dtype)}
        assert all((part[name].offsets[0], part[name].offsets[-1]) == (0, len(part[name].values)) for part in given_out)
    blocks = {name: concatenate([part[name] for part in given_out]).tolist() for name in given_out[0]}
    assert blocks["word_starts"] == [[token % 7 for token in block] for block in blocks["input_ids"]]
    assert [sum(parts) for parts in blocks["documents"]] == [len(block) for block in blocks["input_ids"]]
    assert all(min(parts) > 0 for parts in blocks["documents"])
    return blocks, grouper


def parts_within(blocks: Rows, documents: Rows) -> Rows:
    """Lengths of runs of tokens of the same document, token by token."""
    owner = {token: number for number, document in enumerate(documents) for token in document}
    lengths: Rows = []
    for block in blocks:
        owners = [owner[token] for token in block]
        bounds = [0, *(i for i in range(1, len(owners)) if owners[i] != owners[i - 1]), len(owners)]
        lengths.append([end - begin for begin, end in pairwise(bounds)])
    return lengths


def group_texts(examples: dict[str, Rows], block_size: int) -> dict[str, Rows]:
    """The grouping of transformers' `run_clm.py`, which leaves the remainder out."""
    concatenated = {name: list(chain(*examples[name])) for name in examples}
    total = len(concatenated[next(iter(examples))]) // block_size * block_size
    return {name: [t[i : i + block_size] for i in range(0, total, block_size)] for name, t in concatenated.items()}


def guide_windows(tokens: list[int], block_size: int, guide_stride: int) -> list[tuple[list[int], int]]:
    """The loop of Hugging Face's "Perplexity of fixed-length models": windows, and how many leading tokens are -100."""
    windows, previous_end = [], 0
    for begin in range(0, len(tokens), guide_stride):
        end = min(begin + block_size, len(tokens))
        windows.append((tokens[begin:end], end - begin - (end - previous_end)))
        previous_end = end
        if end == len(tokens):
            break
    return windows


MAKERS: dict[str, Callable[[int], Grouper]] = {
    "wrapped": Wrapped,
    "wrapped, last dropped": lambda size: Wrapped(size, drop_last=True),
    "separate": Separate,
    "sliding": lambda size: Sliding(size, stride=size // 2),
    "best fit": lambda size: BestFit(size, window=2 * size),
}


@given(dealt_pieces(), st.integers(1, 9))
def test_wrapped_gives_the_blocks_of_group_texts_and_then_the_remainder(dealt: Dealt, size: int) -> None:
    rows, continues, cuts = dealt
    blocks, grouper = grouped(lambda: Wrapped(size), rows, continues, cuts)
    reference = group_texts({"input_ids": rows}, size)["input_ids"]
    total = sum(map(len, rows))
    remainder = list(range(total // size * size, total))
    assert blocks["input_ids"] == reference + ([remainder] if remainder else [])
    assert blocks["documents"] == parts_within(blocks["input_ids"], documents_of(rows, continues))
    dropped, counted = grouped(lambda: Wrapped(size, drop_last=True), rows, continues, cuts)
    assert dropped["input_ids"] == reference
    assert counted.counts.dropped == len(remainder)
    assert (grouper.counts.partial, counted.counts.partial) == (bool(remainder), 0)


@given(dealt_pieces(), st.integers(1, 9))
def test_separate_cuts_each_document_by_itself(dealt: Dealt, size: int) -> None:
    rows, continues, cuts = dealt
    blocks, grouper = grouped(lambda: Separate(size), rows, continues, cuts)
    expected = [
        document[i : i + size] for document in documents_of(rows, continues) for i in range(0, len(document), size)
    ]
    assert blocks["input_ids"] == expected
    assert blocks["documents"] == [[len(block)] for block in expected]
    assert blocks.keys() == {"input_ids", "word_starts", "documents"}
    assert grouper.counts.partial == sum(len(block) < size for block in expected)


@given(dealt_pieces(), st.integers(1, 9), st.data())
def test_sliding_gives_the_windows_of_hugging_faces_guide(dealt: Dealt, size: int, data: st.DataObject) -> None:
    rows, continues, cuts = dealt
    stride = data.draw(st.integers(0, size - 1))
    blocks, _ = grouped(lambda: Sliding(size, stride), rows, continues, cuts)
    expected = [
        pair for document in documents_of(rows, continues) for pair in guide_windows(document, size, size - stride)
    ]
    assert list(zip(blocks["input_ids"], blocks["context"], strict=True)) == expected
    assert blocks["documents"] == [[len(block)] for block in blocks["input_ids"]]
    scored = [token for block, context in expected for token in block[context:]]
    assert scored == list(range(sum(map(len, rows))))
    assert all(context < len(block) for block, context in expected)


@settings(max_examples=200)
@pytest.mark.parametrize("name", MAKERS)
@given(dealt=dealt_pieces(), size=st.integers(1, 9))
def test_blocks_depend_neither_on_the_calls_nor_on_a_state_written_between_them(
    name: str, dealt: Dealt, size: int
) -> None:
    rows, continues, cuts = dealt
    at_once, first = grouped(lambda: MAKERS[name](size), rows, continues)
    in_calls, second = grouped(lambda: MAKERS[name](size), rows, continues, cuts)
    reloaded, third = grouped(lambda: MAKERS[name](size), rows, continues, cuts, reload=True)
    assert at_once == in_calls == reloaded
    assert first.counts == second.counts == third.counts


@pytest.mark.parametrize("name", MAKERS)
@given(dealt=dealt_pieces(), size=st.integers(1, 9))
def test_everything_is_counted(name: str, dealt: Dealt, size: int) -> None:
    rows, continues, _ = dealt
    blocks, grouper = grouped(lambda: MAKERS[name](size), rows, continues)
    counts = grouper.counts
    assert counts.documents == continues.count(False)
    assert counts.tokens == sum(map(len, rows))
    assert counts.blocks == len(blocks["input_ids"])
    assert counts.placed == sum(map(len, blocks["input_ids"]))
    assert counts.tokens == counts.dropped + counts.placed - sum(blocks.get("context", []))
    assert counts.fill == pytest.approx(np.mean([len(block) / size for block in blocks["input_ids"]] or [0]))


@pytest.mark.parametrize("name", MAKERS)
@given(first=dealt_pieces(), second=dealt_pieces(), size=st.integers(1, 9))
def test_a_grouper_begins_anew_after_finish(name: str, first: Dealt, second: Dealt, size: int) -> None:
    grouper, fresh = MAKERS[name](size), MAKERS[name](size)
    grouper.add(as_columns(first[0]), np.array(first[1], bool))
    grouper.finish()
    for used in (Grouper.add, Grouper.finish):
        arguments = (as_columns(second[0]), np.array(second[1], bool)) if used is Grouper.add else ()
        given_out = [getattr(each, used.__name__)(*arguments) for each in (grouper, fresh)]
        assert given_out[0].keys() == given_out[1].keys()
        assert all(given_out[0][column].tolist() == given_out[1][column].tolist() for column in given_out[0])


@pytest.mark.parametrize("name", MAKERS)
def test_a_grouper_that_got_nothing_gives_no_blocks(name: str) -> None:
    assert all(len(column) == 0 for column in MAKERS[name](4).finish().values())
    grouper = MAKERS[name](4)
    for blocks in (grouper.add(as_columns([]), np.array([])), grouper.finish(), grouper.finish()):
        assert blocks.keys() >= {"input_ids", "word_starts", "documents"}
        assert all(len(column) == 0 for column in blocks.values())
    assert grouper.counts.fill == 0


@pytest.mark.parametrize("name", ["wrapped", "separate", "sliding"])
def test_less_than_a_block_is_held_however_long_a_document_is(name: str) -> None:
    grouper = MAKERS[name](10)
    for number in range(50):
        grouper.add(as_columns([list(range(23))]), np.array([number > 0]))
        assert len(grouper.state()["held"]["input_ids"]["values"]) < 10


def test_rows_of_a_larger_array_are_cut_like_any_others() -> None:
    ids = Ragged(np.arange(20, dtype=np.int32), np.array([3, 7, 12], np.int32))
    blocks = Wrapped(3).add({"input_ids": ids}, np.array([False, False]))
    assert blocks["input_ids"].tolist() == [[3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert blocks["documents"].tolist() == [[3], [1, 2], [3]]
    marked = insert_around({"input_ids": ids}, [1], [2], np.ones(2), np.ones(2), {})
    assert marked["input_ids"].tolist() == [[1, 3, 4, 5, 6, 2], [1, 7, 8, 9, 10, 11, 2]]


def test_a_document_whose_first_piece_is_empty_begins_all_the_same() -> None:
    grouper = Wrapped(10)
    grouper.add(as_columns([[1, 2], []]), np.array([False, False]))
    grouper.load(json.loads(json.dumps(grouper.state())))
    grouper.add(as_columns([[3], [4], [], [], [5]]), np.array([True, True, False, False, True]))
    assert grouper.finish()["documents"].tolist() == [[2, 2, 1]]
    assert grouper.counts.documents == 4


@pytest.mark.parametrize(
    "make", [lambda: Wrapped(0), lambda: Sliding(4, 4), lambda: Sliding(4, -1), lambda: BestFit(8, 7)]
)
def test_sizes_that_cannot_be_are_refused(make: Callable[[], Grouper]) -> None:
    with pytest.raises(UserError, match="choose"):
        make()


@given(dealt_pieces(), st.lists(st.integers(90, 95), max_size=3), st.lists(st.integers(80, 85), max_size=3))
def test_insert_around_puts_tokens_before_and_after_documents(
    dealt: Dealt, prefix: list[int], suffix: list[int]
) -> None:
    rows, continues, _ = dealt
    begins = [not goes_on for goes_on in continues]
    ends = [*begins[1:], True][: len(rows)]
    longer = insert_around(as_columns(rows), prefix, suffix, np.array(begins), np.array(ends), {"word_starts": 8})
    expected = [prefix * begin + row + suffix * end for row, begin, end in zip(rows, begins, ends, strict=True)]
    assert longer["input_ids"].tolist() == expected
    assert longer["word_starts"].tolist() == [
        [8] * len(prefix) * begin + [token % 7 for token in row] + [8] * len(suffix) * end
        for row, begin, end in zip(rows, begins, ends, strict=True)
    ]
    assert {name: column.values.dtype for name, column in longer.items()} == DTYPES
