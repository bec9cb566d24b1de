"""What a run's data hold, where its commands see different sets."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_ft.callbacks.run_record import RunRecord
from lit_ft.pages.run_files import read_run


def summary(split: str, rows: int, batches: dict[str, int], *findings: str) -> dict[str, Any]:
    found = [{"what": what} for what in findings]
    return {"sets": [{"split": split, "name": "", "rows": rows}], "batches": batches, "findings": found}


def test_later_stages_add_their_sets_and_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_ft.callbacks.base.run_folder", lambda trainer: tmp_path)
    stages = [
        ("fit", summary("train", 5, {"steps": 2}, "train: 1 row is cut")),
        ("test", summary("test", 2, {}, "test: 2 rows are cut")),
        ("test", summary("test", 3, {}, "test: 1 row is empty")),
    ]
    for command, held in stages:
        trainer: Any = SimpleNamespace(
            is_global_zero=True, datamodule=SimpleNamespace(summary=lambda held=held: held), world_size=1, loggers=[],
            precision="32", strategy=SimpleNamespace(root_device=torch.device("cpu")), max_epochs=1, max_steps=-1,
            accumulate_grad_batches=1, gradient_clip_val=None, state=SimpleNamespace(fn=command),
        )  # fmt: skip
        RunRecord().setup(trainer, SimpleNamespace(hparams={}), command)  # type: ignore[arg-type]
    run = read_run(tmp_path)
    assert [(one["split"], one["rows"]) for one in run.data["sets"]] == [("train", 5), ("test", 3)]
    assert run.data["batches"] == {"steps": 2}
    assert [each["what"] for each in run.data["findings"]] == ["train: 1 row is cut", "test: 1 row is empty"]
    assert [each["command"] for each in run.commands] == ["fit", "test", "test"]
    assert json.loads((tmp_path / "run.json").read_text())["commands"] == run.commands
