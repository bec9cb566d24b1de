"""A task that lit_ft does not have, in a file of its own: short, quoted in the documentation, at home everywhere."""

import csv
import json
import random
import re
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import dedent
from typing import Any, ClassVar

import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lit_ft import load_predictor
from lit_ft.cli import main
from lit_ft.errors import UserError
from lit_ft.objects import import_name
from tests.contract import FLOAT, LONG, TaskContract
from tests.tiny import texts

ROOT = Path(__file__).parents[1]
TASK = ROOT / "examples" / "new_task"
SPREAD = {"new": 1.0, "used": 20.0}
"""How far prices of lamps lie around 50."""


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[..., str]) -> list[str]:
    """Returns the words of a command that learns prices which scatter more or less."""
    monkeypatch.syspath_prepend(str(TASK))
    chance = random.Random(0)
    for split, rows in (("train", 400), ("validation", 50), ("test", 200)):
        with (tmp_path / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "price"])
            for _ in range(rows):
                state = chance.choice(list(SPREAD))
                writer.writerow([f"a {state} lamp", round(chance.gauss(50, SPREAD[state]), 2)])
    words = ["--config", str(TASK / "intervals.yaml"), "--model.model_name_or_path", tiny()]
    for split in ("train", "validation", "test"):
        words += [f"--data.{split}_file", str(tmp_path / f"{split}.csv")]
    return [*words, "--model.learning_rate", "5e-3", "--model.lr_scheduler_type", "constant"]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_it_is_short_and_the_documentation_quotes_it() -> None:
    page = (ROOT / "docs" / "adding_a_task.md").read_text(encoding="utf-8")
    count = 0
    for name, language in (("intervals.py", "python"), ("intervals.yaml", "yaml")):
        quoted = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        written = lines((TASK / name).read_text(encoding="utf-8"))
        count += len(written)
        for block in map(lines, quoted):  # methods stand by themselves there
            assert block == lines(dedent("\n".join(written[: len(block)])))
            del written[: len(block)]
        assert not written
    assert count < 120


def test_it_runs_by_class_path_goes_on_and_leaves_a_folder(prices: list[str], tmp_path: Path) -> None:
    whole, halves = (["--trainer.default_root_dir", str(tmp_path / name)] for name in ("whole", "halves"))
    main(["fit", *prices, *whole, "--trainer.max_epochs", "4"])
    main(["fit", *prices, *halves, "--trainer.max_epochs", "2"])
    main(["fit", "--ckpt_path", "last", *halves, "--trainer.max_epochs", "4"])
    rows = {}
    for name, root in (("whole", whole), ("halves", halves)):
        main(["predict", "--ckpt_path", "last", *root])
        rows[name] = read(tmp_path / name / "version_0" / "predictions" / "test.jsonl")
    assert rows["halves"] == rows["whole"]

    tested = main(["test", "--ckpt_path", "last", *whole])
    scores = {name: float(value) for name, value in tested.trainer.callback_metrics.items()}
    inside = [row["lower"] <= row["price"] <= row["upper"] for row in rows["whole"]]
    widths = {state: [row["upper"] - row["lower"] for row in rows["whole"] if state in row["text"]] for state in SPREAD}
    assert scores["test_coverage"] == pytest.approx(sum(inside) / len(inside))
    assert 0.7 < scores["test_coverage"] < 0.9
    assert 2 * max(widths["new"]) < min(widths["used"])
    truth = [row["price"] for row in rows["whole"]]
    run = tmp_path / "whole" / "version_0"
    config = json.loads((run / "hf" / "config.json").read_text())
    shares = {"lower": 0.1, "prediction": 0.5, "upper": 0.9}
    pinball = sum(
        mean_pinball_loss(truth, [row[name] for row in rows["whole"]], alpha=share) for name, share in shares.items()
    )
    assert scores["test_loss"] == pytest.approx(pinball / config["label_std"], rel=1e-4)

    text = "a used lamp"
    tokenizer = AutoTokenizer.from_pretrained(run / "hf")
    model = AutoModelForSequenceClassification.from_pretrained(run / "hf").eval()
    with torch.no_grad():
        ends = model(**tokenizer(text, return_tensors="pt")).logits[0] * config["label_std"] + config["label_mean"]
    (best,) = load_predictor(run, class_path="intervals.IntervalModule")([text])
    assert sorted(ends.tolist()) == pytest.approx([best["lower"], best["prediction"], best["upper"]], rel=1e-4)


def test_mistakes_are_named(prices: list[str], tmp_path: Path) -> None:
    root = ["--trainer.default_root_dir", str(tmp_path)]
    with pytest.raises(UserError, match=r"train\.csv has no column 'prize'.*did you mean 'price'"):
        main(["fit", *prices, *root, "--data.label_column_name", "prize"])
    with pytest.raises(UserError, match="coverage is 80"):
        main(["fit", *prices, *root, "--model.coverage", "80"])
    with pytest.raises(UserError, match=r"intervals\.IntervalDataModule settles 'stride' by itself"):
        main(["fit", *prices, *root, "--data.stride", "8"])
    with pytest.raises(UserError, match="IntervalModule reads a row as one feature: leave stride out"):
        import_name("intervals.IntervalModule")(model_name_or_path="any").merge([{}, {}])
    (tmp_path / "train.csv").write_text("text,price\na lamp,20\na rug,cheap\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.csv.*row 2, 'cheap' is not a number"):
        main(["fit", *prices, *root])
    (tmp_path / "train.csv").write_text("text,price\na lamp,20\na rug,\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.csv.*have no label"):
        main(["fit", *prices, *root])


def of_the_task(name: str) -> Any:
    """A class of the example, which is no package: it is imported from its file, once."""
    if "intervals" not in sys.modules:
        spec = spec_from_file_location("intervals", TASK / "intervals.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["intervals"] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules["intervals"])
    return getattr(sys.modules["intervals"], name)


class TestIntervals(TaskContract):
    module_class, data_class = of_the_task("IntervalModule"), of_the_task("IntervalDataModule")

    @pytest.fixture(autouse=True)
    def _new_processes_find_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(TASK)

    keys: ClassVar[dict[str, Any]] = {"input_ids": (2, LONG), "attention_mask": (2, LONG), "labels": (1, FLOAT)}

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        return [{"text": text, "label": len(text) / 10} for text in texts()[start : start + count]]
