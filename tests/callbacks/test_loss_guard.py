"""A loss that is no number: the run ends or leaves the step out, and the rows are written down."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from lit_ft import (
    MultipleChoiceDataModule,
    MultipleChoiceModule,
    QuestionAnsweringDataModule,
    QuestionAnsweringModule,
    TextClassificationDataModule,
    TextClassificationModule,
    cli,
)
from lit_ft.callbacks import loss_guard
from lit_ft.errors import UserError
from tests.questions import question_rows

ROWS = [(f"order number {number} is late", "late" if number % 2 else "lost") for number in range(20)]
ROWS[9] = ("this row is poison", "lost")


class Poisoned(TextClassificationModule):
    """Its loss is NaN where a row says so."""

    def loss(self, outputs: Any, batch: Any) -> tuple[Tensor, Tensor]:
        total, count = super().loss(outputs, batch)
        bad = any("poison" in text.replace(" ##", "") for text in self.tokenizer.batch_decode(batch["input_ids"]))
        return (total * float("nan") if bad and self.model.training else total), count


@pytest.fixture
def words(tiny: Callable[..., str], tmp_path: Path) -> list[str]:
    """Five steps of four rows; the poison is in the third."""
    pd.DataFrame(ROWS, columns=["text", "label"]).to_csv(tmp_path / "rows.csv", index=False)
    return [
        "fit", f"--model={__name__}.Poisoned", "--data=TextClassificationDataModule",
        f"--model.model_name_or_path={tiny('bert')}", f"--data.train_file={tmp_path / 'rows.csv'}",
        "--data.text_column_names=text", "--data.validation_split_percentage=0", "--data.batch_size=4",
        "--data.train_sampling_strategy=sequential", f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--trainer.enable_progress_bar=false", "--trainer.max_epochs=1", "--checkpoint.every_n_train_steps=1",
        "--export.enabled=false",
    ]  # fmt: skip


def test_the_run_stops_before_the_weights_are_spoilt(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss of epoch 0, batch 2 \(step 2\) is nan; its rows: .*jsonl\. Often"):
        cli.main(words)
    run = tmp_path / "runs" / "version_0"
    lines = (run / "nonfinite" / "epoch=0-batch=2-process=0.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [8, 9, 10, 11]
    assert "poison" in json.loads(lines[1])["text"].replace(" ##", "")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert all(bool(value.isfinite().all()) for value in saved["state_dict"].values())


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_step_is_left_out(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], accumulated: int
) -> None:
    more = [f"--trainer.accumulate_grad_batches={accumulated}", "--model.weight_decay=0.1"]
    done = cli.main([*words, *more, "--loss_guard.on_nonfinite=skip"])
    assert all(bool(value.isfinite().all()) for value in done.model.state_dict().values())
    said = capsys.readouterr().out
    assert "the step is skipped" in said
    assert "1 steps were skipped" in said
    states = done.trainer.optimizers[0].state
    steps = {int(states[parameter]["step"]) for parameter in done.model.parameters()}
    assert steps == {4 if accumulated == 1 else 2}  # of 5 and of 3


def test_on_a_device_it_is_seen_a_batch_later_and_never_saved(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Event:
        def record(self) -> None:
            pass

        def synchronize(self) -> None:
            pass

    # what a GPU does with the loss, on a CPU
    monkeypatch.setattr(loss_guard, "is_late", lambda loss: True)
    monkeypatch.setattr(torch, "get_device_module", lambda device: type("Device", (), {"Event": Event}))
    with pytest.raises(UserError, match=r"epoch 0, batch 2 \(step 2\) is nan"):
        cli.main(words)


class Writing(loss_guard.LossGuard):
    """Writes into a given folder, and finds no loss to be a number."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.run = self.folder

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        super().on_before_backward(trainer, pl_module, loss * float("nan"))


def written(module: Any, data: Any, folder: Path) -> list[dict[str, Any]]:
    """Trains one step; returns what is written of its rows."""
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, callbacks=[Writing(folder)],
    )  # fmt: skip
    with pytest.raises(UserError, match="is nan; its rows"):
        trainer.fit(module, data)
    (file,) = (folder / "nonfinite").iterdir()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_labels_of_answers_are_written_by_their_names(tiny: Callable[..., str], tmp_path: Path) -> None:
    rows = question_rows(3)
    data = QuestionAnsweringDataModule(
        model_name_or_path=tiny("bert"), dataset=rows, validation_split_percentage=0, batch_size=3, max_seq_length=64,
        doc_stride=8, train_sampling_strategy="sequential",
    )  # fmt: skip
    lines = written(QuestionAnsweringModule(model_name_or_path=tiny("bert")), data, tmp_path)
    assert len(lines) == 3
    store = data.features["train"][""].store
    for number, line in enumerate(lines):
        assert line["row"] == data.features["train"][""].row_of_feature[number]
        assert line["text"] == data.tokenizer.decode(store[number]["input_ids"])
        assert [line["start_positions"], line["end_positions"]] == store[number]["labels"].tolist()


def test_choices_are_written_one_by_one(tiny: Callable[..., str], tmp_path: Path) -> None:
    rows = [
        {"question": "which", "choices": ["a card", "the new card", "an order"][: 2 + number], "label": number}
        for number in range(2)
    ]
    data = MultipleChoiceDataModule(
        model_name_or_path=tiny("bert"), dataset=rows, validation_split_percentage=0, batch_size=2,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    lines = written(MultipleChoiceModule(model_name_or_path=tiny("bert")), data, tmp_path)
    assert [line["labels"] for line in lines] == [0, 1]
    assert [len(line["text"]) for line in lines] == [2, 3]  # no missing choice, no padding
    assert [each.count("[PAD]") for line in lines for each in line["text"]] == [0] * 5
    for line, row in zip(lines, rows, strict=True):
        for text, choice in zip(line["text"], row["choices"], strict=True):
            assert data.tokenizer.encode("which", choice) == data.tokenizer.encode(text, add_special_tokens=False)


def test_rows_of_a_mixture_are_written_with_their_source(tiny: Callable[..., str], tmp_path: Path) -> None:
    """Three rows and two, in one batch, in their order."""
    rows = [{"text": f"row {number}", "label": "xy"[number % 2]} for number in range(5)]
    data = TextClassificationDataModule(
        model_name_or_path=tiny("bert"), sources={"a": {"dataset": rows[:3]}, "b": {"dataset": rows[3:]}},
        validation_split_percentage=0, batch_size=5, train_sampling_strategy="sequential",
    )  # fmt: skip
    lines = written(TextClassificationModule(model_name_or_path=tiny("bert")), data, tmp_path)
    assert [(line["source"], line["row"]) for line in lines] == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    assert [line["text"].split()[-2] for line in lines] == [str(number) for number in range(5)]
