"""Training rows as a stream, through the data module and a Trainer; the stream itself: tests/data/test_streaming.py."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_ft import TextClassificationDataModule, TextClassificationModule
from lit_ft.errors import UserError
from lit_ft.tasks import OwnOrder
from tests.tiny import SAMPLE

LABELS = sorted({json.loads(line)["label"] for line in (SAMPLE / "train.jsonl").read_text().splitlines()})
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class Rows(Callback):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
        self.seen.append(batch["input_ids"].tolist())


def run(model: str, folder: Path, workers: int, resume: str | None = None, **trainer_options: Any) -> tuple:
    seed_everything(3)
    data = TextClassificationDataModule(
        model_name_or_path=model,
        train_file=str(SAMPLE / "train.csv"),
        text_column_names="text",
        label_names=LABELS,
        streaming=True,
        shuffle_buffer_size=100,
        validation_split_percentage=10,
        batch_size=16,
        num_workers=workers,
    )
    module = TextClassificationModule(model_name_or_path=model, config_overrides=NO_DROPOUT, learning_rate=1e-3)
    rows = Rows()
    options = {"max_steps": 12, "val_check_interval": 6, "check_val_every_n_epoch": None, **trainer_options}
    trainer = Trainer(
        **options,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[rows, ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=1)],
    )
    trainer.fit(module, data, ckpt_path=resume)
    return rows.seen, module.state_dict(), trainer


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_goes_on_equals_the_uninterrupted_one(workers: int, tiny: Any, tmp_path: Path) -> None:
    model = tiny("bert")
    seen, weights, trainer = run(model, tmp_path / "whole", workers)
    assert len(seen) == 12
    assert "val_loss" in trainer.callback_metrics
    for step in (1, 7):
        rest, again, _ = run(model, tmp_path / f"from{step}", workers, str(tmp_path / "whole" / f"step={step}.ckpt"))
        assert rest == seen[step:]
        assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": -1, "max_epochs": 1}, r"streaming never comes to the end of an epoch: set trainer\.max_steps"),
        ({"val_check_interval": None}, r"set trainer\.val_check_interval to the number of steps"),
    ],
)
def test_an_endless_epoch_needs_steps(options: dict, message: str, tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(tiny("bert"), tmp_path, 0, **options)


@pytest.fixture
def make(tiny):
    def build(**options) -> TextClassificationDataModule:
        rows = [{"text": f"text {n}", "label": ("no", "yes")[n % 2]} for n in range(50)]
        data = TextClassificationDataModule(
            **{"model_name_or_path": tiny("bert"), "dataset": rows, "streaming": True, "batch_size": 5, **options}
        )
        data.setup("fit")
        return data

    return build


def labels_of(data: TextClassificationDataModule, batches: int) -> list:
    return [label for batch in islice(data.train_dataloader(), batches) for label in batch["labels"].tolist()]


def test_labels_come_from_where_they_are_known_in_advance(make) -> None:
    with pytest.raises(UserError, match=r"streaming does not read all rows in advance.*set label_names"):
        make()
    assert set(labels_of(make(label_names=["yes", "no"]), 9)) == {0, 1}
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    named = Dataset.from_list([{"text": f"t {n}", "label": n % 2} for n in range(20)], features=features)
    data = make(dataset={"train": named, "validation": named}, shuffle_buffer_size=0)
    assert (data.description["labels"], labels_of(data, 2)) == (["no", "yes"], [0, 1] * 5)
    numbers = [{"text": f"t {n}", "label": n / 7} for n in range(50)]
    assert make(dataset=numbers).description["problem_type"] == "regression"


def test_bad_rows_are_errors_or_dropped(make) -> None:
    rows = [{"text": f"text {n}", "label": ("no", "yes", None)[n % 3]} for n in range(30)]
    data = {"train": rows, "validation": rows[:2]}
    with pytest.raises(UserError, match=r"split 'train': row 3, .*have no label"):
        labels_of(make(dataset=data, label_names=["no", "yes"], shuffle_buffer_size=0), 1)
    dropping = make(dataset=data, label_names=["no", "yes"], on_bad_rows={"unlabelled": "drop"}, shuffle_buffer_size=0)
    assert labels_of(dropping, 4) == [0, 1] * 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy needs to know all rows"),
        ({"max_tokens_per_batch": 500}, "max_tokens_per_batch needs to know all rows"),
        ({"class_balanced_sampling": True}, "class_balanced_sampling needs to know all rows"),
        ({"max_train_samples": 5}, "max_train_samples does not go with streaming"),
    ],
)
def test_what_a_stream_cannot_do(make, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(label_names=["no", "yes"], **options)


def test_an_order_of_a_task_s_own_is_refused_by_its_option(tiny: Any) -> None:
    class Sorted(TextClassificationDataModule):
        def train_order(self) -> OwnOrder:
            assert self.description["problem_type"] == "single_label"  # known by then
            return OwnOrder("shortest_first", lambda seed, epoch: self.features["train"][""].store.widths().argsort())

    rows = [{"text": f"text {n}", "label": ("no", "yes")[n % 2]} for n in range(50)]
    options = {"model_name_or_path": tiny("bert"), "dataset": rows, "label_names": ["no", "yes"]}
    data = Sorted(**options)
    data.setup("fit")
    assert len(data._train_sampler.rows_at(0, 0)) == 8
    with pytest.raises(UserError, match="shortest_first needs to know all rows, streaming does not: leave one"):
        Sorted(**options, streaming=True).setup("fit")


def test_a_plain_loop_gets_batches_that_a_model_takes(make) -> None:
    data = make(label_names=["no", "yes"], num_workers=1)
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels"}
    assert all(isinstance(tensor, torch.Tensor) for tensor in batch.values())


def test_a_row_without_a_label_is_named_with_the_fix(make) -> None:
    rows = [{"text": f"text {n}", "label": None if n == 30 else ("no", "yes")[n % 2]} for n in range(50)]
    with pytest.raises(UserError, match=r"row 31, one of the rows that have no label.*on_bad_rows: \{unlabelled: drop"):
        labels_of(make(dataset=rows, label_names=["no", "yes"], validation_split_percentage=0), 10)
