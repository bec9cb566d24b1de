"""Every YAML of text classification through the real command, on tiny rows of the same columns, and what it leaves."""

import json
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import f1_score
from transformers import AutoModel, AutoTokenizer, pipeline

from lit_ft.cli import main
from tests.configs.rows import LOCAL, Local
from tests.configs.running import CONFIGS, fit_test_predict, logged, read_config, read_lines, to_run
from tests.processes import Command


def architecture(config: dict[str, Any]) -> str:
    name = config["model"]["init_args"]["model_name_or_path"]
    return next((kind for kind in ("distilbert", "roberta") if kind in name), "bert")


@pytest.fixture(scope="module")
def lively(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """`tiny`'s models with larger weights: as they are, all rows get the same score, and any mix-up would pass."""

    def make(kind: str) -> str:
        folder = tmp_path_factory.mktemp(kind)
        model = AutoModel.from_pretrained(tiny(kind))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() > 1 and "embeddings" not in name:
                    weight.mul_(8)
        model.config.initializer_range = 0.3  # of the new head
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny(kind)).save_pretrained(folder)
        return str(folder)

    return cache(make)


def options(local: Local, model: str) -> list[str]:
    # steps large enough for a tiny model to learn something in its one epoch
    quick = ["--data.batch_size", "4", "--model.learning_rate", "0.001", "--trainer.max_epochs", "1"]
    return [*local.overrides, *quick, "--model.model_name_or_path", model]


def piped(run: Path, rows: list[dict[str, Any]], text: list[str]) -> tuple[list[str], np.ndarray]:
    """Label names and scores `[rows, labels]` of the exported folder under transformers' pipeline, cut as in a run."""
    longest = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]["max_seq_length"]
    pipe = pipeline("text-classification", str(run / "hf"), device="cpu")
    names = [pipe.model.config.id2label[number] for number in range(pipe.model.config.num_labels)]
    # one by one: the pipeline does not pad by itself
    inputs = [dict(zip(("text", "text_pair"), (row[name] for name in text), strict=False)) for row in rows]
    answers = [pipe(each, top_k=None, truncation=True, max_length=longest) for each in inputs]
    scores = [{each["label"]: each["score"] for each in answer} for answer in answers]
    return names, np.array([[score[name] for name in names] for score in scores])


def written_scores(row: dict[str, Any], names: list[str]) -> list[float]:
    return [row["prediction"]] if "prediction" in row else [row["scores"][name] for name in names]


def check_choice(row: dict[str, Any], run: Path) -> None:
    """The label that was written follows from the scores that were written."""
    if "predicted_labels" in row:
        threshold = json.loads((run / "hf" / "config.json").read_text())["classification_threshold"]
        assert row["predicted_labels"] == [name for name, score in row["scores"].items() if score >= threshold]
    elif "predicted_label" in row:
        assert row["scores"][row["predicted_label"]] == row["score"] == max(row["scores"].values())
        assert sum(row["scores"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", to_run("text_classification"))
def test_yaml_runs_from_rows_to_predictions(name: str, lively: Callable[[str], str], tmp_path: Path) -> None:
    assert name in LOCAL, f"configs/{name}.yaml has no local rows in tests/configs/rows.py"
    local = LOCAL[name](tmp_path / "rows")
    run, _ = fit_test_predict(name, options(local, lively(architecture(read_config(name)))), tmp_path / "runs")
    check_official(run, local, logged(run))
    check_predictions(run, local)


def check_official(run: Path, local: Local, values: dict[str, float]) -> None:
    """The metrics in metrics.csv, once more: from the exported folder's scores, by scikit-learn and scipy."""
    for set_name, rows in local.test.items():
        names, scores = piped(run, rows, local.text)
        prefix = f"test_{set_name}_" if set_name else "test_"
        cells = [row[local.label] for row in rows]
        if isinstance(cells[0], list):
            threshold = json.loads((run / "hf" / "config.json").read_text())["classification_threshold"]
            labels = np.array([[int(number in cell) for number in range(len(names))] for cell in cells])
            micro = f1_score(labels, scores >= threshold, average="micro", zero_division=0)
            assert values["test_f1_micro"] == pytest.approx(micro, abs=1e-4)
            continue
        labels = np.array([names.index(cell) if isinstance(cell, str) else cell for cell in cells])
        assert local.official
        for metric, recompute in local.official.items():
            assert values[prefix + metric] == pytest.approx(recompute(labels, scores), abs=1e-4), prefix + metric


def check_predictions(run: Path, local: Local) -> None:
    """Input order, the input's own columns, and the scores that the exported folder gives."""
    assert sorted(path.name for path in (run / "predictions").iterdir()) == sorted(f"{n}.jsonl" for n in local.predict)
    for name, rows in local.predict.items():
        written = read_lines(run / "predictions" / f"{name}.jsonl")
        assert [{key: row[key] for key in given} for row, given in zip(written, rows, strict=True)] == rows
        names, expected = piped(run, rows[:6], local.text)
        assert not local.names or names == local.names
        ours = np.array([written_scores(row, names) for row in written])
        np.testing.assert_allclose(ours[:6], expected, atol=1e-4)
        assert np.ptp(ours, axis=0).max() > 0.01  # else the scores of any row would have passed for any other's
        for row in written:
            check_choice(row, run)


@pytest.fixture(scope="module")
def console_run(lively: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A fit by the console entry in its own process, and what it wrote on screen."""
    home = tmp_path_factory.mktemp("console")
    name = "text_classification/files"
    words = ["--config", str(CONFIGS / f"{name}.yaml"), "--trainer.default_root_dir", str(home / "runs")]
    words += options(LOCAL[name](home / "rows"), lively("distilbert"))
    screen = Command("fit", *words, LIT_FT_CACHE=str(home / "prepared"), COLUMNS="200").succeed()
    return home / "runs" / "version_0", screen


def test_console_entry_ends_with_the_paths_of_what_it_left(console_run: tuple[Path, str]) -> None:
    run, screen = console_run
    last = [line.strip() for line in screen.strip().splitlines()[-2:]]
    assert last == [f"model: {run / 'hf'}", f"run: {run}"]
    assert (run / "hf" / "model.safetensors").is_file()


def new_messages(folder: Path) -> Path:
    path = folder / "new.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("where is my parcel", "refund please")))
    return path


@pytest.mark.parametrize("with_config", [True, False], ids=["config of the run", "checkpoint alone"])
def test_predict_on_new_rows_needs_no_more_than_the_run(
    console_run: tuple[Path, str], tmp_path: Path, with_config: bool
) -> None:
    run, _ = console_run
    config = ["--config", str(run / "config.yaml")] if with_config else []
    train = run.parents[1] / "rows" / "train.csv"
    train.rename(train.with_suffix(".away"))
    try:
        main(["predict", *config, "--ckpt_path", str(run), "--data.predict_file", str(new_messages(tmp_path))])
    finally:
        train.with_suffix(".away").rename(train)
    written = read_lines(run / "predictions" / "new.jsonl")
    assert [row["text"] for row in written] == ["where is my parcel", "refund please"]
    names, expected = piped(run, written, ["text"])
    np.testing.assert_allclose([written_scores(row, names) for row in written], expected, atol=1e-4)


def test_predict_with_the_config_alone_starts_from_plain_weights_and_says_so(
    console_run: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, _ = console_run
    root = ["--trainer.default_root_dir", str(tmp_path / "runs")]
    logging.getLogger("lit_ft").addHandler(caplog.handler)  # which does not propagate: its messages go to the screen
    try:
        with caplog.at_level("INFO", "lit_ft"):
            main(["predict", "--config", str(run / "config.yaml"), *root])
    finally:
        logging.getLogger("lit_ft").removeHandler(caplog.handler)
    assert any("no checkpoint of ours" in message for message in caplog.messages)
    written = read_lines(tmp_path / "runs" / "version_0" / "predictions" / "test.jsonl")
    assert len(written) == len(LOCAL["text_classification/files"](tmp_path / "rows").test[""])
