"""Documents packed into blocks: against naive best-fit decreasing, whole, in order, and by hand."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_ft.data.features.ragged import Ragged, concatenate
from lit_ft.data.grouping.packing import BestFit, best_fit_decreasing


def naive_rooms(lengths: list[int], size: int) -> list[int]:
    """Best-fit decreasing, each document tried on every block: the room left in the blocks, in order of size."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [number for number, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting, key=rooms.__getitem__)] -= length
        else:
            rooms.append(size - length)
    return sorted(rooms)


def rooms_of(lengths: np.ndarray, numbers: np.ndarray, size: int) -> list[int]:
    return sorted((size - np.bincount(numbers, weights=lengths)).astype(int).tolist())


@settings(max_examples=300)
@given(st.integers(1, 40).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.integers(1, size), max_size=60))))
def test_rooms_left_are_those_of_naive_best_fit_decreasing(drawn: tuple[int, list[int]]) -> None:
    size, lengths = drawn
    numbers = best_fit_decreasing(np.array(lengths, np.int32), size)
    assert rooms_of(np.array(lengths), numbers, size) == naive_rooms(lengths, size)


@pytest.mark.parametrize("mean", [3, 40, 150])
def test_rooms_left_are_those_of_naive_best_fit_decreasing_with_many_documents(mean: int) -> None:
    lengths = np.minimum(np.random.default_rng(mean).geometric(1 / mean, 1500), 256).astype(np.int32)
    assert rooms_of(lengths, best_fit_decreasing(lengths, 256), 256) == naive_rooms(lengths.tolist(), 256)


@given(
    st.lists(st.integers(0, 30), max_size=40),
    st.integers(1, 12),
    st.integers(1, 8),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_documents_stay_whole_and_in_order(lengths: list[int], size: int, windows: int, cuts: list[int]) -> None:
    tokens = iter(range(sum(lengths)))
    rows = [[next(tokens) for _ in range(length)] for length in lengths]
    grouper = BestFit(size, window=size * windows)
    dealt = [rows[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(rows)])]
    parts = [grouper.add({"input_ids": Ragged.of(each)}, np.zeros(len(each), bool)) for each in dealt]
    parts.append(grouper.finish())
    blocks = concatenate([part["input_ids"] for part in parts]).tolist()
    documents = concatenate([part["documents"] for part in parts]).tolist()

    assert sorted(token for block in blocks for token in block) == list(range(sum(lengths)))
    assert all(0 < len(block) <= size for block in blocks)
    pieces = [row[i : i + size] for row in rows for i in range(0, len(row), size)]
    found = []
    for block, within in zip(blocks, documents, strict=True):
        assert block == sorted(block)
        ends = np.cumsum(within).tolist()
        found += [block[end - length : end] for end, length in zip(ends, within, strict=True)]
    assert sorted(found) == pieces
    # windows are stretches of `window` tokens, and a piece belongs where it begins
    begins = [piece[0] // (size * windows) for piece in pieces]
    expected = [
        naive_rooms([len(p) for p, b in zip(pieces, begins, strict=True) if b == w], size) for w in sorted({*begins})
    ]
    assert len(blocks) == sum(map(len, expected))
    of_window = [block[0] // (size * windows) for block in blocks]
    assert of_window == sorted(of_window)
    for window, rooms in zip(sorted({*begins}), expected, strict=True):
        own = [block for block, w in zip(blocks, of_window, strict=True) if w == window]
        assert sorted(size - len(block) for block in own) == rooms
        assert own == sorted(own)


def test_an_example_worked_by_hand() -> None:
    # 7, 6 and 5 open blocks with room for 3, 4 and 5; 4 goes where 4 is left, then 2 where 3 is left
    rows = [[1] * 5, [2] * 6, [3] * 2, [4] * 7, [], [5] * 4]
    grouper = BestFit(10)
    assert len(grouper.add({"input_ids": Ragged.of(rows)}, np.zeros(6, bool))["input_ids"]) == 0
    blocks = grouper.finish()
    assert blocks["input_ids"].tolist() == [[1] * 5, [2] * 6 + [5] * 4, [3] * 2 + [4] * 7]
    assert blocks["documents"].tolist() == [[5], [6, 4], [2, 7]]
    assert (grouper.counts.documents, grouper.counts.blocks, grouper.counts.partial) == (6, 3, 2)


def test_finish_after_every_call_leaves_no_token_in_the_state() -> None:
    grouper = BestFit(8)
    for continues in (False, True, False):
        grouper.add({"input_ids": Ragged.of([[1, 2, 3], [4, 5]])}, np.array([continues, False]))
        assert grouper.finish()["input_ids"].tolist() == [[1, 2, 3, 4, 5]]
        assert grouper.state()["waiting"] == {}
        assert grouper.state()["separate"]["held"]["input_ids"]["values"] == []
    assert grouper.counts.documents == 5


def test_windows_are_packed_as_soon_as_they_are_full() -> None:
    grouper = BestFit(8, window=100)
    for call in range(40):
        grouper.add({"input_ids": Ragged.of([[call] * 5] * 6)}, np.zeros(6, bool))
        waiting = grouper.state()
        assert len(waiting["waiting"]["input_ids"]["values"]) < 100
        assert len(waiting["separate"]["held"]["input_ids"]["values"]) < 8
    assert grouper.counts.placed >= 40 * 30 - 108
