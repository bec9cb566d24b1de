"""Every YAML of question answering through the real command, on rows of the same columns, and what it leaves."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from lit_ft import load_predictor
from tests.configs.lively import lively_model
from tests.configs.running import fit_test_predict, logged, read_config, read_lines, to_run
from tests.questions import OUR_NAMES, QUESTIONS, Rows, nested, official, question_rows

LENGTH, STRIDE = 64, 16


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return cache(lambda kind: lively_model(kind, AutoModelForQuestionAnswering, tmp_path_factory.mktemp(kind)))


def local_rows(name: str, folder: Path) -> tuple[list[str], Rows]:
    """Words that put local rows in the place of the YAML's own, and the rows that are tested on and predicted."""
    unanswerable = name.endswith("squad_v2")
    train = question_rows(30, unanswerable=unanswerable)
    test = question_rows(9, 100, unanswerable) + question_rows(5, 130, unanswerable, messages=3)
    folder.mkdir()
    if "dataset_name" in read_config(name)["data"]["init_args"]:
        parts = {"train": train, "validation": test}
        DatasetDict({part: Dataset.from_list(rows) for part, rows in parts.items()}).save_to_disk(folder)
        return ["--data.dataset_name", str(folder)], test
    words = []
    for part, rows in {"train": train, "validation": question_rows(8, 60), "test": test}.items():
        (folder / f"{part}.json").write_text(json.dumps(nested(rows)))
        words += [f"--data.{part}_file", str(folder / f"{part}.json")]
    return words, test


@pytest.mark.parametrize("name", to_run("question_answering"))
def test_yaml_runs_from_questions_to_answers(name: str, model_of: Callable[[str], str], tmp_path: Path) -> None:
    assert name in QUESTIONS, f"configs/{name}.yaml has no architecture in tests/questions.py"
    words, rows = local_rows(name, tmp_path / "rows")
    small = [f"--data.max_seq_length={LENGTH}", f"--data.doc_stride={STRIDE}", "--data.batch_size=4"]
    quick = [
        "--model.learning_rate=0.001",
        "--trainer.max_epochs=2",
        f"--model.model_name_or_path={model_of(QUESTIONS[name])}",
    ]
    run, done = fit_test_predict(name, [*words, *small, *quick], tmp_path / "runs")
    (file,) = (run / "predictions").glob("*.jsonl")
    written = read_lines(file)
    assert [{key: row[key] for key in given} for row, given in zip(written, rows, strict=True)] == rows
    check_official(run, written)
    check_exported(run, written)
    assert done["fit"].trainer.checkpoint_callback.monitor == "val_f1"


def check_official(run: Path, written: Rows) -> None:
    """The metrics in metrics.csv, once more, from the predictions by SQuAD's own script."""
    values = logged(run)
    golds = {row["id"]: row["answers"]["text"] for row in written}
    v2 = "null_odds" in written[0]
    best = {row["id"]: next((each["text"] for each in row["n_best"] if each["text"]), "") for row in written}
    odds = {row["id"]: row.get("null_odds", 0.0) for row in written}
    threshold = json.loads((run / "hf" / "config.json").read_text()).get("null_score_diff_threshold", 1.0)
    expected = official(best, golds, odds, threshold)
    for theirs, ours in OUR_NAMES.items():
        if v2 or ours in ("exact_match", "f1"):
            assert values[f"test_{ours}"] == pytest.approx(expected[theirs], abs=1e-3), theirs
        else:
            assert f"test_{ours}" not in values


@torch.no_grad()
def check_exported(run: Path, written: Rows) -> None:
    """The exported folder under transformers alone finds the same answers, where a context is one window."""
    model = AutoModelForQuestionAnswering.from_pretrained(run / "hf").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "hf")
    seen = 0
    for row in written:
        encoded = tokenizer(row["question"], row["context"], return_tensors="pt", return_offsets_mapping=True)
        if encoded["input_ids"].shape[1] > LENGTH:
            continue
        offsets, owners = encoded.pop("offset_mapping")[0].tolist(), encoded.sequence_ids(0)
        out = model(**encoded)
        start, end = out.start_logits[0].tolist(), out.end_logits[0].tolist()
        held = [at for at, owner in enumerate(owners) if owner == 1]
        score, first, last = max((start[a] + end[b], a, b) for a in held for b in held if a <= b < a + 30)
        best = next(each for each in row["n_best"] if each["text"])
        assert best["text"] == row["context"][offsets[first][0] : offsets[last][1]]
        if "null_odds" in row:
            assert row["null_odds"] == pytest.approx(start[0] + end[0] - score, abs=1e-3)
        seen += 1
    assert seen > 3
    predictor = load_predictor(run / "hf", max_seq_length=LENGTH, doc_stride=STRIDE)
    again = predictor([{name: row[name] for name in ("question", "context")} for row in written])
    assert [row["answer"] for row in again] == [row["answer"] for row in written]
