"""The command and checkpoints: which are left, found by name, gone on with; what wins over what they say."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from lit_ft import TextClassificationModule, cli, load_predictor
from lit_ft.errors import UserError
from lit_ft.runs import find_checkpoint, newest_run
from tests.cli.conftest import Run, predictions


def test_checkpoint_stands_alone(run: Run, model: Path, tmp_path: Path) -> None:
    fitted = run("fit")
    before = predictions(run("predict", "--ckpt_path=best").folder)
    shutil.rmtree(model)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "validation.csv").unlink()
    assert fitted.folder is not None
    shutil.rmtree(fitted.folder / "predictions")
    assert predictions(cli.main(["predict", f"--ckpt_path={fitted.folder}"]).folder) == before
    module = TextClassificationModule.load_from_checkpoint(
        fitted.folder / "checkpoints" / "best.ckpt", weights_only=True
    )
    assert module.description["labels"] == fitted.model.description["labels"]
    assert not module.model.config.name_or_path or module.model is not None


def test_fit_goes_on_in_the_same_folder(run: Run, tmp_path: Path) -> None:
    def prepared_rows() -> set[str]:
        return {path.name for path in (tmp_path / "prepared").iterdir()} - {"fingerprints"}  # kept of older files only

    first = run("fit")
    prepared = prepared_rows()
    again = run("fit", "--ckpt_path=last", "--trainer.max_epochs=2")
    assert again.folder == first.folder == newest_run(tmp_path / "runs")
    assert prepared_rows() == prepared  # tokenized once
    run("fit", "--ckpt_path=last", "--trainer.max_epochs=2", "--data.max_seq_length=32")
    assert prepared_rows() > prepared
    metrics = pd.read_csv(again.folder / "metrics.csv")
    assert metrics.loc[metrics.val_loss.notna(), "epoch"].tolist() == [0, 1]
    assert again.trainer.global_step == 2 * first.trainer.global_step
    assert torch.load(again.folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1


def test_yaml_and_command_line_win_over_the_checkpoint(
    run: Run, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", "--model.weight_decay=0.05", "--model.label_smoothing_factor=0.1")
    tested = run("test", "--ckpt_path=best", "--model.label_smoothing_factor=0.2")
    assert tested.model.hparams["label_smoothing_factor"] == 0.2
    assert tested.model.hparams["weight_decay"] == 0.05  # given nowhere now: the checkpoint's
    assert tested.model.hparams["learning_rate"] == 2e-3
    assert "options taken from the checkpoint: {'weight_decay': 0.05}" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"config_overrides is {'hidden_size': 64}, but the checkpoint was trained with None"
    ):
        run("test", "--ckpt_path=best", '--model.config_overrides={"hidden_size": 64}')


def test_other_model_than_the_checkpoints_is_refused(run: Run, tiny: Callable[..., str]) -> None:
    run("fit")
    with pytest.raises(UserError, match=r"has model_type gpt2, the checkpoint bert: another model"):
        run("test", "--ckpt_path=best", f"--model.model_name_or_path={tiny('gpt2')}")


def test_without_a_checkpoint_it_says_which_weights(run: Run, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tested = run("test")
    assert f"weights: {model}, as they are" in capsys.readouterr().out
    assert tested.folder is not None
    assert tested.folder.name == "version_0"


def test_checkpoint_names(tmp_path: Path, run: Run) -> None:
    fitted = run("fit")
    assert fitted.folder is not None
    root, checkpoints = tmp_path / "runs", fitted.folder / "checkpoints"
    (root / "version_7").mkdir()  # newer, but it never saved anything
    for name, expected in (("last", "last.ckpt"), ("best", "best.ckpt"), (str(fitted.folder), "best.ckpt")):
        assert find_checkpoint(name, root) == checkpoints / expected
    moved = Path(shutil.move(fitted.folder, tmp_path / "moved"))
    assert find_checkpoint(str(moved), root) == moved / "checkpoints" / "best.ckpt"


def test_checkpoints_in_between_leave_the_best_to_validation(run: Run) -> None:
    fitted = run("fit", "--checkpoint.every_n_train_steps=4", "--trainer.max_epochs=2")
    assert fitted.folder is not None
    folder = fitted.folder / "checkpoints"
    best = torch.load(folder / "best.ckpt", weights_only=True)
    assert best["global_step"] in (6, 12)  # ends of epochs, not 4 or 8
    saved = best["lit_ft"]["metrics"]["val_loss"]
    tested = run("validate", "--ckpt_path=best")
    assert float(tested.trainer.callback_metrics["val_loss"]) == pytest.approx(saved, abs=1e-5)
    stopped = run("fit", "--checkpoint.every_n_train_steps=2", "--trainer.max_steps=4", "--trainer.max_epochs=-1")
    assert stopped.folder is not None
    assert torch.load(stopped.folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    within = run("test", f"--ckpt_path={stopped.folder / 'checkpoints' / 'last.ckpt'}", "--data.batch_size=8")
    assert float(within.trainer.callback_metrics["test_loss"]) > 0


def test_a_run_without_checkpoints_leaves_its_last_weights(run: Run) -> None:
    done = run("fit", "--trainer.enable_checkpointing=false", "--trainer.max_steps=2")
    assert not (done.folder / "checkpoints").exists()
    written = AutoModelForSequenceClassification.from_pretrained(done.folder / "hf").state_dict()
    assert all(torch.equal(written[name], value) for name, value in done.model.model.state_dict().items())
    assert load_predictor(done.folder / "hf")("late")[0]["predicted_label"] in done.model.description["labels"]


def test_options_given_on_resume_take_effect(run: Run) -> None:
    run("fit")
    words = ["--ckpt_path=last", "--trainer.max_epochs=3", "--model.learning_rate=0.01", "--model.weight_decay=0.1"]
    again = run("fit", *words)
    groups = again.trainer.optimizers[0].param_groups
    assert {group["initial_lr"] for group in groups} == {0.01}
    assert {group["weight_decay"] for group in groups} == {0.1, 0.0}
    rates = pd.read_csv(again.folder / "metrics.csv")
    assert again.trainer.lr_scheduler_configs[0].scheduler.base_lrs == [0.01, 0.01]
    assert rates["step"].max() == again.trainer.global_step - 1


def test_best_survives_a_move_of_the_run(run: Run, tmp_path: Path) -> None:
    first = run("fit")
    assert first.folder is not None
    score = float(first.trainer.checkpoint_callback.best_model_score)
    moved = Path(shutil.move(first.folder, tmp_path / "elsewhere"))
    again = run(
        "fit",
        f"--ckpt_path={moved / 'checkpoints' / 'last.ckpt'}",
        "--trainer.max_epochs=2",
        "--model.learning_rate=10",
    )
    assert again.folder == moved
    assert float(again.trainer.checkpoint_callback.best_model_score) == pytest.approx(score)
    assert torch.load(moved / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 0


def test_no_validation_keeps_the_last(run: Run) -> None:
    fitted = run("fit", "--data.validation_file=null", "--data.validation_split_percentage=0")
    assert fitted.folder is not None
    assert (fitted.folder / "checkpoints" / "last.ckpt").is_file()
    assert (fitted.folder / "hf" / "config.json").is_file()
    assert "val_loss" not in fitted.trainer.callback_metrics


def test_max_steps_within_an_epoch_still_saves_and_exports(run: Run) -> None:
    fitted = run("fit", "--trainer.max_steps=3", "--trainer.max_epochs=-1")
    assert fitted.folder is not None
    assert torch.load(fitted.folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert (fitted.folder / "hf" / "model.safetensors").is_file()
