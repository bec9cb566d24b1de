"""Loggers by a line of YAML: options, metrics and the report in each, read back by its own package."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_ft import cli


@pytest.fixture
def words(tiny: Callable[..., str], sample: Path, tmp_path: Path) -> list[str]:
    return [
        "--model=TextClassificationModule", f"--model.model_name_or_path={tiny('bert')}", "--model.learning_rate=3e-4",
        "--data=TextClassificationDataModule", f"--data.train_file={sample / 'train.csv'}",
        f"--data.validation_file={sample / 'validation.csv'}", "--data.text_column_names=text",
        "--data.max_train_samples=40", f"--trainer.default_root_dir={tmp_path / 'runs'}", "--trainer.accelerator=cpu",
        "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1",
    ]  # fmt: skip


def test_tensorboard(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cli.main(["fit", *words, "--trainer.logger=TensorBoardLogger", f"--trainer.logger.save_dir={tmp_path / 'tb'}"])
    (folder,) = {path.parent for path in (tmp_path / "tb").rglob("events.*")}
    found = EventAccumulator(str(folder)).Reload()
    scalars = found.Tags()["scalars"]
    assert {"train_loss", "val_loss", "val_accuracy", "learning_rate"} <= set(scalars)
    assert "report/text_summary" in found.Tags()["tensors"]
    text = found.Tensors("report/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| val_accuracy |" in text
    assert "model.learning_rate: 0.0003" in (folder / "hparams.yaml").read_text()


def test_mlflow(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    options = [f"--trainer.logger.tracking_uri={uri}", f"--trainer.logger.artifact_location={tmp_path / 'artifacts'}"]
    cli.main(["fit", *words, "--trainer.logger=MLFlowLogger", *options])
    client = MlflowClient(uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == "lightning_logs"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["model.learning_rate"] == "0.0003"
    assert "val_accuracy" in run.data.metrics
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"report.html", "report.md"}


def test_weights_and_biases_offline(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    done = cli.main(
        ["fit", *words, "--trainer.logger=WandbLogger", "--trainer.logger.offline=true",
         f"--trainer.logger.save_dir={tmp_path}"]
    )  # fmt: skip
    (files,) = (tmp_path / "wandb").glob("offline-run-*/files")
    assert (files / "report.html").is_file()
    logger: Any = next(each for each in done.trainer.loggers if type(each).__name__ == "WandbLogger")
    assert logger.experiment.config["model.learning_rate"] == 0.0003
    logger.experiment.finish()


def test_a_csv_logger_beside_ours(words: list[str], tmp_path: Path) -> None:
    done = cli.main(["fit", *words, "--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path / 'csv'}"])
    (metrics,) = (tmp_path / "csv").rglob("metrics.csv")
    assert "val_accuracy" in metrics.read_text()
    assert "model.learning_rate: 0.0003" in (metrics.parent / "hparams.yaml").read_text()
    assert done.folder is not None
    assert json.loads((done.folder / "run.json").read_text())["commands"][0]["status"] == "finished"
