import numpy as np
import pytest
import torch

from lit_ft.data.samplers import FILLER, ContiguousSampler, GlobalOrderSampler, balanced_weights


def epoch(rows: int, batch: int, processes: int, rank: int, number: int = 0, seed: int = 42) -> list[tuple[int, int]]:
    sampler = GlobalOrderSampler(rows, batch, seed, processes, rank)
    sampler.set_epoch(number)
    keys = list(sampler)
    assert len(sampler) == len(keys)
    return keys


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 16, 47, 48, 50])
@pytest.mark.parametrize("batch", [1, 4, 8])
def test_every_row_once_in_the_same_number_of_steps(rows: int, batch: int, processes: int) -> None:
    parts = [epoch(rows, batch, processes, rank) for rank in range(processes)]
    assert len({len(part) for part in parts}) == 1
    assert sorted(row for part in parts for _, row in part if row != FILLER) == list(range(rows))


@pytest.mark.parametrize("rows", [64, 75, 79])
def test_two_processes_see_per_step_what_one_sees_with_twice_the_batch(rows: int) -> None:
    one = [row for _, row in epoch(rows, 16, 1, 0)]
    both = [[row for _, row in epoch(rows, 8, 2, rank)] for rank in range(2)]
    for step in range(-(-rows // 16)):
        seen = [row for part in both for row in part[step * 8 : step * 8 + 8] if row != FILLER]
        assert sorted(seen) == sorted(one[step * 16 : step * 16 + 16])


def test_order_is_a_function_of_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = epoch(50, 8, 1, 0, number=3)
    torch.manual_seed(2)
    np.random.seed(2)
    assert epoch(50, 8, 1, 0, number=3) == first
    assert {number for number, _ in first} == {3}
    rows = [row for _, row in first]
    assert [row for _, row in epoch(50, 8, 1, 0, number=4)] != rows
    assert [row for _, row in epoch(50, 8, 1, 0, number=3, seed=7)] != rows


def test_weights_draw_every_class_equally_often() -> None:
    labels = torch.tensor([0] * 900 + [2] * 90 + [3] * 10)
    weights = balanced_weights(labels)
    assert [weights[labels == label].sum() for label in (0, 2, 3)] == pytest.approx([1, 1, 1])
    keys = list(GlobalOrderSampler(1000, 8, weights=weights))
    shares = torch.bincount(labels[[row for _, row in keys]]) / 1000
    assert len(keys) == 1000
    torch.testing.assert_close(shares, torch.tensor([1 / 3, 0, 1 / 3, 1 / 3]), atol=0.06, rtol=0)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("windows", [[1] * 7, [3, 1, 1, 2], [1, 9], [4], []])
def test_evaluation_is_in_order_and_splits_no_row(windows: list[int], processes: int) -> None:
    row_of_feature = np.repeat(np.arange(len(windows)), windows)
    samplers = [ContiguousSampler(row_of_feature, processes, rank) for rank in range(processes)]
    parts = [[index for _, index in sampler] for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(part) for part in parts]
    assert all(parts)  # a process without rows takes part with a filler
    parts = [[index for index in part if index != FILLER] for part in parts]
    assert [index for part in parts for index in part] == list(range(len(row_of_feature)))
    owners = [set(row_of_feature[part].tolist()) for part in parts]
    assert sum(map(len, owners)) == len(windows)
