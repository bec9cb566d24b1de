"""Our training against Hugging Face's Trainer, against itself in other shapes, and after a checkpoint's round trip."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import SumMetric
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback, TrainingArguments

from lit_ft.datamodules import TextClassificationDataModule
from lit_ft.modules import TextClassificationModule
from lit_ft.modules.normaliser import LossNormaliser
from lit_ft.ops.building.checkpoint_extras import read_extras
from tests.contract import KeepWeights
from tests.modules.conftest import LABELS, NO_DROPOUT, sample_rows
from tests.modules.given_batches import TrainerOnGivenBatches
from tests.processes import two_processes

Batch = dict[str, Tensor]


class RowCount(SumMetric):
    """Counts the rows that are scored."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        super().update(torch.tensor(float(len(preds))))


class Recorder(Callback):
    """Keeps the loss and the learning rate of every optimizer step, as it is about to be used."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))


class Rates(TrainerCallback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])


def weights(module: TextClassificationModule) -> dict[str, Tensor]:
    assert module.model is not None
    return {name: value.detach().clone() for name, value in module.model.state_dict().items()}


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_thirty_steps_equal_hugging_faces_trainer(
    headed: str, tmp_path: Path, trainer: Callable[..., Trainer], sample: Path
) -> None:
    steps, options = 30, {"learning_rate": 1e-3, "weight_decay": 0.01}
    data = TextClassificationDataModule(
        model_name_or_path=headed, train_file=str(sample / "train.jsonl"), validation_split_percentage=0, batch_size=8,
        text_column_names="text", label_column_name="label",
    )  # fmt: skip
    recorder = Recorder()
    seed_everything(1)
    ours = TextClassificationModule(model_name_or_path=headed, num_warmup_steps=5, **options)
    trainer(max_steps=steps, gradient_clip_val=1.0, callbacks=[recorder]).fit(ours, data)
    batches = [batch for batch, _ in zip(data.train_dataloader(), range(steps), strict=False)]
    assert len({batch["input_ids"].shape[1] for batch in batches}) > 3  # really padded to the longest row of each

    rates = Rates()
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "theirs"), max_steps=steps, warmup_steps=5, lr_scheduler_type="linear",
        max_grad_norm=1.0, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        **options,
    )  # fmt: skip
    theirs = TrainerOnGivenBatches(
        batches,
        model=AutoModelForSequenceClassification.from_pretrained(headed),
        args=arguments,
        callbacks=[rates],
    )
    theirs.train()
    assert len(recorder.losses) == len(theirs.losses) == steps
    np.testing.assert_allclose(recorder.losses, theirs.losses, atol=1e-5)
    np.testing.assert_allclose(recorder.rates, rates.rates, atol=1e-12)
    assert max(rates.rates) == pytest.approx(1e-3)
    start = AutoModelForSequenceClassification.from_pretrained(headed).state_dict()
    assert furthest(weights(ours), start) > 1e-2
    assert furthest(weights(ours), theirs.model.state_dict()) < 1e-5


# 57 rows: the last window of four micro-batches of 4 is 4 + 4 + 1, that of one batch of 16 is 9
RAGGED = 57


def rows_of_dicts(folder: str, unlabelled: int = 5) -> list[dict[str, Any]]:
    """Tokenized rows of quite different lengths, every fifth without a label."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for number, row in enumerate(sample_rows(RAGGED)):
        label = -100 if unlabelled and number % unlabelled in (0, 1) and number < 30 else LABELS.index(row["label"])
        rows.append({"input_ids": tokenizer(row["text"])["input_ids"][: 8 + number % 40], "labels": label})
    return rows


def collate(rows: list[dict[str, Any]]) -> Batch:
    width = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": torch.tensor([r["labels"] for r in rows])}


def accumulated(headed: str, trainer: Callable[..., Trainer], size: int, windows: int) -> dict[str, Tensor]:
    # AdamW divides by the gradient's own size: without a larger epsilon it would blow float noise up to whole steps
    module = TextClassificationModule(
        model_name_or_path=headed, label_names=LABELS, learning_rate=3e-3, adam_epsilon=1e-3, weight_decay=0.01,
        tokenizer_name=headed, class_weights=[0.05 + 0.1 * number for number in range(len(LABELS))],
    )  # fmt: skip
    loader = DataLoader(rows_of_dicts(headed), batch_size=size, collate_fn=collate)
    run = trainer(max_epochs=2, accumulate_grad_batches=windows, gradient_clip_val=1.0)
    run.fit(module, loader)
    assert run.global_step == 2 * math.ceil(RAGGED / 16)
    return weights(module)


def test_accumulation_equals_one_big_batch(
    headed: str, trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = accumulated(headed, trainer, size=16, windows=1)
    parts = accumulated(headed, trainer, size=4, windows=4)
    assert furthest(whole, parts) < 1e-6
    # what Lightning does by itself: the mean of the micro-batches' means, over the window's nominal length
    monkeypatch.setattr(LossNormaliser, "_needed", staticmethod(lambda module: False))
    assert furthest(whole, accumulated(headed, trainer, size=4, windows=4)) > 1e-4


@pytest.mark.soak  # tests/test_contract.py has two processes, too
def test_two_processes_equal_one(headed: str, tmp_path: Path, trainer: Callable[..., Trainer]) -> None:
    def run(batch_size: int, **kwargs: Any) -> tuple[dict[str, Tensor], dict[str, float], TextClassificationModule]:
        seed_everything(5)
        data = TextClassificationDataModule(
            model_name_or_path=headed, dataset={"train": sample_rows(37), "validation": sample_rows(11, "validation")},
            batch_size=batch_size, eval_batch_size=2, text_column_names="text", label_column_name="label",
            max_seq_length=16, stride=2,
        )  # fmt: skip
        module = TextClassificationModule(
            model_name_or_path=headed, learning_rate=3e-3, adam_epsilon=1e-3,
            metrics=["tests.modules.test_training_parity.RowCount", "MulticlassF1Score"],
        )  # fmt: skip
        path = tmp_path / f"{batch_size}.pt"
        fitting = trainer(max_epochs=2, gradient_clip_val=1.0, callbacks=[KeepWeights(path)], **kwargs)
        fitting.fit(module, data)
        logged = {name: float(value) for name, value in fitting.callback_metrics.items()}
        return torch.load(path, weights_only=True), logged, module

    one, logged, module = run(16)
    two, logged_by_two, _ = run(4, **two_processes(), accumulate_grad_batches=2)
    assert furthest(one, two) < 1e-6
    # the training loss of the last step is one process's own rows
    for name in logged.keys() - {"train_loss"}:
        assert logged_by_two[name] == pytest.approx(logged[name], abs=1e-5), name
    assert logged["val_row_count"] == logged_by_two["val_row_count"] == 11

    data = TextClassificationDataModule(
        model_name_or_path=headed, dataset={"train": sample_rows(37), "predict": sample_rows(11, "validation")},
        predict_split_name="predict", max_seq_length=16, stride=2, text_column_names="text", label_column_name="label",
    )  # fmt: skip
    rows = [row for batch in trainer().predict(module, data) or [] for row in batch]
    truth, predicted = [row["label"] for row in rows], [row["predicted_label"] for row in rows]
    assert len(rows) == 11
    assert logged_by_two["val_accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert logged_by_two["val_f1_macro"] == pytest.approx(f1_score(truth, predicted, average="macro"))


class DropoutProbe(Callback):
    """Runs the same batch twice at the start of every training step, which only dropout can tell apart."""

    def __init__(self) -> None:
        self.differences: list[tuple[bool, bool]] = []
        self.validated = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        inputs = pl_module.model_inputs(batch)
        with torch.no_grad():
            gap = (pl_module(**inputs).logits - pl_module(**inputs).logits).abs().max()
        self.differences.append((self.validated, bool(gap > 0)))

    def on_validation_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        inputs = pl_module.model_inputs(batch)
        assert torch.equal(pl_module(**inputs).logits, pl_module(**inputs).logits)
        self.validated = True


def test_dropout_is_on_in_training_also_after_a_validation(tiny: Callable[..., str], trainer: Any) -> None:
    module = TextClassificationModule(model_name_or_path=tiny("bert"), label_names=LABELS)
    loader = DataLoader(rows_of_dicts(tiny("bert"), 0)[:16], batch_size=4, collate_fn=collate)
    probe = DropoutProbe()
    trainer(max_steps=4, val_check_interval=2, limit_val_batches=1, callbacks=[probe]).fit(module, loader, loader)
    assert probe.differences == [(False, True)] * 2 + [(True, True)] * 2


def test_a_checkpoint_stands_alone(tiny: Callable[..., str], tmp_path: Path, trainer: Callable[..., Trainer]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny("bert"), folder)
    data = TextClassificationDataModule(
        model_name_or_path=str(folder), text_column_names="text", label_column_name="label", batch_size=8,
        dataset={"train": sample_rows(24), "test": sample_rows(13, "test")}, label_names=LABELS,
        validation_split_percentage=0,
    )  # fmt: skip
    # new words: the embeddings are longer than those of the folder
    options: dict[str, Any] = {"model_name_or_path": str(folder), "add_tokens": ["larkspur", "lk"]}
    data.hparams["add_tokens"] = options["add_tokens"]
    module = TextClassificationModule(learning_rate=1e-3, config_overrides=NO_DROPOUT, **options)
    run = trainer(max_steps=3)
    run.fit(module, data)
    (scores,) = run.test(module, data, verbose=False)
    path = tmp_path / "run.ckpt"
    run.save_checkpoint(path, weights_only=True)
    batch = next(iter(data.test_dataloader()[0]))
    assert module.model is not None
    before = module.model.eval()(**module.model_inputs(batch)).logits
    shutil.rmtree(folder)

    loaded = TextClassificationModule.load_from_checkpoint(path, weights_only=True)
    assert loaded.model is not None
    assert torch.equal(before, loaded.model.eval()(**loaded.model_inputs(batch)).logits)
    assert loaded.model.config.id2label == module.model.config.id2label
    text = "larkspur lk-15340 is late"
    assert loaded.tokenizer(text)["input_ids"] == data.tokenizer(text)["input_ids"]

    extras = read_extras(path)
    again = TextClassificationModule(**extras["hyper_parameters"])
    again.restore(extras)
    other = TextClassificationDataModule(
        text_column_names="text", label_column_name="label", dataset={"test": sample_rows(13, "test")}, batch_size=8
    )
    (restored,) = trainer().test(again, other, ckpt_path=str(path), weights_only=True, verbose=False)
    assert restored == pytest.approx(scores, abs=1e-6)
    assert again.model is not None
    assert torch.equal(before, again.model.eval()(**again.model_inputs(batch)).logits)
