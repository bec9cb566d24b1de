"""A loss that is no number: the run ends or leaves the step out, and the rows are written down."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from lit_ft import TextClassificationModule, cli
from lit_ft.callbacks import loss_guard
from lit_ft.errors import UserError

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
