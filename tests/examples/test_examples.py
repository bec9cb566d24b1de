"""Every example runs as it stands, on the sample data, with a tiny model; what it shows is what comes out."""

import csv
import json
import math
import re
import statistics
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_ft import TextClassificationModule
from lit_ft.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOWN = {"foreign_module.py", "plain_dataloader.py", "subclass.py", "own_class/careful.py", "own_class/careful.yaml"}
WHOLE_TASK = {"new_task/intervals.py", "new_task/intervals.yaml"}
"""Longer, and run by `tests/test_adding_a_task.py`."""


def example(name: str) -> Any:
    spec = spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_example_is_short_says_how_to_run_it_and_has_a_test() -> None:
    found = [path for path in EXAMPLES.rglob("*") if path.suffix in (".py", ".yaml")]
    assert {str(path.relative_to(EXAMPLES)) for path in found} == SHOWN | WHOLE_TASK
    for path in found:
        lines = path.read_text().splitlines()
        assert len(lines) < 40 or str(path.relative_to(EXAMPLES)) in WHOLE_TASK, path
        header = "\n".join(lines[:5])
        assert any(way in header for way in ("python examples/", "Run: ", "says how to run it")), path


def test_foreign_module_learns_from_our_batches(tiny: Callable[..., str], tmp_path: Path) -> None:
    trainer = example("foreign_module").main(tiny(), str(tmp_path))
    (held_out,) = trainer.datamodule.val_dataloader()
    with torch.no_grad():
        right = torch.cat([trainer.model.layers(each["input_ids"]).argmax(-1) == each["labels"] for each in held_out])
    assert float(right.float().mean()) > 0.4  # eight labels: chance is 0.125
    assert list((tmp_path / "checkpoints").glob("*.ckpt"))


def test_plain_dataloader_feeds_our_module(
    tiny: Callable[..., str], tmp_path: Path, sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted = example("plain_dataloader").main(tiny(), str(tmp_path))
    rows = read_csv(sample / "train.csv")
    labels = sorted({row["label"] for row in rows})
    assert [list(row["scores"]) for row in predicted] == [labels] * 32
    right = sum(row["predicted_label"] == given["label"] for row, given in zip(predicted, rows, strict=False))
    shown = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("{'train_loss'"))
    assert f"'val_accuracy': {round(right / 32, 3)}" in shown
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.ckpt")
    assert TextClassificationModule.load_from_checkpoint(checkpoint).description["labels"] == labels


def test_subclass_changes_what_is_tokenized(tiny: Callable[..., str], tmp_path: Path, sample: Path) -> None:
    trainer = example("subclass").main(tiny(), str(tmp_path))
    data = trainer.datamodule
    # in the first words, so that they are not cut off
    numbers = {at: re.search(r"LK-\d+", row["text"][:150]) for at, row in enumerate(read_csv(sample / "test.csv"))}
    numbers = {at: found[0].lower() for at, found in numbers.items() if found}
    assert len(numbers) > 3
    features = data.features["test"][""].store
    for at, number in numbers.items():
        text = data.tokenizer.decode(features[at]["input_ids"]).replace(" ", "").replace("##", "")
        assert "myorder" in text
        assert number not in text
    assert math.isfinite(trainer.callback_metrics["test_loss"])


def test_own_class_is_named_in_yaml_with_an_option_of_its_own(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "own_class"))
    root = ["--trainer.default_root_dir", str(tmp_path)]
    config = ["--config", str(EXAMPLES / "own_class" / "careful.yaml"), "--model.model_name_or_path", tiny(), *root]
    main(["fit", *config, "--trainer.max_epochs", "1"])
    run = tmp_path / "version_0"
    saved = yaml.safe_load((run / "config.yaml").read_text())["model"]
    assert (saved["class_path"], saved["init_args"]["unsure_below"]) == ("careful.CarefulModule", 0.4)

    def predict(*words: str) -> list[dict[str, Any]]:
        main(["predict", "--ckpt_path", "best", *root, *words])
        return [json.loads(line) for line in (run / "predictions" / "unlabeled.jsonl").read_text().splitlines()]

    scores = [row["score"] for row in predict("--model.unsure_below", "0")]
    limit = statistics.median(scores)
    rows = predict("--model.unsure_below", str(limit))  # on the command line it overrules the checkpoint's 0.4
    assert [row["score"] for row in rows] == scores
    assert [row["predicted_label"] == "unsure" for row in rows] == [score < limit for score in scores]
    assert 0 < sum(score < limit for score in scores) < len(scores)
    sure = [row for row in rows if row["predicted_label"] != "unsure"]
    assert all(row["scores"][row["predicted_label"]] == max(row["scores"].values()) for row in sure)
