"""The command: run folders, checkpoints by name, what wins over what, resuming, exporting, several processes."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoModelForSequenceClassification, pipeline

from lit_ft import TextClassificationModule, cli, load_predictor
from lit_ft.errors import UserError
from lit_ft.runs import find_checkpoint, newest_run
from tests.processes import Command

Run = Callable[..., cli.LitFtCLI]


@pytest.fixture
def model(tiny: Callable[..., str], tmp_path: Path) -> Path:
    """A copy of a tiny model that a test may take away."""
    return Path(shutil.copytree(tiny("bert"), tmp_path / "model"))


@pytest.fixture
def config(sample: Path, model: Path, tmp_path: Path) -> Path:
    """A user's YAML, with rows of its own."""
    for name in ("train.csv", "validation.csv", "test.jsonl"):
        shutil.copy(sample / name, tmp_path / name)
    options = {
        "model": {
            "class_path": "TextClassificationModule",
            "init_args": {"model_name_or_path": str(model), "learning_rate": 2e-3},
        },
        "data": {
            "class_path": "TextClassificationDataModule",
            "init_args": {
                "train_file": str(tmp_path / "train.csv"),
                "validation_file": str(tmp_path / "validation.csv"),
                "test_file": str(tmp_path / "test.jsonl"),
                "text_column_names": "text",
                "label_column_name": "label",
                "max_train_samples": 96,
                "batch_size": 16,
            },
        },
        "trainer": {
            "max_epochs": 1,
            "default_root_dir": str(tmp_path / "runs"),
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(options))
    return path


@pytest.fixture
def run(config: Path) -> Run:
    """Runs a command on the user's YAML, with overrides."""
    return lambda command, *words: cli.main([command, f"--config={config}", *words])


def predictions(folder: Path | None, name: str = "test") -> list[dict[str, object]]:
    assert folder is not None
    return [json.loads(line) for line in (folder / "predictions" / f"{name}.jsonl").read_text().splitlines()]


def test_a_run_leaves_one_folder_and_later_commands_write_into_it(run: Run, tmp_path: Path) -> None:
    fitted = run("fit", "--trainer.log_every_n_steps=2")
    assert fitted.folder == tmp_path / "runs" / "version_0"
    names = {path.name for path in fitted.folder.iterdir()}
    assert names == {
        "config.yaml", "data_report.json", "data_summary.json", "metrics.csv", "checkpoints", "hf", "run.json",
        "evaluation.val.json", "report.html", "report.md",
    }  # fmt: skip
    assert {path.name for path in (fitted.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    tested = run("test", "--ckpt_path=best")
    predicted = run("predict", "--ckpt_path=last")
    assert tested.folder == predicted.folder == fitted.folder
    names |= {"config.test.yaml", "config.predict.yaml", "predictions", "test_labels.csv", "evaluation.test.json"}
    assert {path.name for path in fitted.folder.iterdir()} == names
    metrics = pd.read_csv(fitted.folder / "metrics.csv")
    assert metrics["train_loss"].notna().any()
    assert metrics["test_accuracy"].dropna().item() == pytest.approx(
        float(tested.trainer.callback_metrics["test_accuracy"])
    )
    table = pd.read_csv(fitted.folder / "test_labels.csv")
    hits = sum(table.loc[table.label == label, f"predicted {label}"].item() for label in table.label)
    assert hits / table.support.sum() == pytest.approx(metrics["test_accuracy"].dropna().item())


def test_predictions_are_those_of_pipeline_on_the_export(run: Run, tmp_path: Path) -> None:
    fitted = run("fit")
    rows = predictions(run("predict", "--ckpt_path=best").folder)
    source = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert [{name: row[name] for name in ("id", "text", "label")} for row in rows] == source
    classify = pipeline("text-classification", str(fitted.folder / "hf"))
    short = [row for row in rows if len(str(row["text"])) < 200][:10]
    for row in short:
        scores = {each["label"]: each["score"] for each in classify(str(row["text"]), top_k=None)}
        assert row["scores"] == pytest.approx(scores, abs=1e-5)
        assert row["predicted_label"] == max(scores, key=scores.__getitem__)


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


def test_predict_reads_new_files_only(run: Run, tmp_path: Path) -> None:
    run("fit")
    (tmp_path / "new.csv").write_text("text,extra\nwhere is my parcel,007\nrefund please,1\n")
    (tmp_path / "train.csv").unlink()
    folder = run("predict", "--ckpt_path=best", f"--data.predict_file={tmp_path / 'new.csv'}").folder
    rows = predictions(folder, "new")
    assert [(row["text"], row["extra"]) for row in rows] == [("where is my parcel", "007"), ("refund please", "1")]


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


def test_batches_of_one_shape_as_on_tpus(run: Run) -> None:
    settings = Path(__file__).parents[1] / "configs" / "trainer" / "xla.yaml"
    here = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.precision=32-true"]
    done = run("fit", f"--config={settings}", *here)
    widths = {batch["input_ids"].shape[1] for batch in done.datamodule.train_dataloader()}
    assert widths == {done.datamodule.hparams["max_seq_length"]}
    batches = json.loads((done.folder / "data_summary.json").read_text())["batches"]
    assert batches["padding"] == batches["padding_of"]["random"] == batches["padding_of"]["group_by_length"] > 0.1


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


def test_own_optimizer_replaces_ours(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    fitted = run(
        "fit",
        "--optimizer=torch.optim.SGD",
        "--optimizer.lr=0.3",
        "--lr_scheduler=StepLR",
        "--lr_scheduler.step_size=1",
    )
    assert isinstance(fitted.trainer.optimizers[0], torch.optim.SGD)
    assert isinstance(fitted.trainer.lr_scheduler_configs[0].scheduler, torch.optim.lr_scheduler.StepLR)
    assert "optimizer torch.optim.SGD with the schedule" in capsys.readouterr().out


def test_own_checkpoint_callback_replaces_ours(run: Run, tmp_path: Path) -> None:
    fitted = run(
        "fit",
        "--trainer.callbacks=ModelCheckpoint",
        "--trainer.callbacks.monitor=val_accuracy",
        "--trainer.callbacks.mode=max",
    )
    assert [type(callback) for callback in fitted.trainer.checkpoint_callbacks] == [ModelCheckpoint]
    assert fitted.folder is not None
    assert (fitted.folder / "hf" / "model.safetensors").is_file()
    assert (run("test", "--ckpt_path=best").trainer.callback_metrics["test_loss"]) > 0


def test_export_on_improvement_and_parquet(run: Run) -> None:
    fitted = run("fit", "--export.on_improvement=true", "--trainer.max_epochs=2")
    folder = run("predict", "--ckpt_path=best", "--predictions.format=parquet").folder
    assert folder == fitted.folder is not None
    frame = pd.read_parquet(folder / "predictions" / "test.parquet")
    assert len(frame) == 182
    assert frame["scores"][0].keys() == set(fitted.model.description["labels"])


@pytest.mark.parametrize("precision", [pytest.param("bf16-mixed", marks=pytest.mark.soak), "bf16-true"])
def test_low_precision_trains_scores_and_exports(precision: str, run: Run) -> None:
    fitted = run("fit", f"--trainer.precision={precision}")
    assert 1.5 < float(fitted.trainer.callback_metrics["val_loss"]) < 2.5
    assert next(fitted.model.parameters()).dtype is (torch.bfloat16 if precision == "bf16-true" else torch.float32)
    full, low = (run("test", "--ckpt_path=best", *words) for words in ([], [f"--trainer.precision={precision}"]))
    for name, value in full.trainer.callback_metrics.items():
        # sums in bfloat16 would be off by far more than the scores
        assert float(low.trainer.callback_metrics[name]) == pytest.approx(float(value), abs=0.03), name
    assert fitted.folder is not None
    assert pipeline("text-classification", str(fitted.folder / "hf"))("where is it")[0]["score"] > 0


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


def test_columns_named_like_predictions_are_kept(run: Run, tmp_path: Path) -> None:
    run("fit")
    (tmp_path / "new.v1.csv").write_text("text,score,scores\nwhere is my parcel,4.50,a\n")
    folder = run("predict", "--ckpt_path=best", f"--data.predict_file={tmp_path / 'new.v1.csv'}").folder
    (row,) = predictions(folder, "new.v1")
    assert (row["input_score"], row["input_scores"]) == ("4.50", "a")
    assert 0 < row["score"] < 1


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


def test_several_configs_and_print_config(
    run: Run, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more.yaml").write_text("model: {init_args: {weight_decay: 0.25}}\n")
    with pytest.raises(SystemExit):
        run("fit", f"--config={tmp_path / 'more.yaml'}", "--print_config")
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["weight_decay"] == 0.25
    assert printed["model"]["init_args"]["learning_rate"] == 2e-3
    assert printed["trainer"]["gradient_clip_val"] == 1.0
    assert printed["seed_everything"] == 42


@pytest.mark.parametrize(
    ("wing", "name", "options"),
    [
        ("model", "TextClassificationModule", ["learning_rate", "label_smoothing_factor", "threshold", "warmup_ratio"]),
        ("data", "TextClassificationDataModule", ["train_file", "stride", "text_column_names", "batch_size"]),
    ],
)
def test_help_lists_every_option_with_its_docstring(
    wing: str, name: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["fit", f"--{wing}.help", name])
    text = capsys.readouterr().out
    for option in options:
        lines = text[text.rindex(f".{option} ") :].splitlines()  # after the usage
        assert "type:" in " ".join(lines[:6])
        assert len(" ".join(lines[:6]).split("(type:")[0]) > len(option) + 20


@pytest.mark.soak
def test_two_processes_predict_each_row_once_in_order(run: Run, config: Path, tmp_path: Path) -> None:
    one = predictions(run("fit").folder and run("predict", "--ckpt_path=last").folder)
    words = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    words = ["predict", f"--config={config}", "--ckpt_path=last", *words]
    folder = tmp_path / "runs" / "version_0"
    shutil.rmtree(folder / "predictions")
    Command(*words).succeed()
    two = predictions(folder)
    assert [row["id"] for row in two] == [row["id"] for row in one]
    assert [row["score"] for row in two] == pytest.approx([row["score"] for row in one], abs=1e-5)
    (tmp_path / "one.csv").write_text("text\nwhere is my parcel\n")
    Command(*words, f"--data.predict_file={tmp_path / 'one.csv'}").succeed()
    assert [row["text"] for row in predictions(folder, "one")] == ["where is my parcel"]


def test_column_names_that_yaml_would_take_for_nothing(run: Run, tmp_path: Path) -> None:
    rows = pd.read_csv(tmp_path / "train.csv").rename(columns={"text": "#1 String", "label": "null"})
    rows.to_csv(tmp_path / "odd.csv", index=False)
    odd = {"data": {"init_args": {"text_column_names": "#1 String", "label_column_name": "null"}}}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(odd))
    words = [f"--data.{kind}_file={tmp_path / 'odd.csv'}" for kind in ("train", "validation")]
    with pytest.raises(UserError, match=r"data\.text_column_names was read as YAML and is nothing"):
        run("fit", *words, "--data.text_column_names=#1 String")
    fitted = run("fit", *words, f"--config={tmp_path / 'odd.yaml'}", "--trainer.max_steps=1")
    assert fitted.datamodule.description["text_columns"] == ["#1 String"]
    assert fitted.datamodule.description["label_columns"] == ["null"]
    assert fitted.folder is not None
    card = (fitted.folder / "hf" / "README.md").read_text()
    for expected in (
        "pipeline_tag: text-classification",
        "- seed: 42",
        "- learning_rate: 0.002",
        "- batch_size: 16",
        "- lightning ",
    ):
        assert expected in card


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_rows_come_on_standard_input(run: Run, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["where is my parcel", "refund please"]
    rows = "\n".join(texts if kind == "txt" else [json.dumps({"text": text}) for text in texts])
    run("fit")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(rows.encode())))
    found = predictions(run("predict", "--ckpt_path=best", "--data.predict_file=-").folder, "stdin")
    assert [row["text"] for row in found] == texts
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b" \n")))
    with pytest.raises(UserError, match="standard input is empty"):
        run("predict", "--ckpt_path=best", "--data.predict_file=-")
