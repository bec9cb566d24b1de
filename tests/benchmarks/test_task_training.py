"""The benchmark of windows of questions, of choices and of tagged words: its rows, its checks, a tiny run of each."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering

from tests.processes import METHOD

FOLDER = Path(__file__).parents[2] / "benchmarks"
TASKS = ["question_answering", "multiple_choice", "token_classification", "translation"]


@pytest.fixture(autouse=True)
def _scripts_find_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOLDER)])


def script(name: str = "task_training") -> Any:
    return import_module(name)


def test_rows_are_a_function_of_the_seed_and_say_where_things_are() -> None:
    rows = script("task_rows")
    for made in (rows.question_rows, rows.choice_rows, rows.tagged_rows, rows.pair_rows):
        first, again, other = (list(made(60, seed)) for seed in (1, 1, 2))
        assert first == again != other
        assert len(first) == 60
    for row in rows.question_rows(60, 1):
        (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
        assert row["context"][start : start + len(text)] == text.strip() != ""
    assert len({row["context"] for row in rows.question_rows(60, 1)}) == 12
    tagged = list(rows.tagged_rows(2000, 1))
    assert all(len(row["tokens"]) == len(row["ner_tags"]) for row in tagged)
    for row in tagged:  # IOB2: what goes on has begun
        for before, tag in zip(["O", *row["ner_tags"]], row["ner_tags"], strict=False):
            assert tag[0] != "I" or before[1:] == tag[1:]
    assert np.mean([len(row["tokens"]) for row in tagged]) == pytest.approx(14.5, rel=0.05)
    assert np.mean([tag != "O" for row in tagged for tag in row["ner_tags"]]) == pytest.approx(0.16, abs=0.02)


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=pytest.mark.soak if task != TASKS[0] else ()) for task in TASKS]
)
def test_task_training(task: str, tmp_path: Path, tiny: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    if task == "translation":  # of t5-small's size otherwise
        tasks, sizes = script().TASKS, {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        monkeypatch.setitem(tasks, task, replace(tasks[task], architecture={"model_type": "t5", **sizes}))
    command = ["--task", task, "--rounds", "1", "--steps", "1", "--check_steps", "2", "--batch_size", "4"]
    command += ["--model", tiny("bert"), "--out", str(tmp_path)]
    content = script().main([*command, "--max_seq_length", "160", "--doc_stride", "16"], start_method=METHOD)
    assert content["benchmark"] == f"task_training_{task}"
    contestants = ["Trainer", *(["Trainer, pad_to_max_length"] if task == "question_answering" else [])]
    assert len(content["checks"]) == 2 * len(contestants) + 1
    for name, (batches, losses) in zip(
        contestants, zip(content["checks"][:-1:2], content["checks"][1::2], strict=True), strict=True
    ):
        assert batches.startswith(f"lit_ft and {name}: attention_mask, ")
        assert "losses of 2 steps within" in losses
    examples, step, tokens, memory, utilisation = content["comparisons"]
    assert list(examples["contestants"]) == ["lit_ft", *contestants, "lit_ft, padding_free off"]
    for name, rate in examples["contestants"].items():
        assert rate["median"] * step["contestants"][name]["median"] == pytest.approx(4)
        assert 20 < memory["contestants"][name]["median"] < 3000
    for name, ratio in tokens["ratios"].items():  # useful FLOPs are the same whoever does them
        assert ratio["values"] == pytest.approx(utilisation["ratios"][name]["values"])


def test_other_rows_are_no_equal_work(tmp_path: Path, tiny: Callable[..., str]) -> None:
    training, rows = script(), script("task_rows")
    asked, sizes = ["--task", "question_answering"], ["--max_seq_length", "160", "--doc_stride", "16"]
    work = training.task_work(training.read_options([*asked, *sizes, "--steps", "1", "--batch_size", "4"]), tmp_path)
    work = training.replace(work, model=training.start_folder(work, tiny("bert"), tmp_path / "model", True))
    features = training.map_rows(work, "theirs")
    assert "start_positions" in training.check_batches(work, features, "theirs")
    moved = features.map(lambda row: {"end_positions": row["end_positions"] + 1})
    with pytest.raises(RuntimeError, match="end_positions of batch 0 differs"):
        training.check_batches(work, moved, "theirs")
    with pytest.raises(RuntimeError, match=r"3 features are too few for 2 steps of 4"):
        training.check_batches(work, features.select(range(3)), "theirs")
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows.question_rows(9, 3)))
    assert training.task_work(training.read_options([*asked, "--train_file", str(own)]), tmp_path).file == own


def test_padding_is_taken_out_of_transformers_loss(tiny: Callable[..., str]) -> None:
    model = AutoModelForQuestionAnswering.from_pretrained(tiny("bert"))
    ids = torch.arange(5, 15)[None]
    places = {"start_positions": torch.tensor([2]), "end_positions": torch.tensor([3])}
    padded = {"input_ids": torch.nn.functional.pad(ids, (0, 6)), "attention_mask": (torch.arange(16) < 10).long()[None]}
    with torch.no_grad():
        alone = model(input_ids=ids, **places).loss
        assert abs(float(model(**padded, **places).loss - alone)) > 0.1
        masked = script("task_scripts").without_padding(model)
        assert float(masked(**padded, **places).loss) == pytest.approx(float(alone), abs=1e-5)
