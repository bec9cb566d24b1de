"""MultipleChoiceModule end to end on tiny real models: losses, scores, predictions, export."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor
from transformers import (
    AutoModelForMultipleChoice,
    AutoTokenizer,
    DataCollatorForMultipleChoice,
    TrainingArguments,
)

from lit_ft import MultipleChoiceDataModule, MultipleChoiceModule
from lit_ft.cli import main
from lit_ft.errors import UserError
from lit_ft.ops.losses.classification import choice_loss
from tests.modules.conftest import NO_DROPOUT
from tests.modules.given_batches import TrainerOnGivenBatches
from tests.modules.test_training_parity import Recorder
from tests.tiny import texts

Fit = Callable[..., Trainer]
MESSAGES = [text for text in texts() if len(text) < 120]


def rows_of(number: int, sizes: tuple[int, ...] = (4,), start: int = 0) -> list[dict[str, Any]]:
    """Rows whose right choice has the context's first word."""
    rows = []
    for row in range(start, start + number):
        size, context = sizes[row % len(sizes)], MESSAGES[row % len(MESSAGES)]
        label = (row * 7) % size
        options = [MESSAGES[(row + 11 * at + 5) % len(MESSAGES)][: 12 + 5 * at] for at in range(size)]
        options[label] = f"right right {options[label]}"
        rows.append({"context": context, "question": "so", "options": options, "answer": label})
    return rows


@pytest.fixture(scope="session")
def chooser(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny BERT with a multiple choice head, dropout off, weights large enough to tell rows apart."""
    folder = tmp_path_factory.mktemp("chooser")
    torch.manual_seed(3)
    model = AutoModelForMultipleChoice.from_pretrained(tiny("bert"), initializer_range=0.3, **NO_DROPOUT)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embeddings" not in name:
                weight.mul_(4)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny("bert")).save_pretrained(folder)
    return str(folder)


def data_of(folder: str, dataset: Any, **options: Any) -> MultipleChoiceDataModule:
    return MultipleChoiceDataModule(
        model_name_or_path=folder, dataset=dataset, **{"validation_split_percentage": 0, "batch_size": 8, **options}
    )


def scores_alone(folder: str | Path, rows: list[dict[str, Any]]) -> list[Tensor]:
    """Logits of each row, run by itself by transformers."""
    model, tokenizer = AutoModelForMultipleChoice.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    found = []
    for row in rows:
        seconds = [f"{row['question']} {option}" for option in row["options"]]
        inputs = tokenizer([row["context"]] * len(seconds), seconds, padding=True, return_tensors="pt")
        with torch.no_grad():
            found.append(model(**{name: value[None] for name, value in inputs.items()}).logits[0])
    return found


def test_twenty_steps_equal_hugging_faces_trainer(chooser: str, tmp_path: Path, trainer: Fit) -> None:
    rows = rows_of(64)
    data, recorder = data_of(chooser, rows, batch_size=4), Recorder()
    seed_everything(1)
    ours = MultipleChoiceModule(model_name_or_path=chooser, learning_rate=1e-3, num_warmup_steps=4)
    trainer(max_steps=20, max_epochs=2, gradient_clip_val=1.0, callbacks=[recorder]).fit(ours, data)

    # the same rows in the same order, tokenized and collated by transformers
    tokenizer = AutoTokenizer.from_pretrained(chooser)
    collator, batches = DataCollatorForMultipleChoice(tokenizer), []
    for step in range(20):
        picked = [rows[at] for at in data.train_rows_at(step // 16, step % 16) or []]
        features = [
            {**tokenizer([row["context"]] * 4, [f"so {option}" for option in row["options"]]), "label": row["answer"]}
            for row in picked
        ]
        batches.append(collator(features))
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "theirs"), max_steps=20, learning_rate=1e-3, warmup_steps=4, max_grad_norm=1.0,
        weight_decay=0.0, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    theirs = TrainerOnGivenBatches(batches, model=AutoModelForMultipleChoice.from_pretrained(chooser), args=arguments)
    theirs.train()
    np.testing.assert_allclose(recorder.losses, theirs.losses, atol=1e-4)
    assert max(theirs.losses) - min(theirs.losses) > 0.1
    assert ours.model is not None
    for name, value in theirs.model.state_dict().items():
        if name.endswith("key.bias") or name == "classifier.bias":
            continue  # no probability depends on them: their gradient is rounding, which Adam makes whole steps of
        torch.testing.assert_close(ours.model.state_dict()[name], value, atol=1e-4, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("padding_free", ["on", "off"])
def test_loss_of_rows_with_different_numbers_of_choices(
    chooser: str, trainer: Fit, smoothing: float, padding_free: str
) -> None:
    rows = rows_of(9, sizes=(4, 2, 5))
    data = data_of(chooser, rows, batch_size=9)
    module = MultipleChoiceModule(
        model_name_or_path=chooser, label_smoothing_factor=smoothing, padding_free=padding_free, learning_rate=0.0
    )
    recorder = Recorder()
    gradients: dict[str, Tensor] = {}

    class Noting(type(module)):  # type: ignore[misc]
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            super().on_before_optimizer_step(optimizer)
            gradients.update({name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None})

    module.__class__ = Noting
    trainer(max_steps=1, callbacks=[recorder]).fit(module, data)
    model, tokenizer = AutoModelForMultipleChoice.from_pretrained(chooser), AutoTokenizer.from_pretrained(chooser)
    total = torch.zeros(())
    for row in rows:  # each row by itself, transformers' loss (torch's smoothing)
        inputs = tokenizer(
            [row["context"]] * len(row["options"]), [f"so {each}" for each in row["options"]], padding=True,
            return_tensors="pt",
        )  # fmt: skip
        logits = model(**{name: value[None] for name, value in inputs.items()}).logits
        total = total + F.cross_entropy(logits, torch.tensor([row["answer"]]), label_smoothing=smoothing)
    (total / 9).backward()
    assert recorder.losses == pytest.approx([float(total) / 9], abs=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_choice_loss_leaves_out_what_is_not_there() -> None:
    logits = torch.tensor([[1.0, 2.0, float("nan")], [0.5, 0.1, 0.3], [float("inf"), 1.0, 2.0]], requires_grad=True)
    present = torch.tensor([[True, True, False], [True] * 3, [True] * 3])
    for smoothing in (0.0, 0.3):
        total, count = choice_loss(logits, torch.tensor([1, 2, -100]), present, smoothing)
        expected = F.cross_entropy(torch.tensor([[1.0, 2.0]]), torch.tensor([1]), label_smoothing=smoothing)
        expected += F.cross_entropy(torch.tensor([[0.5, 0.1, 0.3]]), torch.tensor([2]), label_smoothing=smoothing)
        assert count == 2
        torch.testing.assert_close(total, expected)
        (gradient,) = torch.autograd.grad(total, logits)
        assert bool(gradient.isfinite().all())
        assert gradient[0, 2] == 0
        assert bool((gradient[2] == 0).all())
    with pytest.raises(UserError, match=r"label_smoothing_factor is 1.0; it must be at least 0 and below 1"):
        MultipleChoiceModule(label_smoothing_factor=1.0)


def test_scores_and_predictions_are_those_of_each_row_alone(chooser: str, trainer: Fit) -> None:
    rows = rows_of(23, sizes=(4, 2, 5, 4))
    data = data_of(chooser, {"train": rows, "validation": rows, "test": rows}, eval_batch_size=6)
    module, run = MultipleChoiceModule(model_name_or_path=chooser), trainer()
    (tested,) = run.test(module, data, verbose=False)
    alone = [logits.softmax(-1) for logits in scores_alone(chooser, rows)]
    right = [int(scores.argmax()) == row["answer"] for scores, row in zip(alone, rows, strict=True)]
    assert 0 < sum(right) < 23
    loss = sum(-float(scores[row["answer"]].log()) for scores, row in zip(alone, rows, strict=True)) / 23
    assert tested["test_loss"] == pytest.approx(loss, abs=1e-5)
    assert tested["test_accuracy"] == pytest.approx(sum(right) / 23)
    for size in (2, 4, 5):
        some = [hit for hit, row in zip(right, rows, strict=True) if len(row["options"]) == size]
        assert tested[f"test_accuracy_{size}"] == pytest.approx(sum(some) / len(some))
    bins: dict[int, list[float]] = {}
    for scores, hit in zip(alone, right, strict=True):
        bins.setdefault(min(int(scores.max() * 15), 14), []).append(float(scores.max()) - hit)
    expected = sum(abs(sum(gaps)) for gaps in bins.values()) / 23
    assert tested["test_calibration_error"] == pytest.approx(expected, abs=1e-5)
    assert set(tested) == {f"test_{name}" for name in ("loss", *module.metric_names(module.description))}
    assert module.label_table("test") == [[]]  # choices have no names

    predicted = [row for batch in run.predict(module, data) or [] for row in batch]
    for given, row, scores in zip(rows, predicted, alone, strict=True):
        assert {name: row[name] for name in given} == given
        best = int(scores.argmax())
        assert row["scores"] == pytest.approx(scores.tolist(), abs=1e-5)
        assert row["score"] == max(row["scores"])
        assert (row["predicted_index"], row["predicted_label"], row["predicted_choice"]) == (
            best, best, given["options"][best],
        )  # fmt: skip


def test_one_number_of_choices_has_one_accuracy(chooser: str, trainer: Fit) -> None:
    (tested,) = trainer().test(
        MultipleChoiceModule(model_name_or_path=chooser), data_of(chooser, {"test": rows_of(5)}), verbose=False
    )
    assert set(tested) == {"test_loss", "test_accuracy", "test_calibration_error"}


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([{"question": "b", "choices": {"text": ["c", "d"], "label": ["1", "2"]}, "answerKey": "2"}], {"1", "2"}),
        ([{"article": "a", "question": "b", "options": ["c", "d"], "answer": "B"}], {"A", "B"}),
        (
            [{"premise": "a", "question": "b", "choice1": "c", "choice2": "d", "label": "choice2"}],
            {"choice1", "choice2"},
        ),
        ([{"premise": "a", "question": "b", "choice1": "c", "choice2": "d", "label": "d"}], {None}),
    ],
)
def test_labels_are_predicted_as_the_data_writes_them(
    chooser: str, trainer: Fit, rows: list[dict[str, Any]], labels: set[str | None]
) -> None:
    data = data_of(chooser, {"train": rows, "test": rows})
    module, run = MultipleChoiceModule(model_name_or_path=chooser), trainer(max_steps=1)
    run.fit(module, data)
    ((row,),) = run.predict(module, data) or []
    assert row.get("predicted_label") in labels
    assert row["predicted_choice"] == ["c", "d"][row["predicted_index"]]


def test_a_choice_behind_an_empty_one_keeps_its_number(chooser: str, trainer: Fit) -> None:
    rows = [
        {"premise": "a", "question": "b", "choice1": None, "choice2": "c", "choice3": "d", "label": at} for at in (1, 2)
    ]
    data = data_of(chooser, {"train": rows, "test": rows})
    module, run = MultipleChoiceModule(model_name_or_path=chooser), trainer()
    (tested,) = run.test(module, data, verbose=False)
    (predicted,) = run.predict(module, data) or []
    for row in predicted:
        assert row["scores"][0] is None
        assert row["scores"][row["predicted_index"]] == row["score"]
        assert row["predicted_choice"] == row[f"choice{row['predicted_index'] + 1}"]
    assert tested["test_accuracy"] == 0.5  # equal rows, another label each


def test_it_learns(chooser: str, trainer: Fit) -> None:
    train, held_out = rows_of(96, sizes=(4, 2, 3)), rows_of(24, sizes=(3, 4), start=200)
    data = data_of(chooser, {"train": train, "validation": held_out}, batch_size=16)
    module = MultipleChoiceModule(model_name_or_path=chooser, learning_rate=2e-3, warmup_ratio=0.1)
    seed_everything(0)
    run = trainer(max_epochs=6, gradient_clip_val=1.0)
    run.fit(module, data)
    assert float(run.callback_metrics["val_accuracy"]) > 0.9


def test_somebody_elses_batches(chooser: str, trainer: Fit) -> None:
    batch = DataCollatorForMultipleChoice(AutoTokenizer.from_pretrained(chooser))(
        [{"input_ids": [[2, 9, 3], [2, 8, 7, 3]], "attention_mask": [[1] * 3, [1] * 4], "label": 1} for _ in range(2)]
    )
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    module, run = MultipleChoiceModule(model_name_or_path=chooser), trainer(max_steps=1)
    run.fit(module, loader, loader)
    with torch.no_grad():
        expected = AutoModelForMultipleChoice.from_pretrained(chooser).eval()(**batch)
    (tested,) = run.test(MultipleChoiceModule(model_name_or_path=chooser), loader, verbose=False)
    assert tested["test_loss"] == pytest.approx(float(expected.loss), abs=1e-6)
    ((first, _),) = run.predict(MultipleChoiceModule(model_name_or_path=chooser), loader) or []
    assert first["scores"] == pytest.approx(expected.logits[0].softmax(-1).tolist(), abs=1e-6)
    assert set(first) == {"predicted_index", "score", "scores"}


def test_the_command_exports_a_folder_with_the_same_scores(chooser: str, tmp_path: Path) -> None:
    rows = rows_of(24, sizes=(4, 2))
    files = {}
    for name, some in {"train": rows, "validation": rows[:9], "predict": rows[9:]}.items():
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in some))
    words = [
        "--model", "MultipleChoiceModule", "--model.model_name_or_path", chooser, "--data", "MultipleChoiceDataModule",
        *(f"--data.{name}_file={path}" for name, path in files.items()), "--trainer.max_epochs=1",
        "--data.batch_size=4", f"--trainer.default_root_dir={tmp_path / 'runs'}", "--model.learning_rate=0.001",
    ]  # fmt: skip
    main(["fit", *words])
    main(["predict", *words, "--ckpt_path", "best"])
    run = tmp_path / "runs" / "version_0"
    written = [json.loads(line) for line in (run / "predictions" / "predict.jsonl").read_text().splitlines()]
    assert [row["context"] for row in written] == [row["context"] for row in rows[9:]]
    for row, logits in zip(written, scores_alone(run / "hf", rows[9:]), strict=True):
        assert row["scores"] == pytest.approx(logits.softmax(-1).tolist(), abs=1e-4)
    assert np.ptp([row["score"] for row in written]) > 0.01
    with (run / "metrics.csv").open() as file:
        header = next(csv.reader(file))
    assert {"val_accuracy", "val_accuracy_2", "val_accuracy_4", "val_calibration_error", "val_loss"} <= set(header)
    code = (run / "hf" / "README.md").read_text().split("```python")[1].split("```")[0]
    scope: dict[str, Any] = {}
    exec(code.replace("this/folder", str(run / "hf")), scope)
    assert scope["scores"].shape == (1, 2)


def test_rows_to_predict_are_laid_out_as_in_training(chooser: str, trainer: Fit) -> None:
    rows = [{**row, "question": ("cause", "the _ is")[at % 2]} for at, row in enumerate(rows_of(8))]
    layout: dict[str, Any] = {
        "context_column_name": "context",
        "choice_column_names": "options",
        "label_column_name": "answer",
    }
    meaning: dict[str, Any] = {"blank": "_", "question_texts": {"cause": "why"}}
    trained = MultipleChoiceDataModule(
        model_name_or_path=chooser, dataset=rows, validation_split_percentage=0, batch_size=8,
        question_column_name="question", **layout, **meaning,
    )  # fmt: skip
    module = MultipleChoiceModule(model_name_or_path=chooser)
    run = trainer(max_steps=1)
    run.fit(module, trained)
    later = MultipleChoiceDataModule(
        model_name_or_path=chooser, dataset={"predict": rows}, predict_split_name="predict", batch_size=8
    )
    run.predict(module, later)
    (batch,) = later.predict_dataloader()[0]
    read = [
        later.tokenizer.decode(ids[0][mask[0].bool()])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert all("why" in text and "cause" not in text for text in read[::2])
    assert not any("_" in text for text in read)
