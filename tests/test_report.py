"""The report of a run: figures found a second way, runs that died or were killed, several runs, pages that open."""

import csv
import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lightning.pytorch import Callback

from lit_ft import cli
from lit_ft.commands.preview import preview
from lit_ft.commands.report import report
from lit_ft.errors import UserError
from lit_ft.pages.charts import lines, thinned, ticks
from lit_ft.pages.run_files import read_run
from tests.processes import Command
from tests.test_preview import Tags

BROWSER = Path(__file__).parent / "soak" / "browser.py"


class Dies(Callback):
    """Fails at a step."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            raise ZeroDivisionError("in step 3")


@pytest.fixture
def words(tiny: Callable[..., str], sample: Path, tmp_path: Path) -> list[str]:
    options = {
        "model": {
            "class_path": "TextClassificationModule",
            "init_args": {"model_name_or_path": tiny("bert"), "learning_rate": 2e-3},
        },
        "data": {
            "class_path": "TextClassificationDataModule",
            "init_args": {
                "train_file": str(sample / "train.csv"), "validation_file": str(sample / "validation.csv"),
                "test_file": str(sample / "validation.csv"), "text_column_names": "text", "label_column_name": "label",
                "max_train_samples": 64, "batch_size": 16,
            },
        },
        "trainer": {
            "max_epochs": 2, "default_root_dir": str(tmp_path / "runs"), "enable_progress_bar": False,
            "enable_model_summary": False, "log_every_n_steps": 1, "accelerator": "cpu",
        },
    }  # fmt: skip
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(options))
    return [f"--config={config}"]


def checked(page: Path) -> Tags:
    """A page whose tags are closed, that runs nothing and fetches nothing."""
    tags, text = Tags(), page.read_text(encoding="utf-8")
    tags.feed(text)
    assert not tags.open
    assert tags.seen["script"] == tags.seen["link"] == tags.seen["img"] == 0
    assert "src=" not in text
    assert "url(" not in text
    return tags


@pytest.mark.intervals
def test_values_intervals_and_mistakes_are_those_of_the_predictions(words: list[str], tmp_path: Path) -> None:
    run = cli.main(["fit", *words]).folder
    assert run is not None
    cli.main(["test", *words, "--ckpt_path=best"])
    cli.main(["predict", *words, "--ckpt_path=best"])
    rows = [json.loads(line) for line in (run / "predictions" / "validation.jsonl").read_text().splitlines()]
    record = json.loads((run / "evaluation.test.json").read_text())
    (one,) = record["sets"]
    assert one["rows"] == one["of"] == len(rows)

    losses = np.array([-math.log(row["scores"][row["label"]]) for row in rows])
    worst = np.argsort(-losses, kind="stable")[:20]
    assert [each["row"] for each in one["mistakes"]] == worst.tolist()
    for each in one["mistakes"]:
        row = rows[each["row"]]
        assert each["wrong"] == pytest.approx(losses[each["row"]], abs=1e-4)
        assert each["label"] == row["label"]
        assert each["said"].startswith(row["predicted_label"])
    right = np.array([row["label"] == row["predicted_label"] for row in rows])
    chance = np.random.default_rng(0)
    drawn = [right[chance.integers(len(rows), size=len(rows))].mean() for _ in range(5_000)]
    assert one["intervals"]["accuracy"] == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=0.02)
    sure = np.array([row["score"] for row in rows])
    bins = (sure * 15).astype(int)
    expected = [[sure[bins == at].mean(), right[bins == at].mean(), (bins == at).sum()] for at in sorted({*bins})]
    np.testing.assert_allclose(one["reliability"], expected, atol=1e-4)

    files = read_run(run)
    with (run / "metrics.csv").open(newline="") as file:
        last = {name: cell for row in csv.DictReader(file) for name, cell in row.items() if cell}
    assert files.final["test_accuracy"] == float(last["test_accuracy"]) == pytest.approx(right.mean(), abs=1e-6)
    steps = [step for step, _ in files.series["learning_rate"]]
    rates = [rate for _, rate in files.series["learning_rate"]]
    assert steps == list(range(8))
    assert rates == pytest.approx([2e-3 * (8 - step) / 8 for step in range(8)])
    assert [each["command"] for each in files.commands] == ["fit", "test", "predict"]
    assert {each["status"] for each in files.commands} == {"finished"}
    assert record["step"] == files.commands[1]["step"] in (4, 8)

    taken = {row["label"]: Counter() for row in rows}
    for row in rows:
        taken[row["label"]][row["predicted_label"]] += 1
    for stage in ("test", "val"):  # here the same rows; `val` was recorded by fit
        (one,) = files.evaluations[stage]["sets"]
        for line in one["labels"]:
            seen = {name.removeprefix("predicted "): count for name, count in line.items() if "predicted" in name}
            assert Counter(seen) == taken[line["label"]]
            assert line["support"] == taken[line["label"]].total()

    tags = checked(run / "report.html")
    assert tags.text.count("label \\ predicted") == 2
    assert f"{float(last['test_accuracy']):.4f}" in tags.text
    assert "most wrong" in tags.text
    assert one["mistakes"][0]["text"] in tags.text
    assert "train: " in tags.text or "worth a thought" in tags.text
    assert str(files.versions["torch"]) in tags.text
    text = (run / "report.md").read_text()
    assert "| test_accuracy |" in text
    assert "lit-ft" in text or "pytest" in text


def test_of_many_labels_no_table_is_made(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_ft.callbacks.evaluation_record.MOST_ON_SCREEN", 7)  # the sample has eight
    run = cli.main(["fit", *words, "--trainer.max_epochs=1"]).folder
    assert run is not None
    (one,) = read_run(run).evaluations["val"]["sets"]
    assert one["labels"] == []
    assert one["mistakes"]
    assert "label \\ predicted" not in checked(run / "report.html").text


def test_a_run_that_dies_says_of_what(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        cli.main(["fit", *words, "--trainer.callbacks=tests.test_report.Dies"])
    run = read_run(tmp_path / "runs" / "version_0")
    assert run.status == "fit: ZeroDivisionError: in step 3"
    assert len(run.series["train_loss"]) >= 2
    assert "ZeroDivisionError: in step 3" in checked(run.folder / "report.html").text


def test_a_run_that_was_killed_has_a_report_when_asked(words: list[str], tmp_path: Path, capsys: Any) -> None:
    process = Command("fit", *words, "--trainer.max_epochs=500")
    run = tmp_path / "runs" / "version_0"
    while not (run / "metrics.csv").exists():
        assert process.status is None
        time.sleep(0.01)
    process.signal(signal.SIGKILL)
    process.end()
    assert not (run / "report.html").exists()
    report([str(run)])
    assert "fit did not end: it is running, or was killed" in capsys.readouterr().out
    assert "did not end" in checked(run / "report.html").text


def test_runs_side_by_side(words: list[str], tmp_path: Path, capsys: Any) -> None:
    cli.main(["fit", *words])
    cli.main(["fit", *words, "--model.learning_rate=1e-4"])
    capsys.readouterr()
    runs = [tmp_path / "runs" / f"version_{number}" for number in (0, 1)]
    report([*map(str, runs), "--out", str(tmp_path / "both.html")])
    said = " ".join(capsys.readouterr().out.split())
    assert "model.learning_rate │ 0.002 │ 0.0001" in said
    assert "default_root_dir" not in said
    scores = [f"{read_run(run).final['val_accuracy']:.4f}" for run in runs]
    assert f"val_accuracy │ {' │ '.join(scores)}" in said
    tags = checked(tmp_path / "both.html")
    assert tags.seen["polyline"] >= 4
    assert "model.learning_rate" in tags.text


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    (tmp_path / "version_3").mkdir()
    with pytest.raises(UserError, match=r"no run has left anything here.*runs in it: version_3"):
        report([str(tmp_path)])
    with pytest.raises(UserError, match="no such folder"):
        report([str(tmp_path / "nothing")])


@pytest.mark.parametrize("low", [-1234.5, 0.0, 0.00012, 3.0])
@pytest.mark.parametrize("width", [1e-6, 0.3, 7.0, 12345.0])
def test_ticks_are_few_round_and_cover(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    assert 2 <= len(marks) <= 9
    assert marks[0] <= low + 1e-9 * abs(low) + 1e-12
    assert marks[-1] >= low + width - 1e-9 * abs(low) - 1e-12
    steps = np.diff(marks)
    assert np.allclose(steps, steps[0], rtol=1e-3)


def test_long_series_are_thinned_and_constant_ones_drawn() -> None:
    series = [(step, float(step % 7)) for step in range(10_000)]
    thin = thinned(series)
    assert len(thin) <= 600
    assert thin[-1][0] == 9_999
    assert np.mean([value for _, value in thin]) == pytest.approx(np.mean([value for _, value in series]), abs=0.05)
    assert "polyline" in lines({"flat": [(0, 1.0), (5, 1.0)]}, "flat")
    assert "polyline" in lines({"single": [(3, 2.0)]}, "single")
    assert lines({"none": []}, "nothing") == ""


@pytest.mark.soak
@pytest.mark.skipif(find_spec("PyQt6") is None, reason="no Chromium here: pip install PyQt6-WebEngine")
@pytest.mark.parametrize("width", [400, 1400])
def test_pages_open_in_a_browser(words: list[str], tmp_path: Path, width: int) -> None:
    run = cli.main(["fit", *words]).folder
    assert run is not None
    cli.main(["test", *words, "--ckpt_path=best"])
    report([str(run), str(run), "--out", str(tmp_path / "both.html")])
    preview(["preview", *words, "--html", str(tmp_path / "preview.html")])
    for page in (run / "report.html", tmp_path / "both.html", tmp_path / "preview.html"):
        picture = tmp_path / f"{page.stem}.png"
        command = [sys.executable, str(BROWSER), str(page), str(width), str(picture)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        seen = json.loads(done.stdout)
        assert seen["console"] == []
        assert seen["width"] <= width  # nothing to be scrolled sideways
        assert picture.stat().st_size > 20_000


def test_two_processes_name_the_same_mistakes(words: list[str], sample: Path, tmp_path: Path) -> None:
    run = cli.main(["fit", *words]).folder
    assert run is not None
    lines = (sample / "validation.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "many.csv").write_text("".join(lines[:30]), encoding="utf-8")
    (tmp_path / "one.csv").write_text("".join(lines[:2]), encoding="utf-8")
    files = json.dumps({"many": str(tmp_path / "many.csv"), "one": str(tmp_path / "one.csv")})
    tested = [*words, f"--ckpt_path={run}", f"--data.test_file={files}", "--data.eval_batch_size=4"]
    cli.main(["test", *tested])
    alone = json.loads((run / "evaluation.test.json").read_text())["sets"]
    (run / "evaluation.test.json").unlink()
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    Command("test", *tested, *two).succeed()  # one has no row of the small set
    both = json.loads((run / "evaluation.test.json").read_text())["sets"]
    assert [each["rows"] for each in both] == [each["rows"] for each in alone] == [29, 1]
    for mine, theirs in zip(both, alone, strict=True):
        assert "intervals" not in mine
        assert [each["row"] for each in mine["mistakes"]] == [each["row"] for each in theirs["mistakes"]]
        assert [each["text"] for each in mine["mistakes"]] == [each["text"] for each in theirs["mistakes"]]
    checked(run / "report.html")
