"""QuestionAnsweringModule on tiny real models: it trains as transformers does, scores as SQuAD's script."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch.utils.data import DataLoader
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, TrainingArguments
from transformers import Trainer as HFTrainer

from lit_ft import QuestionAnsweringDataModule, QuestionAnsweringModule, load_predictor
from lit_ft.errors import UserError
from tests.processes import two_processes
from tests.questions import OUR_NAMES, Rows, official, question_rows

Fit = Callable[..., Trainer]
SMALL: dict[str, Any] = {"max_seq_length": 48, "doc_stride": 12}


def data_of(folder: str, dataset: dict[str, Rows], **options: Any) -> QuestionAnsweringDataModule:
    return QuestionAnsweringDataModule(model_name_or_path=folder, dataset=dataset, **{**SMALL, **options})


def predicted(run: Trainer, module: QuestionAnsweringModule, folder: str, rows: Rows, **options: Any) -> Rows:
    data = data_of(folder, {"predict": rows}, predict_split_name="predict", **options)
    return [row for batch in run.predict(module, data) or [] for row in batch]


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(float(outputs["loss"]))


def transformers_losses(folder: str, batches: list[dict[str, Any]], masked: bool, steps: int, path: Any) -> list[float]:
    """The losses of Hugging Face's Trainer over the same batches; padding taken out of its logits, if asked for."""

    losses: list[float] = []

    class Recording(HFTrainer):
        def get_train_dataloader(self) -> Any:
            return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            losses.append(float(loss))
            return loss

    def masking(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        starts, ends = labels
        logits = [outputs["start_logits"], outputs["end_logits"]]
        both = []
        for each, label in zip(logits, (starts, ends), strict=True):
            hidden = each.masked_fill(outputs["mask"] == 0, torch.finfo(torch.float32).min)
            both.append(torch.nn.functional.cross_entropy(hidden, label))
        return (both[0] + both[1]) / 2

    class Masked(torch.nn.Module):
        """transformers' model whose padding cannot be chosen."""

        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, start_positions: Any, end_positions: Any, **inputs: Any) -> dict[str, Any]:
            out = self.model(**inputs)
            named = {"start_logits": out.start_logits, "end_logits": out.end_logits, "mask": inputs["attention_mask"]}
            return {"loss": masking(named, (start_positions, end_positions)), **named}

    model: Any = AutoModelForQuestionAnswering.from_pretrained(folder)
    arguments = TrainingArguments(
        output_dir=str(path), max_steps=steps, learning_rate=1e-3, weight_decay=0.0, lr_scheduler_type="linear",
        max_grad_norm=1e9, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True, logging_steps=10**6,
    )  # fmt: skip
    trainer = Recording(model=Masked(model) if masked else model, args=arguments)
    trainer.train()
    return losses


@pytest.mark.parametrize("masked", [False, True], ids=["without padding", "padding masked"])
@pytest.mark.parametrize("padding_free", ["auto", "off"])
def test_losses_of_20_steps_are_those_of_transformers(
    masked: bool, padding_free: str, asked: Callable[[str], str], trainer: Fit, tmp_path: Any
) -> None:
    folder = asked("bert")
    rows = question_rows(60, unanswerable=True) + question_rows(30, start=70, messages=3)
    data = data_of(folder, {"train": rows}, validation_split_percentage=0, batch_size=8)
    data.setup("fit")
    store = data.features["train"][""].store
    lengths = store.lengths()
    chosen = range(80) if masked else np.flatnonzero(lengths == 48)[:80].tolist()  # full windows need no padding
    assert len(chosen) >= 40
    groups = [chosen[first : first + 4] for first in range(0, len(chosen) - 3, 4)]
    loader = [data.collate([store[at] for at in group], "train", []) for group in groups]
    batches = (loader * 3)[:20]
    assert any((batch["attention_mask"] == 0).any() for batch in batches) == masked
    theirs = transformers_losses(folder, batches, masked, 20, tmp_path / "hf")
    module = QuestionAnsweringModule(model_name_or_path=folder, learning_rate=1e-3, padding_free=padding_free)
    losses = Losses()
    trainer(max_steps=20, callbacks=[losses]).fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    assert module.without_padding.reason is None or padding_free == "off"
    assert len(theirs) == len(losses.values) == 20
    assert losses.values == pytest.approx(theirs, abs=1e-4)
    assert min(theirs[10:]) < theirs[0] - 0.2


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2", "llama"])
def test_padding_free_scores_are_those_of_padded_execution(
    kind: str, asked: Callable[[str], str], trainer: Fit
) -> None:
    folder = asked(kind)
    rows = question_rows(12, unanswerable=True)
    found = []
    for option in ("off", "on"):
        module = QuestionAnsweringModule(model_name_or_path=folder, padding_free=option)
        data = data_of(folder, {"validation": rows}, batch_size=6)
        run = trainer()
        (values,) = run.validate(module, data, verbose=False)
        found.append((values, predicted(run, module, folder, rows, batch_size=6)))
    for name, value in found[0][0].items():
        assert found[1][0][name] == pytest.approx(value, abs=1e-5), name
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one["answer"] == other["answer"]
        assert [each["score"] for each in one["n_best"]] == pytest.approx(
            [each["score"] for each in other["n_best"]], abs=1e-5
        )


def test_learns_its_rows_and_finds_a_threshold(asked: Callable[[str], str], trainer: Fit, tmp_path: Any) -> None:
    folder, rows = asked("bert"), question_rows(24, unanswerable=True)
    module = QuestionAnsweringModule(
        model_name_or_path=folder, learning_rate=3e-3, warmup_ratio=0.1, null_score_diff_threshold="auto"
    )
    data = data_of(folder, {"train": rows, "validation": rows}, batch_size=12)
    seed_everything(0)
    run = trainer(max_epochs=50, check_val_every_n_epoch=50, gradient_clip_val=1.0)
    run.fit(module, data)
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert logged["val_f1"] > 85
    assert logged["val_f1"] == pytest.approx(logged["val_best_f1"], abs=1e-3)
    assert module.model is not None
    threshold = module.model.config.null_score_diff_threshold
    # the metrics are those of the official script on what is predicted
    found = predicted(run, module, folder, rows)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    best = {row["id"]: next((each["text"] for each in row["n_best"] if each["text"]), "") for row in found}
    golds = {row["id"]: row["answers"]["text"] for row in rows}
    expected = official(best, golds, {row["id"]: row["null_odds"] for row in found}, threshold)
    for theirs, ours in OUR_NAMES.items():
        assert logged[f"val_{ours}"] == pytest.approx(expected[theirs], abs=1e-3), theirs
    for row in found:
        assert row["context"][row["start"] : row["end"]] == row["answer"]
        assert (row["answer"] == "") == (row["null_odds"] > threshold)
        assert sum(each["score"] for each in row["n_best"]) == pytest.approx(1, abs=1e-5)
        null = [each["score"] for each in row["n_best"] if not each["text"]]
        assert null == [row["no_answer_probability"]]
    json.dumps(found)  # plain values

    # without a Trainer, from a checkpoint or the model's own folder
    run.save_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    module.model.save_pretrained(tmp_path / "hf")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "hf")
    for source in ("a.ckpt", "hf"):
        answers = load_predictor(tmp_path / source, batch_size=5, **SMALL)(
            [{"question": row["question"], "context": row["context"]} for row in rows]
        )
        for one, row in zip(answers, found, strict=True):
            assert one["answer"] == row["answer"]
            assert one["no_answer_probability"] == pytest.approx(row["no_answer_probability"], abs=1e-4)


def test_figures_without_missing_answers_are_two(asked: Callable[[str], str], trainer: Fit) -> None:
    folder, rows = asked("bert"), question_rows(10)
    run, module = trainer(), QuestionAnsweringModule(model_name_or_path=folder)
    (values,) = run.validate(module, data_of(folder, {"validation": rows}), verbose=False)
    assert set(values) == {"val_loss", "val_exact_match", "val_f1"}
    found = predicted(run, module, folder, rows)
    golds = {row["id"]: row["answers"]["text"] for row in rows}
    odds = dict.fromkeys(golds, 0.0)
    expected = official({row["id"]: row["answer"] for row in found}, golds, odds, 1.0)
    assert values["val_f1"] == pytest.approx(expected["f1"], abs=1e-3)
    assert values["val_exact_match"] == pytest.approx(expected["exact"], abs=1e-3)
    assert "no_answer_probability" not in found[0]
    assert all(row["answer"] for row in found)
    asked_for = QuestionAnsweringModule(model_name_or_path=folder, version_2_with_negative=True)
    (more,) = trainer().validate(asked_for, data_of(folder, {"validation": rows}), verbose=False)
    assert len(more) == 11
    assert np.isnan(more["val_no_ans_f1"])


def test_two_processes_score_as_one(asked: Callable[[str], str], trainer: Fit) -> None:
    folder = asked("bert")
    rows = question_rows(11, unanswerable=True) + question_rows(4, 60, messages=3)  # windows of a row stay together

    found = []
    for spread in ({}, two_processes()):
        module = QuestionAnsweringModule(model_name_or_path=folder, null_score_diff_threshold="auto")
        data = data_of(folder, {"validation": rows}, batch_size=3)
        found += trainer(**spread).validate(module, data, verbose=False)
    assert set(found[0]) == set(found[1])
    assert len(found[0]) == 11
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, abs=1e-4), name


def test_batches_of_somebody_else_train_and_have_a_loss_only(asked: Callable[[str], str], trainer: Fit) -> None:
    folder = asked("bert")
    ids = torch.randint(5, 90, (4, 12))
    batch = {
        "input_ids": ids,
        "start_positions": torch.tensor([1, 2, 3, 4]),
        "end_positions": torch.tensor([2, 3, 4, 9]),
    }
    loader = DataLoader([batch] * 3, batch_size=None)  # type: ignore[arg-type]
    module = QuestionAnsweringModule(model_name_or_path=folder)
    run = trainer(max_steps=3)
    run.fit(module, loader, loader)
    assert np.isfinite(float(run.callback_metrics["val_loss"]))
    with pytest.raises(UserError, match=r"answers are known of our data module's batches only"):
        run.predict(module, loader)
