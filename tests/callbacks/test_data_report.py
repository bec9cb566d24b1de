"""What was found in the rows is written down: each stage adds its sets; another's data module has none."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lit_ft.callbacks import data_report
from lit_ft.callbacks.data_report import DataReport


def report(split: str, rows: int, kind: str) -> dict[str, Any]:
    return {"on_bad_rows": {}, "meaning": {kind: "..."}, "sets": [{"split": split, "name": "", "rows": rows}]}


def test_later_stages_add_their_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_ft.callbacks.base.run_folder", lambda trainer: tmp_path / "run")
    for made in (report("train", 5, "cut"), report("test", 2, "duplicate"), report("test", 3, "duplicate")):
        trainer: Any = SimpleNamespace(is_global_zero=True, datamodule=SimpleNamespace(report=made))
        DataReport().setup(trainer, None, "fit")  # type: ignore[arg-type]
    written = json.loads((tmp_path / "run" / data_report.NAME).read_text())
    assert [(one["split"], one["rows"]) for one in written["sets"]] == [("train", 5), ("test", 3)]
    assert set(written["meaning"]) == {"cut", "duplicate"}


def test_somebody_elses_data_module_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_ft.callbacks.base.run_folder", lambda trainer: tmp_path)
    DataReport().setup(SimpleNamespace(is_global_zero=True, datamodule=object()), None, "fit")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
