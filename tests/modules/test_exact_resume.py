"""A run that goes on from any checkpoint that it wrote ends as if it had never stopped, to the last bit."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping

from lit_ft import (
    MaskedLMDataModule,
    MaskedLMModule,
    MultipleChoiceDataModule,
    MultipleChoiceModule,
    QuestionAnsweringDataModule,
    QuestionAnsweringModule,
    Seq2SeqDataModule,
    Seq2SeqModule,
    TextClassificationDataModule,
    TextClassificationModule,
    TokenClassificationDataModule,
    TokenClassificationModule,
)
from lit_ft.callbacks import RunCheckpoint
from tests.modules.conftest import LABELS
from tests.pairs import make_seq2seq, pair_rows
from tests.questions import question_rows
from tests.sentences import sentences
from tests.tiny import SAMPLE, texts


class Diary(Callback):
    """Notes all that happens: losses, rates, random numbers, scores, and what other callbacks think of them."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.lines.append(
            ("batch", trainer.current_epoch, batch_idx, trainer.global_step, float(outputs["loss"]),
             trainer.optimizers[0].param_groups[0]["lr"], int(torch.randint(1 << 30, ()))),
        )  # fmt: skip

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        stopping, saving = trainer.early_stopping_callback, trainer.checkpoint_callback
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
        self.lines.append(
            ("validation", trainer.global_step, scores, stopping.wait_count, float(stopping.best_score),
             None if saving.best_model_score is None else float(saving.best_model_score)),
        )  # fmt: skip


class KeepAll(RunCheckpoint):
    """Keeps a copy of each file that is written, beside the length of the diary then."""

    def __init__(self, folder: Path, diary: Diary, **options: Any) -> None:
        super().__init__(**options)
        self.dirpath, self.diary, self.kept = str(folder), diary, dict[Path, int]()

    @property
    def state_key(self) -> str:
        return "RunCheckpoint"

    def _save_checkpoint(self, trainer: Any, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        copy = Path(filepath).with_name(f"{len(self.kept)}-{Path(filepath).name}")
        shutil.copy(filepath, copy)
        self.kept[copy] = trainer.global_step


def classification(model: str, **options: Any) -> tuple[Any, Any]:
    data = TextClassificationDataModule(
        model_name_or_path=model,
        train_file=str(SAMPLE / "train.csv"),
        validation_file=str(SAMPLE / "validation.csv"),
        text_column_names="text",
        **{"batch_size": 6, "max_train_samples": 46, "max_eval_samples": 12, **options},
    )
    return TextClassificationModule(model_name_or_path=model, learning_rate=3e-3, warmup_ratio=0.2), data


def masked(model: str, **options: Any) -> tuple[Any, Any]:
    data = MaskedLMDataModule(
        model_name_or_path=model,
        train_file=str(SAMPLE / "train.csv"),
        validation_file=str(SAMPLE / "validation.csv"),
        text_column_name="text",
        line_by_line=True,
        max_train_samples=46,
        max_eval_samples=12,
        **{"batch_size": 6, **options},
    )
    return MaskedLMModule(model_name_or_path=model, learning_rate=3e-3), data


def choosing(model: str, **options: Any) -> tuple[Any, Any]:
    rows = [
        {"context": text[:40], "options": [text[at : 12 + 9 * at] for at in range(2 + row % 3)], "label": row % 2}
        for row, text in enumerate(texts()[:40])
    ]
    data = MultipleChoiceDataModule(
        model_name_or_path=model,
        dataset={"train": rows[:28], "validation": rows[28:]},
        context_column_name="context",
        choice_column_names="options",
        **{"batch_size": 6, **options},
    )
    return MultipleChoiceModule(model_name_or_path=model, learning_rate=3e-3), data


def questions(model: str, **options: Any) -> tuple[Any, Any]:
    data = QuestionAnsweringDataModule(
        model_name_or_path=model,
        dataset={"train": question_rows(20, unanswerable=True), "validation": question_rows(9, 60, True)},
        **{"max_seq_length": 48, "doc_stride": 12, "batch_size": 6, **options},
    )
    return QuestionAnsweringModule(model_name_or_path=model, learning_rate=3e-3, null_score_diff_threshold="auto"), data


def tagged(model: str, **options: Any) -> tuple[Any, Any]:
    data = TokenClassificationDataModule(
        model_name_or_path=model,
        dataset={"train": sentences(46), "validation": sentences(9, 60)},
        text_column_name="tokens",
        label_column_name="tags",
        **{"max_seq_length": 24, "batch_size": 6, **options},
    )
    return TokenClassificationModule(model_name_or_path=model, learning_rate=3e-3), data


def writing(model: str, **options: Any) -> tuple[Any, Any]:
    data = Seq2SeqDataModule(
        model_name_or_path=model,
        dataset={"train": pair_rows(28), "validation": pair_rows(7, 40)},
        **{"max_target_length": 20, "batch_size": 6, **options},
    )
    module = Seq2SeqModule(
        model_name_or_path=model,
        learning_rate=3e-3,
        label_smoothing_factor=0.1,
        config_overrides={"dropout_rate": 0.1},
        generation={"do_sample": True, "max_new_tokens": 4},
        eval_generate_every_n_epochs=2,
    )
    return module, data


def run(
    made: tuple[Any, Any], folder: Path, resume: Path | None = None, **options: Any
) -> tuple[list[tuple[Any, ...]], dict[str, torch.Tensor], KeepAll]:
    module, data = made
    diary = Diary()
    saving = KeepAll(folder, diary, every_n_train_steps=3)
    trainer = Trainer(
        accelerator="cpu",
        gradient_clip_val=1.0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[diary, EarlyStopping("val_loss", patience=30), saving],
        default_root_dir=folder,
        **{"max_epochs": 2, **options},
    )
    trainer.fit(module, data, ckpt_path=None if resume is None else str(resume))
    return diary.lines, module.state_dict(), saving


def check(task: Any, model: str, folder: Path, trainer: dict[str, Any], **data: Any) -> None:
    seed_everything(7)
    lines, weights, saving = run(task(model, **data), folder / "whole", **trainer)
    assert any(line[0] == "validation" for line in lines)
    assert len(saving.kept) > 3
    for number, path in enumerate(saving.kept):
        seed_everything(7)
        torch.manual_seed(1000 + number)  # whatever a new process has drawn before
        rest, again, _ = run(task(model, **data), folder / f"from {path.stem}", path, **trainer)
        assert rest == lines[len(lines) - len(rest) :], path.name
        assert all(torch.equal(weights[name], again[name]) for name in weights), path.name
        done = {line[3] for line in lines if line[0] == "batch"} - {line[3] for line in rest if line[0] == "batch"}
        assert max(done, default=0) <= saving.kept[path], path.name


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "trainer",
    [
        {},
        pytest.param({"val_check_interval": 3}, marks=pytest.mark.soak),
        pytest.param({"accumulate_grad_batches": 3, "max_epochs": 3}, marks=pytest.mark.soak),
        {"accumulate_grad_batches": 3, "val_check_interval": 4},
        pytest.param({"val_check_interval": 5, "check_val_every_n_epoch": None}, marks=pytest.mark.soak),
        {"max_steps": 13, "val_check_interval": 4},
        pytest.param({"max_steps": 24, "max_epochs": 50}, marks=pytest.mark.soak),
        pytest.param({"limit_train_batches": 5}, marks=pytest.mark.soak),
    ],
    ids=str,
)
def test_classification(tiny: Any, tmp_path: Path, trainer: dict[str, Any], workers: int) -> None:
    if workers and trainer:
        pytest.skip("what workers do does not depend on the Trainer's options")
    check(classification, tiny("bert"), tmp_path, trainer, num_workers=workers)


@pytest.mark.soak  # tests/test_contract.py has each task once
@pytest.mark.parametrize(
    "data", [{}, {"train_sampling_strategy": "group_by_length"}, {"max_tokens_per_batch": 200}], ids=str
)
def test_masked_language_model(tiny: Any, tmp_path: Path, data: dict[str, Any]) -> None:
    check(masked, tiny("bert"), tmp_path, {"val_check_interval": 3}, **data)


@pytest.mark.soak  # tests/test_contract.py has each task once
@pytest.mark.parametrize("data", [{}, {"max_tokens_per_batch": 1600}], ids=str)
def test_multiple_choice(tiny: Any, tmp_path: Path, data: dict[str, Any]) -> None:
    check(choosing, tiny("bert"), tmp_path, {"val_check_interval": 3}, **data)


@pytest.mark.soak  # tests/test_contract.py has each task once
@pytest.mark.parametrize("data", [{}, {"max_tokens_per_batch": 300}], ids=str)
def test_question_answering(tiny: Any, tmp_path: Path, data: dict[str, Any]) -> None:
    check(questions, tiny("bert"), tmp_path, {"val_check_interval": 3}, **data)


@pytest.mark.soak  # tests/test_contract.py has each task once
@pytest.mark.parametrize("data", [{}, {"max_tokens_per_batch": 160}], ids=str)
def test_token_classification(tiny: Any, tmp_path: Path, data: dict[str, Any]) -> None:
    check(tagged, tiny("bert"), tmp_path, {"val_check_interval": 3}, **data)


@pytest.mark.soak  # tests/test_contract.py has each task once
@pytest.mark.parametrize("data", [{}, {"max_tokens_per_batch": 200}], ids=str)
def test_text_to_text(tmp_path: Path, data: dict[str, Any]) -> None:
    """Sampling in evaluation, too: it shall not change what training draws."""
    model = make_seq2seq("t5", tmp_path / "t5")
    check(writing, model, tmp_path, {"val_check_interval": 3}, **data)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.soak)])
def test_stream(tiny: Any, tmp_path: Path, workers: int) -> None:
    trainer = {"max_steps": 14, "max_epochs": -1, "val_check_interval": 4}
    check(
        classification,
        tiny("bert"),
        tmp_path,
        trainer,
        streaming=True,
        max_train_samples=None,
        label_names=LABELS,
        num_workers=workers,
    )
