"""Folders of shards: code that torch would unpickle is refused before, wherever it lies; what torch writes passes."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemWriter, save

from lit_ft import load_predictor
from lit_ft.errors import UserError
from lit_ft.loading import load
from lit_ft.ops.building.shards import check_shards
from lit_ft.runs import find_checkpoint, read_checkpoint


class Evil:
    """A pickle that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def shards(folder: Path, **values: Any) -> Path:
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.tensor(3)}
    state = {"state_dict": weights, "optimizer_0": {"param_groups": [{"betas": (0.9, 0.99), "lr": 1e-3, **values}]}}
    save(state, storage_writer=FileSystemWriter(folder), no_dist=True)
    torch.save({"lit_ft": {"class_path": "lit_ft.TextClassificationModule"}, "epoch": 3}, folder / "meta.pt")
    return folder


def test_what_torch_wrote_is_read(tmp_path: Path) -> None:
    found = read_checkpoint(find_checkpoint(str(shards(tmp_path / "x.ckpt")), tmp_path))
    assert found["state_dict"]["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["state_dict"]["b"].dtype == torch.bfloat16
    assert found["optimizer_0"] == {"param_groups": [{"betas": (0.9, 0.99), "lr": 1e-3}]}
    assert found["epoch"] == 3


@pytest.mark.parametrize("read", [read_checkpoint, load, load_predictor, lambda path: find_checkpoint(str(path), path)])
@pytest.mark.parametrize("where", ["index", "index of a process", "shard"])
def test_no_pickle_runs(tmp_path: Path, read: Callable[[Path], Any], where: str) -> None:
    evil = Evil(tmp_path / "ran")
    folder = shards(tmp_path / "x.ckpt", **({"fused": evil} if where == "shard" else {}))
    if where == "index":
        (folder / ".metadata").write_bytes(pickle.dumps(evil))
    if where == "index of a process":  # which torch reads where the other leads to an error
        (folder / ".metadata").write_bytes(pickle.dumps([]))
        (folder / "__0.metadata").write_bytes(pickle.dumps(evil))
    said = r"posix.mkdir does not belong|list is no index"
    with pytest.raises(UserError, match=rf"x.ckpt/.metadata: not a checkpoint that can be read safely: ({said})"):
        read(folder)
    assert not (tmp_path / "ran").exists()


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    folder = shards(tmp_path / "x.ckpt")
    shards_of = [path for path in folder.iterdir() if path.suffix == ".distcp"]
    shards_of[0].unlink()
    with pytest.raises(UserError, match=r"x.ckpt/.metadata: .* No such file or directory.*distcp"):
        check_shards(folder)
