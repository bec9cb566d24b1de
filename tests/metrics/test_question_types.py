"""Types of questions and their table, worked by hand, added up, and by SQuAD's official script."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from lit_ft import cli
from lit_ft.metrics.question_answering import AnswerScores
from lit_ft.metrics.question_types import question_type, table_of_types
from lit_ft.pages.report import labels
from lit_ft.pages.run_files import read_run
from tests.questions import compute_exact, compute_f1, nested, question_rows


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("Who wrote it?", "who"), ("  what's that", "what"), ("¿Qué es esto?", "qué"), ("HOW many?", "how"),
        ("क्या यह सच है?", "क्या"), ("誰が書いた?", "誰"), ("", ""), ("?!", ""), ("1984 was written by whom?", "1984"),
    ],
)  # fmt: skip
def test_the_type_is_the_first_word(question: str, word: str) -> None:
    assert question_type(question) == word


def test_a_table_worked_by_hand() -> None:
    metric = AnswerScores(null=True, threshold=0.0)
    metric.update(
        ["blue whale", "the whale", "1900", "1900", "x"],
        [["a blue whale"], ["blue whale"], [], ["1900"], ["y"]],
        [-1.0, -1.0, 1.0, 1.0, -1.0],
        ["who", "who", "when", "when", ""],
    )
    assert metric.table() == [
        {"question_type": "when", "count": 2, "answerable": 1, "exact_match": 50.0, "f1": 50.0},
        {"question_type": "who", "count": 2, "answerable": 2, "exact_match": 50.0, "f1": pytest.approx(250 / 3)},
        {"question_type": "other", "count": 1, "answerable": 1, "exact_match": 0.0, "f1": 0.0},
    ]
    metric.reset()
    assert metric.table() == []


def _half(rank: int, port: int, path: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metric = AnswerScores(null=False)
    if rank == 0:  # the other has no question
        metric.update(["a", "b", "c"], [["a"], ["x"], ["c"]], [0.0] * 3, ["who", "who", "when"])
    Path(path, str(rank)).write_text(json.dumps([metric.table(), metric.compute()["f1"].item()]))
    dist.destroy_process_group()


def test_two_processes(free_port: int, tmp_path: Path) -> None:
    mp.start_processes(_half, (free_port, str(tmp_path)), nprocs=2, start_method="fork")
    first, second = (json.loads((tmp_path / str(rank)).read_text()) for rank in (0, 1))
    assert first == second
    table, f1 = first
    assert f1 == pytest.approx(200 / 3)
    assert [(row["question_type"], row["count"], row["f1"]) for row in table] == [("who", 2, 50.0), ("when", 1, 100.0)]


def test_twelve_types_by_name_and_the_others_together() -> None:
    types = [f"w{number:02}" for number in range(14) for _ in range(20 - number)]
    table = table_of_types(types, [(1.0, 0.0, 0.5)] * len(types))
    assert [row["question_type"] for row in table] == [*(f"w{number:02}" for number in range(12)), "other"]
    assert table[-1] == {"question_type": "other", "count": 8 + 7, "answerable": 15, "exact_match": 0.0, "f1": 50.0}
    assert sum(row["count"] for row in table) == len(types)


@pytest.mark.parametrize("threshold", [0.0, None])
@pytest.mark.parametrize("null", [True, False])
def test_types_add_up_to_the_whole(null: bool, threshold: float | None) -> None:
    rng, metric = random.Random(0), AnswerScores(null, threshold)
    for _ in range(40):
        golds = [[rng.choice("abc")] if not null or rng.random() < 0.7 else [] for _ in range(3)]
        metric.update(rng.choices("abc", k=3), golds, [rng.gauss(0, 1) for _ in golds], rng.choices("xyz", k=3))
    table, whole = metric.table(), metric.compute()
    assert sum(row["count"] for row in table) == 120
    for name in ("exact_match", "f1"):
        assert sum(row["count"] * row[name] for row in table) / 120 == pytest.approx(float(whole[name]))


def test_a_test_leaves_the_table_in_its_report(tiny: Callable[..., str], tmp_path: Path) -> None:
    rows = question_rows(18)
    for number, row in enumerate(rows):
        row["question"] = f"{('What', 'what', 'Who')[number % 3]}{row['question'].removeprefix('what')}"
    (tmp_path / "rows.json").write_text(json.dumps(nested(rows)))
    words = [
        "--model=QuestionAnsweringModule", "--data=QuestionAnsweringDataModule",
        f"--model.model_name_or_path={tiny('bert')}", f"--data.test_file={tmp_path / 'rows.json'}",
        "--data.max_seq_length=64", "--data.doc_stride=16", f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--trainer.enable_progress_bar=false",
    ]  # fmt: skip
    run = cli.main(["test", *words]).folder
    assert run is not None
    cli.main(["predict", *words])
    (file,) = (tmp_path / "runs").rglob("predictions/*.jsonl")
    expected: dict[str, list[tuple[int, float]]] = {}
    for row, found in zip(rows, map(json.loads, file.read_text().splitlines()), strict=True):
        said = found["answer"]
        scores = [(compute_exact(gold, said), compute_f1(gold, said)) for gold in row["answers"]["text"]]
        expected.setdefault(row["question"].split()[0].lower(), []).append(max(scores))
    with (run / "test_question_types.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert [(row["question_type"], row["count"], row["answerable"]) for row in table] == [
        ("what", "12", "12"),
        ("who", "6", "6"),
    ]
    for row in table:
        exact, f1 = (100 * sum(column) / len(column) for column in zip(*expected[row["question_type"]], strict=True))
        assert float(row["exact_match"]) == pytest.approx(exact, abs=1e-3)
        assert float(row["f1"]) == pytest.approx(f1, abs=1e-3)
    page = (run / "report.html").read_text()
    assert labels(read_run(run).evaluations["test"]["sets"][0]["labels"]) in page
    assert "<th>question_type</th><th>count</th><th>answerable</th><th>exact_match</th><th>f1</th>" in page
    assert "<td>who</td><td class=number>6</td>" in page
