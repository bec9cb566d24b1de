"""What a user installs: the wheel, in a clean environment, runs one fit from its own sample data and configuration."""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_wheel_in_a_clean_environment_fits(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    requirement = f"lit-ft[quickstart] @ {wheel.as_uri()}"
    install = [python, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), requirement]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    find = "from lit_ft.commands.quickstart import CONFIG, shipped_config; print(shipped_config(CONFIG))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = {"check": True, "capture_output": True, "text": True, "cwd": tmp_path, "env": environment, "timeout": 300}
    found = subprocess.run([python, "-c", find], **run).stdout.split()[-1]  # type: ignore[call-overload]
    assert str(tmp_path / "venv") in found
    words = ["--config", found, "--data.max_train_samples=32", "--data.max_eval_samples=16", "--trainer.max_epochs=1"]
    fitted = subprocess.run([tmp_path / "venv" / "bin" / "lit-ft", "fit", *words], **run)  # type: ignore[call-overload]
    assert fitted.stdout.splitlines()[-1] == f"run: {tmp_path / 'runs' / 'version_0'}"
    assert (tmp_path / "runs" / "version_0" / "hf" / "model.safetensors").is_file()
