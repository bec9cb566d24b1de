"""A run that goes on in the middle of an epoch sees the rows still to come, and ends with the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_ft import TextClassificationDataModule, TextClassificationModule
from tests.tiny import SAMPLE

STEPS = 9  # 3 an epoch
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Rows(Callback):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch["input_ids"].tolist())


def run(model: str, folder: Path, workers: int, resume: str | None = None) -> tuple[list[Any], dict[str, torch.Tensor]]:
    seed_everything(5)
    data = TextClassificationDataModule(
        model_name_or_path=model,
        train_file=str(SAMPLE / "train.csv"),
        validation_file=str(SAMPLE / "validation.csv"),
        text_column_names="text",
        max_train_samples=46,
        max_eval_samples=8,
        batch_size=16,
        num_workers=workers,
    )
    module = TextClassificationModule(
        model_name_or_path=model, config_overrides=NO_DROPOUT, learning_rate=1e-3, warmup_ratio=0.2
    )
    rows = Rows()
    saving = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    trainer = Trainer(
        max_epochs=3,
        gradient_clip_val=1.0,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[rows, saving],
        default_root_dir=folder,
    )
    trainer.fit(module, data, ckpt_path=resume)
    return rows.seen, module.state_dict()


@pytest.mark.parametrize("workers", [0, 1])
def test_resumed_run_equals_the_uninterrupted_one(workers: int, tiny: Any, tmp_path: Path) -> None:
    model = tiny("bert")
    seen, weights = run(model, tmp_path / "whole", workers)
    assert len(seen) == STEPS
    for step in (1, 3, 4, 8):
        rest, again = run(model, tmp_path / f"from{step}", workers, str(tmp_path / "whole" / f"step={step}.ckpt"))
        assert rest == seen[step:]
        assert all(torch.equal(weights[name], again[name]) for name in weights)
