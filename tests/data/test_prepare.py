"""Raw rows to features on disk: once, in one process or several, what is dropped, and who is named when it fails."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from datasets import Dataset

from lit_ft.data.preparing.featurizing import BATCH, RowContent
from lit_ft.data.preparing.prepare import Work, prepare
from lit_ft.data.quality.kinds import KINDS, BadRows, check_actions
from lit_ft.data.reading.raw import RawRows
from lit_ft.errors import RowError, UserError

KEY = {"a": 1, "b": [2, None]}


class Task:
    """Two windows for texts of even length; the third letter and what follows is lost; `!` cannot be used."""

    bad_rows: ClassVar[dict[str, BadRows]] = {}
    kinds_of_bad_rows: ClassVar = {**KINDS, "cut": BadRows("are longer than four letters", "write less")}

    def input_columns(self, split: str) -> list[str]:
        return ["text"]

    def info_columns(self, present: list[str], split: str) -> list[str]:
        return ["id"] if split == "test" else []

    def row_content(self, rows: dict[str, list], split: str) -> RowContent:
        assert list(rows) == ["text"]
        return RowContent([rows["text"]], None)

    def tokenize(self, rows: dict[str, list], split: str) -> dict:
        row = [place for place, text in enumerate(rows["text"]) for _ in range(2 - len(text) % 2)]
        if "!" in rows["text"]:
            raise RowError(rows["text"].index("!"), "column 'text': '!' cannot be used")
        first = np.diff(row, prepend=-1) > 0
        lost = np.array([max(0, len(rows["text"][place]) - 2) for place in row]) * first
        return {"input_ids": [[len(rows["text"][place])] for place in row], "row": np.array(row), "tokens_cut": lost}

    def grouping(self, split: str) -> None:
        return None

    def summarise(self, train: list) -> dict:
        return {"features": sum(len(store) for store in train)}


def some(texts: list[str], place: str) -> RawRows:
    return RawRows(Dataset.from_dict({"text": texts, "id": list(range(len(texts)))}), place)


def work(on_bad_rows: dict[str, str] | None = None) -> Callable[[Path], Work]:
    texts = ["a", "bb", "ccc", "dddd"]
    sets = {
        "train": {"": some(texts, "t.csv")},
        "test": {"x": some(texts, "x.csv"), "y/z": some([*texts, "bb"], "y.csv")},
    }
    return lambda scratch: Work(sets, {"labels": ["é"]}, Task(), ["a note"], check_actions(on_bad_rows or {}), None)


def columns(store) -> dict[str, list]:
    features = [store[number] for number in range(len(store))]
    return {name: [feature[name].tolist() for feature in features] for name in features[0]}


@pytest.mark.parametrize("processes", [None, 2])
def test_features_and_rows_come_back(tmp_path: Path, processes: int | None) -> None:
    prepared = prepare(KEY, work(), tmp_path, processes, overwrite=False)
    assert {kind: list(sets) for kind, sets in prepared.sets.items()} == {"train": [""], "test": ["x", "y/z"]}
    made = prepared.sets["test"]["x"]
    assert columns(made.features) == {"input_ids": [[1], [2], [2], [3], [4], [4]], "row": [0, 1, 1, 2, 3, 3]}
    assert made.info.to_dict() == {"id": [0, 1, 2, 3]}
    assert prepared.sets["train"][""].info is None
    assert {**prepared.description, "prepared": None} == {"labels": ["é"], "features": 6, "prepared": None}
    assert prepared.notes[0] == "a note"
    assert "t.csv: 2 of 4 rows are longer than four letters and lose 3 tokens (write less)" in prepared.notes[1]
    assert not list(prepared.folder.rglob("raw"))


def test_several_processes_write_what_one_writes(tmp_path: Path) -> None:
    texts = ["x" * (number % 5 + 1) for number in range(2 * BATCH + 7)]

    def load(scratch: Path) -> Work:
        return Work({"train": {"": some(texts, "t.csv")}}, {}, Task(), [], check_actions({}), None)

    one, three = (prepare({"p": n}, load, tmp_path, n, False).sets["train"][""].features for n in (1, 3))
    assert len(three.paths) == 2  # not more processes than batches
    assert columns(one) == columns(three)
    assert columns(one)["row"] == [row for row, text in enumerate(texts) for _ in range(2 - len(text) % 2)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, processes: int) -> None:
    texts = ["x"] * (2 * BATCH)
    texts[BATCH + 5] = "!"
    load = lambda scratch: Work({"train": {"": some(texts, "t.csv")}}, {}, Task(), [])  # noqa: E731
    with pytest.raises(UserError, match=rf"^t\.csv: row {BATCH + 6}, column 'text': '!' cannot be used$"):
        prepare(KEY, load, tmp_path, processes, False)
    assert not list(tmp_path.glob("*/content.json"))


class Dying(Task):
    def tokenize(self, rows: dict[str, list], split: str) -> dict:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        return {}


def test_a_killed_process_is_said(tmp_path: Path) -> None:
    load = lambda scratch: Work({"train": {"": some(["x"] * 2 * BATCH, "t.csv")}}, {}, Dying(), [])  # noqa: E731
    with pytest.raises(UserError, match=r"a process that tokenizes was killed .*lower preprocessing_num_workers"):
        prepare(KEY, load, tmp_path, 2, False)


def test_dropped_rows_are_gone_and_reported(tmp_path: Path) -> None:
    prepared = prepare(KEY, work({"duplicate": "drop", "cut": "drop"}), tmp_path, None, overwrite=False)
    assert columns(prepared.sets["test"]["y/z"].features) == {"input_ids": [[1], [2], [2]], "row": [0, 1, 1]}
    assert columns(prepared.sets["train"][""].features)["row"] == [0, 1, 1]
    assert prepared.description["features"] == 3
    found = {
        one["name"]: {kind: each["dropped"] for kind, each in one["found"].items()} for one in prepared.report["sets"]
    }
    assert found["y/z"] == {"cut": 2, "duplicate": 1, "seen_in_train": 0}


def test_prepared_once_per_key(tmp_path: Path) -> None:
    calls = []

    def counted(scratch: Path) -> Work:
        calls.append(1)
        return work()(scratch)

    for key, overwrite in ((KEY, False), (KEY, False), ({**KEY, "a": 2}, False), (KEY, True)):
        prepare(key, counted, tmp_path, None, overwrite)
    assert len(calls) == 3
    keys = [json.loads(path.read_text())["a"] for path in tmp_path.glob("*/key.json")]
    assert sorted(keys) == [1, 2]


def test_a_test_set_is_compared_with_what_was_trained_on(tmp_path: Path) -> None:
    key = dict.fromkeys(("lit_ft", "class", "options", "tokenizer"))

    def fit_rows(scratch: Path) -> Work:
        sets = {"train": {"": some(["a", "bb"], "t.csv")}, "validation": {"": some(["ccc", "a"], "v.csv")}}
        return Work(sets, {}, Task(), [], check_actions({"seen_in_train": "drop"}), None)

    fitted = prepare({**key, "rows": "train"}, fit_rows, tmp_path, None, overwrite=False)

    def test_rows(scratch: Path) -> Work:
        sets = {"test": {"": some(["new", "bb", "BB.", "ccc", "Ccc", "a"], "x.csv")}}
        return Work(sets, {}, Task(), [], check_actions({"seen_in_train": "drop"}), None)

    known = {**key, "rows": "test", "known": {"prepared": fitted.folder.name}}
    tested = prepare(known, test_rows, tmp_path, None, overwrite=False)
    assert columns(tested.sets["test"][""].features)["row"] == [0, 3, 4]
    (one,) = tested.report["sets"]
    for split, counts in (("train", (3, 2)), ("validation", (2, 1))):
        found = one["found"][f"seen_in_{split}"]
        assert (found["count"], found["exact"]) == counts


def test_long_rows_are_encoded_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Counting(Task):
        def tokenize(self, rows: dict[str, list], split: str) -> dict:
            sizes.append(sum(map(len, rows["text"])))
            return super().tokenize(rows, split)

    monkeypatch.setattr("lit_ft.data.preparing.featurizing.MOST_TEXT", 100)
    texts = ["x" * (number % 60 + 1) for number in range(200)]
    load = lambda scratch: Work({"train": {"": some(texts, "t.csv")}}, {}, Counting(), [], check_actions({}))  # noqa: E731
    features = prepare(KEY, load, tmp_path, None, False).sets["train"][""].features
    assert max(sizes) <= 100 + 60
    assert columns(features)["row"] == [row for row, text in enumerate(texts) for _ in range(2 - len(text) % 2)]


@pytest.mark.parametrize("processes", [1, 2])
def test_what_stays_is_named_over_several_files_and_pieces(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_ft.data.features.store.CHUNK", 100)
    texts = ["x" * (number * number % 701 + 1) for number in range(2 * BATCH + 7)]
    load = lambda scratch: Work({"train": {"": some(texts, "t.csv")}}, {}, Task(), [], check_actions(drop))  # noqa: E731
    drop = {"duplicate": "drop"}
    prepared = prepare(KEY, load, tmp_path, processes, False)
    features = prepared.sets["train"][""].features
    first = [row for row, text in enumerate(texts) if text not in texts[:row]]
    assert len(features.paths) == processes
    assert columns(features)["row"] == [row for row in first for _ in range(2 - len(texts[row]) % 2)]
    saved = np.load(prepared.folder / "train_exact.npy")
    assert len(saved) == len(first)
    assert (np.diff(saved.astype(object)) > 0).all()
    assert not list(prepared.folder.rglob("marks"))
