"""What a user installs: the wheel, away from the repository, fits from its own sample data and configuration."""

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (built,) = (tmp_path / "dist").glob("*.whl")
    return built


def fit(python: str, command: Path, place: Path, folder: Path, **environment: str) -> None:
    find = "from lit_ft.yaml_files import shipped_config; print(shipped_config('text_classification/quickstart.yaml'))"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run: dict[str, Any] = {"check": True, "capture_output": True, "text": True, "cwd": folder, "timeout": 300}
    run["env"] = {**clean, **environment}
    found = subprocess.run([python, "-c", find], **run).stdout.split()[-1]
    assert str(place) in found
    words = ["--config", found, "--data.max_train_samples=32", "--data.max_eval_samples=16", "--trainer.max_epochs=1"]
    fitted = subprocess.run([command, "fit", *words], **run)
    assert fitted.stdout.splitlines()[-1] == f"run: {folder / 'runs' / 'version_0'}"
    assert (folder / "runs" / "version_0" / "hf" / "model.safetensors").is_file()


def test_wheel_fits(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    for folder in ("lit_ft/sample_data", "configs"):
        given = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.*") if path.suffix != ".pyc"}
        there = place / "lit_ft" / Path(folder).name
        assert given <= {path.relative_to(there) for path in there.rglob("*.*")}
    fit(sys.executable, place / "bin" / "lit-ft", place, tmp_path, PYTHONPATH=str(place))


@pytest.mark.soak
def test_wheel_in_a_clean_environment_fits(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    requirement = f"lit-ft[quickstart] @ {wheel.as_uri()}"
    install = [python, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), requirement]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    fit(python, tmp_path / "venv" / "bin" / "lit-ft", tmp_path / "venv", tmp_path)
