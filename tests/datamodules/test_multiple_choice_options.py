"""What is prepared for multiple choice is never stale and never missed: every option in a table, as it behaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_ft import MultipleChoiceDataModule
from tests.datamodules import test_preparation_cache as shared
from tests.datamodules.test_language_modeling_options import EVERY_TASK
from tests.datamodules.test_preparation_cache import parameters

Prepare = Callable[..., int]
ROWS = [
    {"context": f"number {n}", "other": f"o {n}", "options": [f"first {n}", f"second {n}"], "label": n % 2}
    for n in range(40)
]
COLUMNS = {"context_column_name": "context", "choice_column_names": "options", "label_column_name": "label"}
CHANGES = {name: value for name, value in shared.CHANGES.items() if name in EVERY_TASK and name != "stride"} | {
    "context_column_name": "other", "question_column_name": "other", "label_kind": "index", "blank": "_",
    "question_texts": {"a": "b"},
}  # fmt: skip
"""Options that change, or may change, what is prepared."""
SAME = {name: value for name, value in shared.SAME.items() if name in EVERY_TASK}
ELSEWHERE = {name for name in shared.ELSEWHERE if name in EVERY_TASK} | {"stride"}
TESTED_BELOW = {"choice_column_names", "label_column_name", "first_label"}


@pytest.fixture
def prepare(tiny: Callable[..., str], tmp_path: Path) -> Prepare:
    """Prepares for fit; returns how many prepared folders there are then."""

    def run(rows: list[dict[str, Any]] = ROWS, **options: Any) -> int:
        path = shared.write(tmp_path / "train.jsonl", rows)
        given = {"model_name_or_path": tiny("bert"), "train_file": path, **COLUMNS, **options}
        MultipleChoiceDataModule(**given).prepare_data()
        return len(list((tmp_path / "prepared").glob("*/content.json")))

    return run


def test_every_option_is_in_one_of_the_tables() -> None:
    known = EVERY_TASK | parameters(MultipleChoiceDataModule)
    assert known == set(CHANGES) | set(SAME) | ELSEWHERE | TESTED_BELOW


@pytest.mark.parametrize("option", CHANGES)
def test_an_option_that_changes_the_result_prepares_anew(option: str, prepare: Prepare) -> None:
    assert prepare() == 1
    assert prepare(**{option: CHANGES[option]}) == 2


def test_other_options_do_not(prepare: Prepare) -> None:
    assert prepare() == 1
    for option, value in SAME.items():
        assert prepare(**{option: value}) == 1, option


def test_options_that_need_other_rows(prepare: Prepare) -> None:
    rows = [{**row, "more": row["options"], "right": 1, "label": 1} for row in ROWS]
    assert prepare(rows) == 1
    assert prepare(rows, choice_column_names="more") == 2
    assert prepare(rows, label_column_name="right") == 3
    assert prepare(rows, first_label=1) == 4
