"""Attention within sequences against a plain softmax over each sequence alone, in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lit_ft.ops.padding_free.bucketed import bucketed_attention, regrouped, ungrouped
from lit_ft.ops.padding_free.sequences import BUCKET_COST, TOKEN_COST, Sequences

HEADS, SIZE, VALUE_SIZE = 4, 6, 5
LENGTHS = [3, 0, 1, 17, 3, 0, 128, 16, 1]
TINIEST = 1e-12
"""Dropout this rare drops nothing, so that the function under test is plain attention."""

Sight = tuple[bool, int | None]


def states(total: int, key_heads: int = HEADS) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values; contiguous as `[1, total, heads, size]`, as projections make them."""
    shapes = ((HEADS, SIZE), (key_heads, SIZE), (key_heads, VALUE_SIZE))
    made = [torch.randn(1, total, *shape, dtype=torch.float64).transpose(1, 2) for shape in shapes]
    return made[0], made[1], made[2]


def alone(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], sight: Sight, scale: float) -> Tensor:
    """One sequence and one head after another: `softmax(q k' * scale) v` over the keys in sight."""
    causal, window = sight
    per_key = query.shape[1] // key.shape[1]
    rows = []
    for start, length in zip(itertools.accumulate([0, *lengths]), lengths, strict=False):
        here = slice(start, start + length)
        distance = torch.arange(length)[:, None] - torch.arange(length)
        hidden = torch.zeros(length, length, dtype=torch.bool)
        hidden |= (distance < 0) & causal
        hidden |= distance.abs() >= (window or length + 1)
        heads = []
        for head in range(query.shape[1]):
            q, k, v = query[0, head, here], key[0, head // per_key, here], value[0, head // per_key, here]
            heads.append((q @ k.T * scale).masked_fill(hidden, -math.inf).softmax(-1) @ v)
        rows.append(torch.stack(heads, 1))
    return torch.cat(rows)[None]


SIGHTS: list[Sight] = [(False, None), (True, None), (False, 4), (True, 4), (True, 1), (False, 500)]


@pytest.mark.parametrize("key_heads", [HEADS, 2, 1])
@pytest.mark.parametrize("sight", SIGHTS, ids=str)
def test_equals_attention_of_each_sequence_alone(sight: Sight, key_heads: int) -> None:
    torch.manual_seed(0)
    mine = [state.requires_grad_() for state in states(sum(LENGTHS), key_heads)]
    found = bucketed_attention(*mine, Sequences(LENGTHS), *sight, scale=0.3, dropout=TINIEST)
    expected = alone(*mine, LENGTHS, sight, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    slope = torch.randn_like(expected)
    of_found = torch.autograd.grad(found, mine, slope)
    for one, other in zip(of_found, torch.autograd.grad(expected, mine, slope), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any),
    st.sampled_from(SIGHTS),
    st.sampled_from([HEADS, 2]),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_equals_attention_of_each_sequence_alone_for_any_lengths(lengths: list[int], sight: Sight, keys: int) -> None:
    torch.manual_seed(0)
    mine = states(sum(lengths), keys)
    found = bucketed_attention(*mine, Sequences(lengths), *sight, scale=0.5, dropout=TINIEST)
    torch.testing.assert_close(found, alone(*mine, lengths, sight, 0.5), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sight", SIGHTS[:4], ids=str)
def test_gradients_are_those_of_the_output_with_dropout(sight: Sight) -> None:
    sequences = Sequences([2, 0, 3, 1])

    def attend(*mine: Tensor) -> Tensor:
        torch.manual_seed(3)  # the same mask each time
        return bucketed_attention(*mine, sequences, *sight, scale=0.7, dropout=0.4)

    torch.manual_seed(0)
    assert torch.autograd.gradcheck(attend, [state.requires_grad_() for state in states(6, 2)])


@pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 2, 0, 5], [1]], ids=str)
def test_dropout_keeps_the_mean(lengths: list[int]) -> None:
    torch.manual_seed(0)
    mine, draws = states(sum(lengths)), 3000
    sequences = Sequences(lengths)
    found = torch.stack([bucketed_attention(*mine, sequences, True, None, 0.5, 0.3) for _ in range(draws)])
    bound = 5 * found.std(0) / math.sqrt(draws) + 1e-9
    assert ((found.mean(0) - alone(*mine, lengths, (True, None), 0.5)).abs() <= bound).all()
    assert found.std(0).min() > 0


def test_dropout_drops_each_weight_by_itself() -> None:
    # equal keys make every weight 1 / length, and one-hot values hand them out one by one
    torch.manual_seed(0)
    lengths, heads, length = [8, 5, 8, 5], 2, 8
    total, p = sum(lengths), 0.25
    query = torch.zeros(1, heads, total, SIZE)
    places = torch.cat([torch.arange(each) for each in lengths])
    value = torch.nn.functional.one_hot(places, length).float().expand(1, heads, -1, -1)
    found = bucketed_attention(query, query, value, Sequences(lengths), False, None, 1.0, p)[0]
    share = torch.cat([torch.full((each,), 1 / each) for each in lengths])[:, None, None]
    weights = (found / share * (1 - p)).round(decimals=4)
    assert set(weights.unique().tolist()) == {0.0, 1.0}

    draws = 400
    kept = []
    for _ in range(draws):
        drawn = bucketed_attention(query, query, value, Sequences(lengths), False, None, 1.0, p)[0]
        kept.append([(part[..., :5] > 0).double() for part in drawn.split(lengths)])
    first, second, third, fourth = (torch.stack([each[number] for each in kept]) for number in range(4))
    for one, other in ((first, third), (second, fourth), (first[:, :5], second), (first[:, :, 0], first[:, :, 1])):
        both = (one * other).mean().item()
        count = one.numel()
        deviation = math.sqrt((1 - p) ** 2 * (1 - (1 - p) ** 2) / count)
        assert abs(both - (1 - p) ** 2) < 4.5 * deviation
    assert abs(first.mean().item() - (1 - p)) < 4.5 * math.sqrt(p * (1 - p) / first.numel())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mine = [state.to(dtype).requires_grad_() for state in states(sum(LENGTHS), 2)]
    found = bucketed_attention(*mine, Sequences(LENGTHS), False, 4, 0.3, TINIEST)
    found.float().square().sum().backward()
    expected = alone(*(state.double() for state in mine), LENGTHS, (False, 4), 0.3)
    torch.testing.assert_close(found.double(), expected, rtol=0.03, atol=0.03)
    assert all(state.grad is not None and state.grad.isfinite().all() for state in mine)


# Buckets


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_states_go_to_buckets_and_back(lengths: list[int]) -> None:
    sequences = Sequences(lengths)
    state = torch.randn(1, 2, sum(lengths), 3, dtype=torch.float64, requires_grad=True)
    parts = regrouped(state, sequences)
    assert [part.shape for part in parts] == [(each.count, 2, each.length, 3) for each in sequences.buckets]
    assert sorted(n for each in sequences.buckets for n in each.lengths.tolist()) == sorted(n for n in lengths if n)
    pieces = {piece.numpy().tobytes() for piece in state.detach()[0].split(lengths, 1) if piece.shape[1]}
    for part, bucket in zip(parts, sequences.buckets, strict=True):
        for padded, length in zip(part, bucket.lengths.tolist(), strict=True):
            assert padded[:, :length].detach().contiguous().numpy().tobytes() in pieces
    back = ungrouped([part.transpose(1, 2) * 2 for part in parts], sequences)
    torch.testing.assert_close(back, 2 * state.transpose(1, 2), rtol=0, atol=0)
    slope = torch.randn_like(back)
    back.backward(slope)
    torch.testing.assert_close(state.grad, 2 * slope.transpose(1, 2), rtol=0, atol=0)


def cost(lengths: list[int]) -> int:
    return len(lengths) * (max(lengths) + TOKEN_COST) * max(lengths) + BUCKET_COST


@given(st.lists(st.sampled_from([0, 1, 2, 7, 40, 41, 80, 200, 500]), min_size=1, max_size=9).filter(any))
@settings(deadline=None, max_examples=80, derandomize=True)
def test_buckets_are_the_cheapest_of_all_runs_of_the_sorted_lengths(lengths: list[int]) -> None:
    ordered = sorted((length for length in lengths if length), reverse=True)
    cheapest = min(
        sum(cost(ordered[start:stop]) for start, stop in itertools.pairwise([0, *cuts, len(ordered)]))
        for count in range(len(ordered))
        for cuts in itertools.combinations(range(1, len(ordered)), count)
    )
    assert sum(cost(bucket.lengths.tolist()) for bucket in Sequences(lengths).buckets) == cheapest


def test_long_and_short_sequences_do_not_share_a_bucket() -> None:
    found = [(bucket.count, bucket.length) for bucket in Sequences([500, 12, 499, 12, 11]).buckets]
    assert found == [(2, 500), (3, 12)]


def test_many_lengths_waste_little() -> None:
    lengths = np.random.default_rng(0).integers(1, 512, 64).tolist()
    scores = sum(bucket.count * bucket.length**2 for bucket in Sequences(lengths).buckets)
    assert scores < 1.25 * sum(length**2 for length in lengths) < 0.5 * 64 * max(lengths) ** 2
