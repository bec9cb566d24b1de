"""Orders of training rows, worked out by hand, and against `datasets` and transformers: mixtures, lengths, budgets."""

import tracemalloc
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from datasets import Dataset, interleave_datasets
from transformers.trainer_pt_utils import get_length_grouped_indices

from lit_ft.data.ordering.orders import (
    StoppingStrategy,
    length_grouped,
    length_sorted,
    mixed,
    mixed_length,
    require_same_rows,
    sequential_token_batches,
    shuffled,
    token_batch_order,
    token_boundaries,
    weighted,
)
from lit_ft.errors import UserError

STRATEGIES: list[StoppingStrategy] = ["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"]
SIZES, SHARES = [900, 300, 50], [0.5, 0.3, 0.2]


def lengths_of(rows: int, seed: int = 0, most: int = 128) -> np.ndarray:
    return np.minimum(np.random.default_rng(seed).geometric(0.05, rows) + 2, most).astype(np.int32)


def sources(order: np.ndarray, sizes: list[int]) -> np.ndarray:
    return np.searchsorted(np.cumsum(sizes), order, side="right")


def test_shuffled_and_weighted_give_the_numbers_they_always_gave() -> None:
    assert shuffled(8, 42, 3).tolist() == np.random.default_rng([42, 3]).permutation(8).tolist()
    weights = np.array([1.0, 3.0, 0.0, 4.0])
    drawn = np.random.default_rng([42, 3]).choice(4, size=4, p=[0.125, 0.375, 0, 0.5])
    assert weighted(weights, 42, 3).tolist() == drawn.tolist()


@pytest.mark.parametrize(
    ("strategy", "counts"),
    [("first_exhausted", [2, 3, 5]), ("all_exhausted", [4, 6, 10]), ("all_exhausted_without_replacement", [4, 3, 5])],
)
def test_counts_of_a_mixture_worked_out_by_hand(strategy: StoppingStrategy, counts: list[int]) -> None:
    # sources of 4, 3, 5 rows are used up after 4 / 0.2 = 20, 3 / 0.3 = 10, 5 / 0.5 = 10 rows of the mixture
    sizes, shares = [4, 3, 5], [0.2, 0.3, 0.5]
    for epoch in range(3):
        order = mixed(sizes, shares, strategy, 42, epoch)
        assert np.bincount(sources(order, sizes)).tolist() == counts
        assert len(order) == mixed_length(sizes, shares, strategy)


@pytest.mark.parametrize("strategy", STRATEGIES[:2])
def test_a_mixture_keeps_the_proportions_and_stops_where_datasets_stops(strategy: StoppingStrategy) -> None:
    ends = [Fraction(size) / Fraction(str(share)) for size, share in zip(SIZES, SHARES, strict=True)]
    end = min(ends) if strategy == "first_exhausted" else max(ends)
    order = mixed(SIZES, SHARES, strategy, 42, 0)
    counts = np.bincount(sources(order, SIZES))
    assert counts.tolist() == [round(end * Fraction(str(share))) for share in SHARES]
    parts = [Dataset.from_dict({"source": [number] * size}) for number, size in enumerate(SIZES)]
    lots = [
        interleave_datasets(parts, SHARES, seed=seed, stopping_strategy=strategy)["source"][:] for seed in range(20)
    ]
    assert np.mean([len(theirs) for theirs in lots]) == pytest.approx(len(order), rel=0.05)
    theirs = np.mean([np.bincount(lot) / len(lot) for lot in lots], axis=0)
    assert counts / len(order) == pytest.approx(theirs, abs=0.02)


@pytest.mark.parametrize("strategy", STRATEGIES[:2])
def test_every_part_of_a_mixture_keeps_the_proportions(strategy: StoppingStrategy) -> None:
    owners = sources(mixed(SIZES, SHARES, strategy, 42, 1), SIZES)
    seen = np.cumsum(owners[:, None] == np.arange(3), axis=0)
    expected = np.arange(1, len(owners) + 1)[:, None] * SHARES
    assert np.abs(seen - expected).max() < 3
    runs = np.diff(np.flatnonzero(np.diff(owners, prepend=-1, append=-1)))
    # two rows of 0.3 lie less than 2 / 0.3 apart, which has room for 5 of 0.5; drawn one by one, runs reach about 11
    assert runs.max() <= 5


def test_rows_of_a_mixture_come_again_only_when_all_of_their_source_came() -> None:
    order = mixed(SIZES, SHARES, "all_exhausted", 42, 0)
    assert set(order.tolist()) == set(range(sum(SIZES)))
    for first, size in ((900, 300), (1200, 50)):
        own = order[(order >= first) & (order < first + size)]
        passes = [own[start : start + size].tolist() for start in range(0, len(own), size)]
        assert all(sorted(each) == list(range(first, first + size)) for each in passes[:-1])
        assert len(set(passes[-1])) == len(passes[-1])
        assert passes[0] != passes[1]
    once = mixed(SIZES, SHARES, "first_exhausted", 42, 0)
    assert len(set(once.tolist())) == len(once)
    assert set(once.tolist()) != set(mixed(SIZES, SHARES, "first_exhausted", 42, 1).tolist())


def test_a_mixture_without_replacement_or_probabilities_has_each_row_once() -> None:
    cases = [(None, strategy) for strategy in STRATEGIES] + [(SHARES, STRATEGIES[2])]
    orders = [mixed(SIZES, shares, strategy, 42, 0) for shares, strategy in cases]
    for order in orders:
        assert sorted(order.tolist()) == list(range(sum(SIZES)))
    assert np.bincount(sources(orders[0][:125], SIZES)) == pytest.approx([90, 30, 5], abs=2)  # by size
    assert np.bincount(sources(orders[3][:100], SIZES)) == pytest.approx([50, 30, 20], abs=2)  # by probability
    assert set(sources(orders[3][-100:], SIZES)) == {0}  # the others are used up


def test_a_source_is_used_up_to_its_last_row() -> None:
    assert 3 / 0.7 * 0.7 < 3  # binary fractions: cut off, this would be two rows
    assert np.bincount(sources(mixed([9, 3], [0.3, 0.7], "first_exhausted", 42, 0), [9, 3])).tolist() == [1, 3]


def test_a_mixture_is_a_function_of_seed_and_epoch() -> None:
    first = mixed(SIZES, SHARES, "all_exhausted", 42, 0).tolist()
    np.random.seed(1)
    assert mixed(SIZES, SHARES, "all_exhausted", 42, 0).tolist() == first
    assert mixed(SIZES, SHARES, "all_exhausted", 42, 1).tolist() != first
    assert mixed(SIZES, SHARES, "all_exhausted", 43, 0).tolist() != first


@pytest.mark.parametrize(
    ("sizes", "shares", "strategy", "message"),
    [
        ([5, 5], [0.5, 0.4], "all_exhausted", r"probabilities are \[0.5, 0.4\], which sum to 0.9; .* \[0.5556, 0.4444"),
        ([5, 5], [0.5], "all_exhausted", r"probabilities are \[0.5\], 1 numbers for 2 sources"),
        ([5, 5], [1.0, 0.0], "all_exhausted", "probabilities .* more than 0"),
        ([5, 5], [1.5, -0.5], "all_exhausted", "probabilities .* more than 0"),
        ([5, 5], [float("nan"), 0.5], "all_exhausted", "probabilities .* more than 0"),
        ([9, 0], [0.5, 0.5], "all_exhausted", "source 2 of the mixture has no rows"),
        ([9, 9], [0.99, 0.01], "first_exhausted", r"probabilities give source 2 0.01 of an epoch of 9 rows"),
        ([9, 9], None, "all_exhaused", "stopping_strategy is 'all_exhaused'.* did you mean 'all_exhausted'"),
    ],
)
def test_what_is_no_mixture(sizes: list[int], shares: list[float], strategy: StoppingStrategy, message: str) -> None:
    with pytest.raises(UserError, match=message):
        mixed_length(sizes, shares, strategy)


@pytest.mark.parametrize(("rows", "batch"), [(1000, 4), (1003, 4), (100, 8), (10, 4), (3, 8), (1, 1), (5000, 16)])
def test_length_grouping_is_that_of_transformers(rows: int, batch: int) -> None:
    lengths = lengths_of(rows)
    lengths[rows // 2] = 1000  # the longest must be one: theirs looks for it with torch, which takes any of equal ones
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(5)).numpy()
    theirs = get_length_grouped_indices(lengths.tolist(), batch, generator=torch.Generator().manual_seed(5))
    assert length_grouped(order, lengths, batch).tolist() == theirs


@pytest.mark.parametrize("kind", [np.int32, np.uint16])
def test_length_grouping_of_an_order_with_repeated_rows(kind: type) -> None:
    lengths = np.array([3, 0, 9, 5], dtype=kind)
    assert length_grouped(np.array([1, 0, 0, 2, 1, 2, 3]), lengths, 8).tolist() == [2, 2, 3, 0, 0, 1, 1]


def padded_sizes(lengths: np.ndarray, rows: np.ndarray, spans: np.ndarray) -> list[int]:
    return [int(lengths[rows[start:stop]].max()) * int(stop - start) for start, stop in spans]


def test_token_batches_worked_out_by_hand() -> None:
    lengths = np.array([2, 9, 3, 3, 4, 1, 2])
    # sorted: 9 | 4 3 (3 would make 12) | 3 2 2 | 1
    assert token_boundaries(lengths, 10).tolist() == [0, 1, 3, 6, 7]
    # as they come: 2 | 9 | 3 3 (4 would make 12) | 4 1 (2 would make 12) | 2
    assert token_boundaries(lengths, 10, sequential=True).tolist() == [0, 1, 2, 4, 6, 7]
    rows, spans = sequential_token_batches(token_boundaries(lengths, 10, sequential=True))
    assert [rows[start:stop].tolist() for start, stop in spans] == [[0], [1], [2, 3], [4, 5], [6]]
    batches = set()
    for epoch in range(20):
        rows, spans = token_batch_order(lengths, token_boundaries(lengths, 10), 42, epoch)
        batches |= {tuple(sorted(rows[start:stop].tolist())) for start, stop in spans}
        assert rows[slice(*spans[0])].tolist() == [1]  # 9 tokens, as many as 3 2 2 has with its padding, but longer
    assert batches == {(1,), (2, 4), (3, 4), (0, 3, 6), (0, 2, 6), (5,)}  # the rows of 3 tokens change places


def greedy(lengths: list[int], budget: int) -> list[int]:
    """Plain second implementation, row by row."""
    places, longest = [0], 0
    for place, length in enumerate(lengths):
        longest = max(longest, length)
        if longest * (place - places[-1] + 1) > budget:
            places.append(place)
            longest = length
    return [*places, len(lengths)]


@pytest.mark.parametrize("budget", [128, 1000, 100_000])
@pytest.mark.parametrize("rows", [1, 2, 997])
@pytest.mark.parametrize("kind", [np.int32, np.uint16])
def test_token_batches_hold_every_row_once_within_the_budget(rows: int, budget: int, kind: type) -> None:
    lengths = lengths_of(rows).astype(kind)
    by_length = token_boundaries(lengths, budget)
    assert by_length.tolist() == greedy(sorted(lengths.tolist(), reverse=True), budget)
    in_turn = token_boundaries(lengths, budget, sequential=True)
    assert in_turn.tolist() == greedy(lengths.tolist(), budget)
    assert len(by_length) <= len(in_turn)
    for epoch in range(3):
        order, spans = token_batch_order(lengths, by_length, 42, epoch)
        sizes = padded_sizes(lengths, order, spans)
        assert sizes[0] == max(sizes)  # memory runs out at once,
        assert lengths[order[spans[:2, 0]]].max() == lengths.max()  # also where it is the longest row that needs it
        both = [(order, spans, by_length), (*sequential_token_batches(in_turn), in_turn)]
        for order, spans, boundaries in both:
            assert sorted(order.tolist()) == list(range(rows))
            assert sorted(map(tuple, spans.tolist())) == list(pairwise(boundaries.tolist()))
            assert max(padded_sizes(lengths, order, spans)) <= budget


def test_token_batches_come_in_another_order_of_other_rows_each_epoch() -> None:
    lengths = lengths_of(997)
    boundaries = token_boundaries(lengths, 300)
    (rows, spans), (again, _), (others, in_turn) = (
        token_batch_order(lengths, boundaries, 42, epoch) for epoch in (0, 0, 1)
    )
    assert rows.tolist() == again.tolist() != others.tolist()
    assert lengths[rows].tolist() == lengths[others].tolist() == sorted(lengths.tolist(), reverse=True)
    assert spans.tolist() != in_turn.tolist()
    longest = [int(lengths[rows[start]]) for start, _ in spans]
    rising = sum(first < second for first, second in pairwise(longest))
    assert 0.35 < rising / len(longest) < 0.65  # neither ascending nor descending


def test_the_batch_of_most_tokens_comes_first_and_the_longest_row_second() -> None:
    lengths = np.array([6, 5, 2, 5, 2, 2, 2])
    boundaries = token_boundaries(lengths, 10)
    assert boundaries.tolist() == [0, 1, 3, 7]  # 6 | 5 5 | 2 2 2 2
    for epoch in range(10):
        rows, spans = token_batch_order(lengths, boundaries, 42, epoch)
        assert [sorted(rows[start:stop].tolist()) for start, stop in spans] == [[1, 3], [0], [2, 4, 5, 6]]


def by_hand(rows: list[int], lengths: list[int], run: int, cut: int) -> list[int]:
    """Plain second implementation: of a run, the row with the longest window that is left gives its next one."""
    order, begin = [], 0
    for end in sorted({*range(run, len(rows), run), min(cut, len(rows)), len(rows)} - {0}):
        left = list(range(begin, end))
        while left:
            longest = max(left, key=lambda each: (lengths[each], -each))
            first = min(each for each in left if rows[each] == rows[longest])
            order.append(first)
            left.remove(first)
        begin = end
    return order


@pytest.mark.parametrize(("run", "cut"), [(8, 1000), (8, 20), (1000, 3), (4, 0), (64, 64)])
@pytest.mark.parametrize("windows", [[1] * 40, [3, 1, 1, 5, 2] * 8, [30], []])
@pytest.mark.parametrize("kind", [np.int32, np.uint16])
def test_runs_are_sorted_by_length_with_windows_in_order(run: int, cut: int, windows: list[int], kind: type) -> None:
    rows = np.repeat(np.arange(len(windows)) + 5, windows)
    lengths = lengths_of(len(rows), seed=run).astype(kind)
    order, ends = length_sorted(rows, lengths, run, cut)
    assert order.tolist() == by_hand(rows.tolist(), lengths.tolist(), run, cut)
    for begin, end in pairwise([0, *ends.tolist()]):
        assert sorted(order[begin:end].tolist()) == list(range(begin, end))
    for row in np.unique(rows):
        own = [each for each in order.tolist() if rows[each] == row]
        assert own == sorted(own)


def test_rows_of_no_tokens_have_a_batch_too() -> None:
    assert token_boundaries(np.zeros(5, np.int32), 2).tolist() == [0, 2, 4, 5]
    assert token_boundaries(np.zeros(5, np.int32), 2, sequential=True).tolist() == [0, 2, 4, 5]


@pytest.mark.parametrize("sequential", [True, False])
def test_a_row_beyond_the_budget_is_refused(sequential: bool) -> None:
    with pytest.raises(
        UserError,
        match=r"max_tokens_per_batch is 8, but 2 of 3 training rows have more tokens \(the longest has 12\): "
        r"set it to at least 12, or lower max_seq_length",
    ):
        token_boundaries(np.array([12, 3, 9]), 8, sequential)


def test_a_token_budget_needs_the_same_rows_in_every_epoch() -> None:
    for strategy in STRATEGIES:
        require_same_rows(None, None, strategy)
    require_same_rows(None, SHARES, "all_exhausted_without_replacement")
    with pytest.raises(UserError, match=r"max_tokens_per_batch needs .* class_balanced_sampling"):
        require_same_rows("class_balanced_sampling", None, "all_exhausted")
    for strategy in STRATEGIES[:2]:
        with pytest.raises(UserError, match=f"probabilities with stopping_strategy {strategy} "):
            require_same_rows(None, SHARES, strategy)
        drawn = [Counter(mixed(SIZES, SHARES, strategy, 42, epoch).tolist()) for epoch in range(2)]
        assert drawn[0] != drawn[1]  # the reason


def test_two_million_rows_lie_flat() -> None:
    rows = 2_000_000
    lengths = lengths_of(rows)
    order = shuffled(rows, 42, 0)
    boundaries = token_boundaries(lengths, 4096)
    ways = {
        "grouped": lambda: length_grouped(order, lengths, 16),
        "mixed": lambda: mixed([rows // 2, rows // 4, 7], [0.5, 0.25, 0.25], "all_exhausted", 42, 0),
        "boundaries": lambda: token_boundaries(lengths, 4096),
        "sequential": lambda: token_boundaries(lengths, 4096, sequential=True),
        "budget": lambda: token_batch_order(lengths, boundaries, 42, 0),
    }
    for name, way in ways.items():
        tracemalloc.start()
        kept = way()
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert now / rows <= 16, name
        assert peak / rows <= 48, name
        assert len(kept)
