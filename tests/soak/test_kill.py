"""kill -9 at random moments, `--ckpt_path last` after each: the run ends, in one folder, with whole files only."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import pipeline

from tests.tiny import SAMPLE

KILLS, EPOCHS = 12, 12


@pytest.mark.soak
def test_killed_again_and_again(tiny: Any, tmp_path: Path) -> None:
    words = [
        sys.executable, "-m", "lit_ft", "fit",
        "--model=TextClassificationModule", "--data=TextClassificationDataModule",
        f"--model.model_name_or_path={tiny('bert')}", f"--data.train_file={SAMPLE / 'train.csv'}",
        f"--data.validation_file={SAMPLE / 'validation.csv'}", "--data.text_column_names=text",
        f"--trainer.max_epochs={EPOCHS}", f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--trainer.enable_progress_bar=false", "--checkpoint.every_n_train_steps=5", "--checkpoint.monitor=train_loss",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    chance = random.Random(1)
    for _ in range(KILLS):
        resume = ["--ckpt_path=last"] if list((tmp_path / "runs").glob("*/checkpoints/last.ckpt")) else []
        process = subprocess.Popen(
            [*words, *resume], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        time.sleep(8 + 8 * chance.random())
        process.kill()
        assert process.wait() in (-9, 0), (process.stderr.read() if process.stderr else b"").decode()
    subprocess.run([*words, "--ckpt_path=last"], env=environment, check=True, timeout=600)
    runs = [path for path in (tmp_path / "runs").iterdir() if (path / "checkpoints").exists()]
    assert len(runs) == 1
    last = torch.load(runs[0] / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == EPOCHS * 55
    assert pipeline("text-classification", str(runs[0] / "hf"))("where is my parcel")[0]["label"]
    steps = pd.read_csv(runs[0] / "metrics.csv")["step"]
    assert steps.max() >= EPOCHS * 55 - 10
