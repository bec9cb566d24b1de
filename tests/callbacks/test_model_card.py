"""The card's figures: those of the very checkpoint, the same as the evaluation's and the report's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from lightning.pytorch import Callback, Trainer

from lit_ft import TextClassificationModule, cli
from lit_ft.callbacks.model_card import Figure, card_data
from lit_ft.commands.export import export
from lit_ft.pages.run_files import read_run
from tests.tiny import SAMPLE

UNSURE = "how sure they are is not on record"


class Spoils(Callback):
    """Makes the second epoch a bad one."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            torch.nn.init.normal_(
                pl_module.model.classifier.weight, std=50.0, generator=torch.Generator().manual_seed(0)
            )


@pytest.fixture
def words(tiny: Callable[..., str], tmp_path: Path) -> list[str]:
    """A fit of two epochs whose best checkpoint is the first one."""
    return [
        "--model=TextClassificationModule", "--data=TextClassificationDataModule", "--model.learning_rate=0.002",
        f"--model.model_name_or_path={tiny('bert')}", f"--data.train_file={SAMPLE / 'train.csv'}",
        f"--data.validation_file={SAMPLE / 'validation.csv'}", f"--data.test_file={SAMPLE / 'test.jsonl'}",
        "--data.text_column_names=text", "--data.max_train_samples=64", "--data.max_eval_samples=40",
        "--data.batch_size=16", "--trainer.max_epochs=2", f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=2",
        "--trainer.callbacks=tests.callbacks.test_model_card.Spoils",
    ]  # fmt: skip


def results(card: Path) -> dict[str, float]:
    """What the hub would show."""
    return {each.metric_name: each.metric_value for each in ModelCard.load(card).data.eval_results}


def rows(card: Path) -> dict[str, tuple[str, str]]:
    """Value and interval of each metric, as the card's table has them."""
    lines = card.read_text().split("| metric |")[1].split("##")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {name: (value, interval) for name, value, interval in cells}


def test_figures_are_of_the_checkpoint_that_is_exported(words: list[str], tmp_path: Path) -> None:
    run = cli.main(["fit", *words]).folder
    assert run is not None
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    saved = {name: value for name, value in best["lit_ft"]["metrics"].items() if name.startswith("val_")}
    record = json.loads((run / "evaluation.val.json").read_text())
    assert record["step"] == best["global_step"] == 4
    assert read_run(run).commands[0]["step"] == 8
    assert record["metrics"] == pytest.approx(saved)
    card = run / "hf" / "README.md"
    assert results(card) == pytest.approx(saved, abs=1e-5)
    reported = read_run(run).final
    assert reported == pytest.approx(saved, abs=1e-6)

    # the same weights, evaluated anew
    (between,) = [one["intervals"] for one in record["sets"]]
    assert set(between) == {name.removeprefix("val_") for name in saved} - {"loss"}
    cli.main(["validate", *words, "--ckpt_path=best"])
    again = json.loads((run / "evaluation.val.json").read_text())
    assert again["step"] == 4
    for name, interval in again["sets"][0]["intervals"].items():
        assert between[name] == pytest.approx(interval, abs=1e-3), name
        low, high = between[name]
        assert rows(card)[f"val_{name}"] == (f"{saved[f'val_{name}']:.4f}", f"{low:.4f} to {high:.4f}")
    assert rows(card)["val_loss"][1] == ""
    text = card.read_text()
    assert "- train: 64 rows" in text
    assert "- train_file: `train.csv`" in text
    assert str(tmp_path) not in text


def test_exported_later_alone_and_of_other_weights(words: list[str], tmp_path: Path) -> None:
    run = cli.main(["fit", *words, "--export.enabled=false"]).folder
    assert run is not None
    tested = dict(cli.main(["test", *words, "--ckpt_path=best"]).trainer.callback_metrics)

    def card_of(checkpoint: str, name: str) -> Path:
        return export(["--ckpt_path", checkpoint, "--out", str(tmp_path / name)]) / "README.md"

    best = card_of(str(run), "best")
    for name, value in tested.items():
        assert results(best)[name] == pytest.approx(float(value), abs=1e-5)
    assert rows(best)["test_accuracy"][1] != ""
    assert rows(best)["val_accuracy"][1] != ""
    for line in ("- train: 64 rows", "- max_epochs: 2", "- seed: 42", "- batch_size: 16"):
        assert line in best.read_text()
    last = card_of(str(run / "checkpoints" / "last.ckpt"), "last")
    assert not [name for name in rows(last) if name.startswith("test_")]
    assert {interval for _, interval in rows(last).values()} == {""}
    assert UNSURE in last.read_text()
    alone = card_of(str(shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")), "alone")
    assert results(alone).keys() == {name for name in results(best) if name.startswith("val_")}
    assert UNSURE in alone.read_text()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"dataset_name": "nyu-mll/glue", "dataset_config_name": "sst2"}, "nyu-mll/glue"),
        ({"dataset_name": "tests/callbacks"}, None),  # a folder here
        ({"train_file": "secret/train.csv"}, None),
        ({"dataset_name": "x/" + "y" * 5000}, None),  # no path either
    ],
)
def test_data_sets_are_named_where_they_are_the_hubs(data: dict[str, Any], named: str | None) -> None:
    module = TextClassificationModule(model_name_or_path="google-bert/bert-base-uncased", label_names=["a", "b"])
    figures = [Figure("val_accuracy", 0.5, None), Figure("val_auroc", float("nan"), None)]
    made = ModelCard(f"---\n{card_data(module, figures, data, 'a model', False)}\n---\n").data
    assert made.base_model == "google-bert/bert-base-uncased"
    assert made.datasets == named
    (result,) = made.eval_results  # what is no number is no result
    assert (result.dataset_type, result.dataset_name) == ((named, named) if named else ("unknown", "unknown"))
    assert result.dataset_config == data.get("dataset_config_name")
    assert (result.metric_type, result.metric_name, result.metric_value) == ("accuracy", "val_accuracy", 0.5)
