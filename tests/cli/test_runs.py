"""The command on a user's YAML: run folders, predictions, precisions, own classes, help, odd names, two processes."""

import io
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import pipeline

from lit_ft import cli
from lit_ft.errors import UserError
from tests.cli.conftest import Run, predictions
from tests.processes import Command


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


def test_predict_reads_new_files_only(run: Run, tmp_path: Path) -> None:
    run("fit")
    (tmp_path / "new.csv").write_text("text,extra\nwhere is my parcel,007\nrefund please,1\n")
    (tmp_path / "train.csv").unlink()
    folder = run("predict", "--ckpt_path=best", f"--data.predict_file={tmp_path / 'new.csv'}").folder
    rows = predictions(folder, "new")
    assert [(row["text"], row["extra"]) for row in rows] == [("where is my parcel", "007"), ("refund please", "1")]


def test_batches_of_one_shape_as_on_tpus(run: Run) -> None:
    settings = Path(__file__).parents[2] / "configs" / "trainer" / "xla.yaml"
    here = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.precision=32-true"]
    done = run("fit", f"--config={settings}", *here)
    widths = {batch["input_ids"].shape[1] for batch in done.datamodule.train_dataloader()}
    assert widths == {done.datamodule.hparams["max_seq_length"]}
    batches = json.loads((done.folder / "data_summary.json").read_text())["batches"]
    assert batches["padding"] == batches["padding_of"]["random"] == batches["padding_of"]["group_by_length"] > 0.1


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


def test_columns_named_like_predictions_are_kept(run: Run, tmp_path: Path) -> None:
    run("fit")
    (tmp_path / "new.v1.csv").write_text("text,score,scores\nwhere is my parcel,4.50,a\n")
    folder = run("predict", "--ckpt_path=best", f"--data.predict_file={tmp_path / 'new.v1.csv'}").folder
    (row,) = predictions(folder, "new.v1")
    assert (row["input_score"], row["input_scores"]) == ("4.50", "a")
    assert 0 < row["score"] < 1


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
