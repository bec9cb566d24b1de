"""Means of rewards, worked by hand."""

import pytest
import torch

from lit_ft.metrics.preferences import NAMES, RewardScores, means


def test_rewards_of_pairs_over_batches() -> None:
    metric = RewardScores(paired=True)
    metric.update(torch.tensor([1.0, 0.5]), torch.tensor([0.0, 0.5]))  # equal ones are not right, as TRL has it
    metric.update(torch.tensor([2.0]), torch.tensor([4.0]))
    found = {name: float(value) for name, value in metric.compute().items()}
    expected = dict(zip([*NAMES, "reward_accuracy"], [3.5 / 3, 4.5 / 3, -1 / 3, 1 / 3], strict=True))
    assert found == pytest.approx(expected)
    batch = means(torch.tensor([1.0, 0.5, 2.0]), torch.tensor([0.0, 0.5, 4.0]), paired=True)
    assert {name: float(value) for name, value in batch.items()} == pytest.approx(expected)
