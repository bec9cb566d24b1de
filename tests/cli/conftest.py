"""A user's YAML with rows of its own, and the command on it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lit_ft import cli

Run = Callable[..., cli.LitFtCLI]


@pytest.fixture
def model(tiny: Callable[..., str], tmp_path: Path) -> Path:
    """A copy of a tiny model that a test may take away."""
    return Path(shutil.copytree(tiny("bert"), tmp_path / "model"))


@pytest.fixture
def config(sample: Path, model: Path, tmp_path: Path) -> Path:
    """A user's YAML, with rows of its own."""
    for name in ("train.csv", "validation.csv", "test.jsonl"):
        shutil.copy(sample / name, tmp_path / name)
    options = {
        "model": {
            "class_path": "TextClassificationModule",
            "init_args": {"model_name_or_path": str(model), "learning_rate": 2e-3},
        },
        "data": {
            "class_path": "TextClassificationDataModule",
            "init_args": {
                "train_file": str(tmp_path / "train.csv"),
                "validation_file": str(tmp_path / "validation.csv"),
                "test_file": str(tmp_path / "test.jsonl"),
                "text_column_names": "text",
                "label_column_name": "label",
                "max_train_samples": 96,
                "batch_size": 16,
            },
        },
        "trainer": {
            "max_epochs": 1,
            "default_root_dir": str(tmp_path / "runs"),
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(options))
    return path


@pytest.fixture
def run(config: Path) -> Run:
    """Runs a command on the user's YAML, with overrides."""
    return lambda command, *words: cli.main([command, f"--config={config}", *words])


def predictions(folder: Path | None, name: str = "test") -> list[dict[str, object]]:
    assert folder is not None
    return [json.loads(line) for line in (folder / "predictions" / f"{name}.jsonl").read_text().splitlines()]
