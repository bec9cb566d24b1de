"""Scores of vectors on two processes, of which one may hold no row, against those on one."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from scipy.stats import spearmanr
from torch import Tensor

from lit_ft.metrics.embeddings import EmbeddingScores
from tests.processes import METHOD

ROWS = 30
SPLIT = {"uneven": 20, "the second has none": ROWS, "the first has none": 0}
KINDS: list[Any] = ["pairs", "labelled", "scored"]


def made(kind: str) -> tuple[Tensor, Tensor]:
    """Vectors of rows that agree more than chance, and their labels or scores."""
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(ROWS, 1, 7, generator=generator) + torch.randn(ROWS, 2, 7, generator=generator)
    return vectors, torch.arange(ROWS) % 4 if kind == "labelled" else torch.rand(ROWS, generator=generator)


def scored(kind: Any, mine: slice = slice(None)) -> dict[str, float]:
    scores = EmbeddingScores(kind, torch.device("cpu"))
    for vectors, labels in zip(*(part[mine].split(8) for part in made(kind)), strict=True):
        scores.update(vectors, labels)
    return {name: float(value) for name, value in scores.compute().items()}


def _score_a_share(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    found = {
        (kind, name): scored(kind, slice(0, cut) if rank == 0 else slice(cut, None))
        for kind in KINDS
        for name, cut in SPLIT.items()
    }
    nothing = {kind: scored(kind, slice(0, 0)) for kind in KINDS if kind != "scored"}
    torch.save((found, nothing), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_of_which_one_may_have_no_row_equal_one(tmp_path: Path, free_port: int) -> None:
    mp.start_processes(_score_a_share, (free_port, str(tmp_path)), nprocs=2, start_method=METHOD)
    for rank in range(2):
        found, nothing = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(found) == len(KINDS) * len(SPLIT)
        for (kind, name), values in found.items():
            assert values == pytest.approx(scored(kind), abs=1e-5), (kind, name)
        assert all(torch.tensor([*values.values()]).isnan().all() for values in nothing.values())
    vectors, scores = made("scored")
    cosines = torch.nn.functional.cosine_similarity(vectors[:, 0], vectors[:, 1])
    assert scored("scored")["spearman"] == pytest.approx(spearmanr(cosines, scores).statistic, abs=1e-6)
