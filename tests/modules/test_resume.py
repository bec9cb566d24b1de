"""A run that goes on in the middle of an epoch sees the rows still to come, and ends with the same weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_ft import TextClassificationDataModule, TextClassificationModule
from lit_ft.errors import UserError
from lit_ft.ops.building.own_memory import ALIGNMENT
from tests.tiny import SAMPLE

STEPS = 9  # 3 an epoch
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Rows(Callback):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch["input_ids"].tolist())


class SaveAtTheEnd(Callback):
    """As `last.ckpt` of a run: saved when Lightning has counted the epoch as done already."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.save_checkpoint(self.path)


def run(
    model: str,
    folder: Path,
    workers: int,
    resume: str | None = None,
    steps: int = -1,
    schedule: str = "linear",
    **options: Any,
) -> tuple[list[Any], dict[str, torch.Tensor]]:
    seed_everything(5)
    data = TextClassificationDataModule(
        model_name_or_path=model,
        train_file=str(SAMPLE / "train.csv"),
        validation_file=str(SAMPLE / "validation.csv"),
        text_column_names="text",
        max_train_samples=46,
        max_eval_samples=8,
        num_workers=workers,
        **{"batch_size": 16, **options},
    )
    module = TextClassificationModule(
        model_name_or_path=model,
        config_overrides=NO_DROPOUT,
        learning_rate=1e-3,
        warmup_ratio=0.0 if schedule == "constant" else 0.2,
        lr_scheduler_type=schedule,
    )
    rows = Rows()
    saving = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    trainer = Trainer(
        max_epochs=3,
        max_steps=steps,
        gradient_clip_val=1.0,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[rows, saving, SaveAtTheEnd(folder / "end.ckpt")],
        default_root_dir=folder,
    )
    trainer.fit(module, data, ckpt_path=resume)
    assert {weight.data_ptr() % ALIGNMENT for weight in module.parameters()} == {0}  # or MKL rounds differently
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


def order_of(seen: list[Any]) -> list[list[int]]:
    """Rows without their padding (0), one after the other."""
    return [[token for token in row if token] for batch in seen for row in batch]


@pytest.mark.parametrize("batch_size", [3, 24, 46])
def test_another_batch_size_neither_repeats_nor_skips_a_row(batch_size: int, tiny: Any, tmp_path: Path) -> None:
    model = tiny("bert")
    seen, _ = run(model, tmp_path / "whole", 0)
    for step in (1, 3, 5):
        rest, _ = run(
            model, tmp_path / f"from{step}", 0, str(tmp_path / "whole" / f"step={step}.ckpt"), batch_size=batch_size
        )
        assert order_of(rest) == order_of(seen[step:])


@pytest.mark.parametrize("strategy", ["sequential", "group_by_length", "token budget"])
def test_every_order_goes_on_at_its_place(strategy: str, tiny: Any, tmp_path: Path) -> None:
    options = {"max_tokens_per_batch": 300} if strategy == "token budget" else {"train_sampling_strategy": strategy}
    model = tiny("bert")
    seen, _ = run(model, tmp_path / "whole", 0, **options)
    assert len(order_of(seen)) == 3 * 46
    rest, _ = run(model, tmp_path / "again", 0, str(tmp_path / "whole" / "step=5.ckpt"), **options)
    assert rest == seen[5:]


def test_another_order_within_an_epoch_is_refused(tiny: Any, tmp_path: Path) -> None:
    model = tiny("bert")
    run(model, tmp_path / "whole", 0)
    with pytest.raises(UserError, match="there train_sampling_strategy was random, now it is sequential: keep it"):
        run(model, tmp_path, 0, str(tmp_path / "whole" / "step=2.ckpt"), train_sampling_strategy="sequential")


@pytest.mark.parametrize("steps", [1, 3, 4, 6])
def test_a_run_that_ended_by_max_steps_goes_on_where_it_ended(steps: int, tiny: Any, tmp_path: Path) -> None:
    model, constant = tiny("bert"), {"schedule": "constant"}
    seen, weights = run(model, tmp_path / "whole", 0, **constant)
    begun, _ = run(model, tmp_path / "part", 0, steps=steps, **constant)
    assert begun == seen[:steps]
    rest, again = run(model, tmp_path / "rest", 0, str(tmp_path / "part" / "end.ckpt"), **constant)
    assert rest == seen[steps:]
    assert all(torch.equal(weights[name], again[name]) for name in weights)
