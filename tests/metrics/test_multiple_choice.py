"""Accuracies of multiple choice, counted by hand, in one process and in two."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lit_ft.metrics.multiple_choice import ChoiceAccuracy, accuracy_names

SCORES = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.5, 0.2, 0.3], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
LABELS = torch.tensor([0, 0, 0, 2, 1])
CHOICES = torch.tensor([2, 2, 3, 3, 3])
EXPECTED = {"accuracy": 3 / 5, "accuracy_2": 1 / 2, "accuracy_3": 2 / 3}


def test_rows_of_each_number_of_choices() -> None:
    metric = ChoiceAccuracy([3, 2])
    for part in (slice(0, 2), slice(2, 2), slice(2, 5)):
        metric.update(SCORES[part], LABELS[part], CHOICES[part])
    assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx(EXPECTED)
    assert list(metric.compute()) == ["accuracy", *accuracy_names([3, 2])]


def test_rows_that_nobody_announced_count_in_the_whole() -> None:
    for counts in ([], [4], [3]):
        metric = ChoiceAccuracy(counts)
        metric.update(SCORES, LABELS, CHOICES)
        assert {name: float(value) for name, value in metric.compute().items()} == pytest.approx({"accuracy": 3 / 5})
    metric = ChoiceAccuracy([3, 4])
    metric.update(SCORES, LABELS, CHOICES)
    values = metric.compute()
    assert float(values["accuracy_3"]) == pytest.approx(2 / 3)
    assert values["accuracy_4"].isnan()


def _half(rank: int, port: int, path: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metric = ChoiceAccuracy([2, 3])
    part = slice(0, 1) if rank else slice(1, 5)
    metric.update(SCORES[part], LABELS[part], CHOICES[part])
    values = metric.compute()
    if rank:
        torch.save(values, path)
    dist.destroy_process_group()


def test_two_processes(free_port: int, tmp_path: Any) -> None:
    path = str(tmp_path / "values.pt")
    mp.start_processes(_half, (free_port, path), nprocs=2, start_method="fork")
    assert {name: float(value) for name, value in torch.load(path).items()} == pytest.approx(EXPECTED)
