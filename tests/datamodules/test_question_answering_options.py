"""What is prepared for question answering is never stale and never missed: every option in a table, as it behaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_ft import QuestionAnsweringDataModule
from tests.datamodules import test_preparation_cache as shared
from tests.datamodules.test_language_modeling_options import EVERY_TASK
from tests.datamodules.test_preparation_cache import parameters
from tests.questions import nested, question_rows

Prepare = Callable[..., int]
ROWS = [{**row, "other": f"o {n} {row['context']}", "gold": row["answers"]} for n, row in enumerate(question_rows(40))]
FIXED = {"stride", "truncation_side"}
"""Options that this task has fixed: only contexts are cut, and read in windows."""
CHANGES = {name: value for name, value in shared.CHANGES.items() if name in EVERY_TASK - FIXED} | {
    "max_seq_length": 40, "doc_stride": 9, "question_column_name": "other", "context_column_name": "other",
    "answer_column_name": "gold", "id_column_name": "other",
    "answer_start_column_name": "other", "negative_window_ratio": 1.0, "on_bad_answer": "drop",
    "column_mapping": {"other": "another"},
}  # fmt: skip
"""Options that change, or may change, what is prepared."""
SAME = {name: value for name, value in shared.SAME.items() if name in EVERY_TASK}
ELSEWHERE = {name for name in shared.ELSEWHERE if name in EVERY_TASK}


@pytest.fixture
def prepare(tiny: Callable[..., str], tmp_path: Path) -> Prepare:
    """Prepares for fit; returns how many prepared folders there are then."""
    path = shared.write(tmp_path / "train.jsonl", ROWS)
    (tmp_path / "nested.json").write_text(json.dumps(nested(ROWS)))

    def run(**options: Any) -> int:
        given = {"model_name_or_path": tiny("bert"), "train_file": path, "max_seq_length": 48, "doc_stride": 12}
        QuestionAnsweringDataModule(**{**given, **options}).prepare_data()
        return len(list((tmp_path / "prepared").glob("*/content.json")))

    return run


def test_every_option_is_in_one_of_the_tables() -> None:
    known = EVERY_TASK | parameters(QuestionAnsweringDataModule)
    assert known == set(CHANGES) | set(SAME) | ELSEWHERE | FIXED


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_that_changes_the_result_prepares_anew(option: str, prepare: Prepare) -> None:
    assert prepare() == 1
    assert prepare(**{option: CHANGES[option]}) == 2


def test_other_options_do_not(prepare: Prepare) -> None:
    assert prepare() == 1
    for option, value in SAME.items():
        assert prepare(**{option: value}) == 1, option


def test_other_rows_do(prepare: Prepare, tmp_path: Path) -> None:
    assert prepare() == 1
    assert prepare(train_file=str(tmp_path / "nested.json")) == 2
    rows = [dict(row) for row in ROWS]
    rows[3]["answers"] = {"text": [], "answer_start": []}
    (tmp_path / "nested.json").write_text(json.dumps(nested(rows)))
    assert prepare(train_file=str(tmp_path / "nested.json")) == 3
