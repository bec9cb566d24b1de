"""The benchmarks' harness: statistics, turns, memory, the workload, and a tiny run of every entry."""

import csv
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from tests.benchmarks.holding import hold
from tests.processes import METHOD

ENTRIES = [
    "tokenizing",
    "second_start",
    "memory",
    "load",
    "resume",
    "loader",
    "classification_step",
    "task_training",
    "text_preparation",
    "masked_lm_step",
    "causal_lm_step",
    "domain_adaptation",
    "chats_step",
    "replies_step",
    "preferences_step",
    "embeddings_step",
    "prediction",
    "lightning_overhead",
    "startup",
]
FOLDER = Path(__file__).parents[2] / "benchmarks"
MB = 1_000_000


@pytest.fixture(autouse=True)
def _scripts_find_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    # after the rest of the path: `memory` or `report` must not hide anything
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])


def script(name: str) -> Any:
    return import_module(name)


def test_contestants_take_turns_and_the_warm_up_is_cut() -> None:
    turns: list[str] = []

    def contestant(name: str) -> Callable[[], dict[str, float]]:
        def run() -> dict[str, float]:
            turns.append(name)
            return {"seconds": float(len(turns))}

        return run

    measured = script("harness").alternate({"a": contestant("a"), "b": contestant("b")}, rounds=3, warmup=2)
    assert "".join(turns) == "ababababab"
    assert measured == {
        "a": [{"seconds": 5.0}, {"seconds": 7.0}, {"seconds": 9.0}],
        "b": [{"seconds": 6.0}, {"seconds": 8.0}, {"seconds": 10.0}],
    }


def test_ratios_are_taken_round_by_round_and_above_one_is_better() -> None:
    harness = script("harness")
    rounds = {"ours": [{"x": 2.0}, {"x": 6.0}, {"x": 4.0}], "other": [{"x": 1.0}, {"x": 2.0}, {"x": 8.0}]}
    higher = harness.compare(rounds, "x", "speed", "rows/s", "higher").as_dict()
    assert higher["contestants"]["ours"] == {"values": [2.0, 6.0, 4.0], "median": 4.0, "min": 2.0, "max": 6.0}
    assert higher["ratios"] == {"other": {"values": [2.0, 3.0, 0.5], "median": 2.0, "min": 0.5, "max": 3.0}}
    lower = harness.compare(rounds, "x", "time", "s", "lower").as_dict()
    assert lower["ratios"]["other"]["values"] == pytest.approx([1 / 2, 1 / 3, 2])
    nothing = harness.Comparison("accuracy", "%", "higher", {"ours": [0.0, 5.0, 0.0], "other": [0.0, 0.0, 5.0]})
    assert nothing.ratios("other") == [1.0, float("inf"), 0.0]


def test_a_report_is_json_a_table_and_a_chart_to_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harness = script("harness")
    comparison = harness.Comparison("speed <of> it", "rows/s", "higher", {"ours": [3000, 4000, 3500], "b": [1000] * 3})
    options = Namespace(rounds=3, out=str(tmp_path / "results"))
    harness.Report("trial", options, ["equal"], ["a note"], [comparison]).write()
    content = json.loads((tmp_path / "results" / "trial.json").read_text())
    assert content["comparisons"] == [comparison.as_dict()]
    assert content["environment"]["torch"] == version("torch")
    assert content["environment"]["cores"] == len(os.sched_getaffinity(0))
    assert any("fewer than the 5" in note for note in content["notes"])
    text = (tmp_path / "results" / "trial.md").read_text()
    assert "| ours | 3,500 | 3,000 - 4,000 |  |" in text
    assert "| b | 1,000 | 1,000 - 1,000 | 3.50x (3.00 - 4.00) |" in text
    assert text in capsys.readouterr().out
    chart = ElementTree.parse(tmp_path / "results" / "trial.svg")
    bars = [float(bar.attrib["width"]) for bar in chart.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert bars[0] / bars[1] == pytest.approx(3.5, rel=1e-2)


def fail() -> None:
    raise ValueError("the reason")


def die() -> None:
    os._exit(3)


def test_memory_tells_a_process_own_pages_from_those_of_mapped_files(tmp_path: Path) -> None:
    run = script("processes").in_own_process
    path = tmp_path / "file"
    path.write_bytes(bytes(100 * MB))
    _, empty = run(hold, 0, None)
    result, held = run(hold, 200 * MB, str(path))
    assert result == 200 * MB
    assert 190 < held.anonymous - empty.anonymous < 230
    assert 280 < held.rss - empty.rss < 330


def test_a_process_that_fails_or_dies_says_so() -> None:
    run = script("processes").in_own_process
    with pytest.raises(RuntimeError, match="the reason"):
        run(fail, start_method="fork")
    with pytest.raises(RuntimeError, match="exit code 3"):
        run(die, start_method="fork")


def test_rows_are_a_function_of_the_seed_and_look_like_rows(tmp_path: Path) -> None:
    workload = script("workload")
    for name, seed in (("a.jsonl", 1), ("b.csv", 1), ("c.jsonl", 2)):
        workload.write_rows(tmp_path / name, 3000, seed)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with (tmp_path / "b.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == rows
    assert (tmp_path / "c.jsonl").read_text() != (tmp_path / "a.jsonl").read_text()
    lengths = np.array([len(row["text"].split()) for row in rows])
    assert len(rows) == 3000
    assert 24 < lengths.mean() < 26
    assert lengths.std() > 8
    assert len({row["label"] for row in rows}) == 8
    assert len({row["text"] for row in rows}) > 2990


def test_rows_that_differ_in_one_token_or_label_are_no_equal_work() -> None:
    workload = script("workload")

    def batch(ids: list[list[int]], labels: list[int]) -> dict[str, torch.Tensor]:
        tokens = torch.tensor(ids)
        return {"input_ids": tokens, "attention_mask": (tokens > 0).long(), "labels": torch.tensor(labels)}

    ours = workload.digests([batch([[1, 2, 3], [4, 5, 0]], [0, 1])])
    shuffled = workload.digests([batch([[4, 5]], [1]), batch([[1, 2, 3, 0]], [0])])
    assert "all 2 rows" in workload.check_equal(ours, shuffled, "other")
    for ids, labels in (([[1, 2, 3], [4, 6, 0]], [0, 1]), ([[1, 2, 3], [4, 5, 0]], [0, 0])):
        with pytest.raises(RuntimeError, match="1 of 2 rows differ"):
            workload.check_equal(ours, workload.digests([batch(ids, labels)]), "other")
    with pytest.raises(RuntimeError, match="has 2 rows, other 1"):
        workload.check_equal(ours, ours[:1], "other")


@pytest.fixture
def options(tiny: Callable[..., str], tmp_path: Path) -> list[str]:
    """A command line small enough for a test."""
    return ["--model", tiny("bert"), "--rounds", "1", "--warmup", "0", "--out", str(tmp_path / "results")]


def names(content: dict[str, Any]) -> list[list[str]]:
    return [list(comparison["contestants"]) for comparison in content["comparisons"]]


def test_tokenizing(options: list[str], tiny: Callable[..., str]) -> None:
    content = script("tokenizing").main([*options, "--rows", "40", "--rowwise_rows", "10"])
    assert names(content) == [
        ["lit_ft", "map(batched=True)", "map, row by row"],
        ["lit_ft", "tokenizer(), in batches", "map(batched=True)"],
    ]
    assert "all 40 rows" in content["checks"][0]
    assert any("first 10 rows only" in note for note in content["notes"])
    assert all(
        value > 0
        for each in content["comparisons"]
        for part in each["contestants"].values()
        for value in part["values"]
    )


def test_rows_of_the_users_own(options: list[str], tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("body,stars\n" + "".join(f'"it leaks, {number} times",{number % 11}\n' for number in range(22)))
    command = ["--train_file", str(path), "--text", "body", "--label", "stars", "--batch_size", "8"]
    content = script("loader").main([*options, *command, "--num_workers", "0", "--steps", "1"])
    assert "all 22 rows" in content["checks"][0]


def test_loader(options: list[str]) -> None:
    command = ["--rows", "40", "--steps", "1", "--batch_size", "8", "--num_workers", "0", "1"]
    content = script("loader").main([*options, *command])
    speed, share = content["comparisons"][:2]
    assert "num_workers 1" in content["comparisons"][2]["what"]
    assert speed["ratios"].keys() == share["ratios"].keys() == {"Dataset + DataCollatorWithPadding"}
    for name, values in speed["ratios"].items():  # both are made of the same seconds
        assert values["values"] == pytest.approx(share["ratios"][name]["values"], rel=1e-3)


def test_classification_step(options: list[str], tmp_path: Path, tiny: Callable[..., str]) -> None:
    command = ["--rows", "40", "--batch_size", "8", "--check_steps", "2", "--memory_steps", "1", "--accelerator", "cpu"]
    content = script("classification_step").main([*options, *command, "--workload", "intents"], start_method=METHOD)
    assert content["benchmark"] == "classification_step_intents"
    assert names(content)[0][:3] == ["lit_ft", "Trainer", "Trainer, group_by_length"]
    workload = script("workload")
    workload.write_rows(tmp_path / "same.jsonl", 40, 1, shape=workload.SHAPES["intents"])
    texts = [json.loads(line)["text"] for line in (tmp_path / "same.jsonl").read_text().splitlines()]
    ids = AutoTokenizer.from_pretrained(tiny("bert"))(texts, truncation=True, max_length=128)["input_ids"]
    assert f"{sum(map(len, ids)):,} real tokens" in content["checks"][-1]
    assert content["notes"][0].startswith(f"40 rows of {sum(map(len, ids)) / 40:.1f} tokens")
    examples, tokens, steps, utilisation, memory = content["comparisons"]
    for name, rate in examples["contestants"].items():
        assert rate["values"] == pytest.approx([8 * value for value in steps["contestants"][name]["values"]])
        assert 20 < memory["contestants"][name]["median"] < 3000
    for name, ratio in tokens["ratios"].items():  # useful FLOPs are the same whoever does them
        assert ratio["values"] == pytest.approx(utilisation["ratios"][name]["values"])


def test_second_start(options: list[str]) -> None:
    content = script("second_start").main([*options, "--rows", "40"], start_method=METHOD)
    assert [check.split(":")[0] for check in content["checks"]] == [
        "token ids and labels of all 40 rows are the same in lit_ft and load_dataset + map, cached",
        "no second start wrote or changed a prepared file",
    ]
    assert names(content)[0] == ["lit_ft", "load_dataset + map, cached"]


def test_memory(options: list[str]) -> None:
    content = script("memory").main([*options, "--rows", "20", "--batches", "3"], start_method=METHOD)
    assert len(content["comparisons"]) == 2 * 2
    for comparison in content["comparisons"]:
        assert all(20 < part["median"] < 3000 for part in comparison["contestants"].values())


def test_load(options: list[str]) -> None:
    content = script("load").main([*options, "--rows", "40", "80", "--steps", "2"], start_method=METHOD)
    assert names(content)[0] == ["40 rows", "80 rows"]
    peak, halfway, end = ([part["median"] for part in each["contestants"].values()] for each in content["comparisons"])
    assert all(20 < least <= most < 3000 for part in (halfway, end) for least, most in zip(part, peak, strict=True))


def test_growth_is_from_the_first_number_of_rows_to_the_last() -> None:
    harness, sizes = script("harness"), {"10 rows": (5.0, 7.0), "20 rows": (6.0, 9.0), "30 rows": (4.0, 107.0)}
    comparisons = [
        harness.Comparison(f"{rows}: {peak}", "MB", "lower", {"ours": [peaks[0]], "other": [peaks[1]]})
        for rows, peaks in sizes.items()
        for peak in ("one", "two")
    ]
    said = "10 rows -> 30 rows: ours -1 MB, other +100 MB"
    assert script("memory").growth(comparisons) == [f"one, {said}", f"two, {said}"]
    assert script("memory").growth(comparisons[:2]) == []


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_is_in_the_script_that_runs_all(name: str) -> None:
    assert name in (FOLDER / "run_all.sh").read_text()
    assert (FOLDER / f"{name}.py").read_text().count('if __name__ == "__main__":') == 1


def test_the_script_stops_at_the_first_failure(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexit 7\n')
    python.chmod(0o755)
    done = subprocess.run(
        [FOLDER / "run_all.sh", "--rounds", "2"], env={**os.environ, "PYTHON": str(python)}, check=False
    )
    assert done.returncode == 7
    assert (tmp_path / "calls").read_text() == f"{FOLDER}/tokenizing.py --rounds 2\n"
