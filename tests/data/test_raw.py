"""The raw rows of a stage: from files, splits or memory, cut, capped and numbered; what cannot be is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from lit_ft.data.reading.raw import RawRows, RawSource, Scratch
from lit_ft.data.reading.sources import HubSource
from lit_ft.errors import UserError

ROWS = Dataset.from_dict({"text": [f"t{number}" for number in range(40)], "label": ["a", "a", "a", "b"] * 10})
NO_FILES = dict.fromkeys(["train", "validation", "test", "predict"])
NAMES = {**NO_FILES, "train": "train"}


def source(dataset=None, files=None, names=None, hub=None, **options) -> RawSource:
    return RawSource(dataset, hub, {**NO_FILES, **(files or {})}, {**NAMES, **(names or {})}, **options)


def labels(rows: RawRows) -> np.ndarray:
    return np.array([ord(label) for label in rows.data["label"]])


@pytest.fixture
def load(tmp_path: Path):
    """Loads one kind of a source's rows, reading files into a scratch folder."""

    def run(origin: RawSource, kind: str) -> dict[str, RawRows]:
        return origin.load(kind, labels, Scratch(tmp_path / "scratch" / os.urandom(4).hex()))

    return run


def write(path: Path, start: int = 0, count: int = 4) -> str:
    path.write_text("text,label\n" + "".join(f"t{number},a\n" for number in range(start, start + count)))
    return str(path)


def test_validation_is_cut_from_train_in_proportion(load) -> None:
    cut = source(ROWS, validation_split_percentage=20)
    (train,), (validation,) = load(cut, "train").values(), load(cut, "validation").values()
    assert sorted(train.data["text"][:] + validation.data["text"][:]) == sorted(ROWS["text"][:])
    assert sorted(validation.data["label"][:]) == ["a"] * 6 + ["b"] * 2


@pytest.mark.parametrize("options", [{"validation_split_percentage": 0}, {"names": {"validation": "train"}}])
def test_nothing_is_cut(load, options: dict) -> None:
    uncut = source(ROWS, **options)
    assert not uncut.cuts_validation()
    assert load(uncut, "train")[""].data["text"][:] == ROWS["text"][:]


@pytest.mark.parametrize("head", [True, False])
def test_rows_keep_their_numbers_through_cut_and_cap(load, head: bool) -> None:
    capped = source(ROWS, limits={"train": 5, "validation": 1}, validation_split_percentage=20, head=head)
    for kind, size in (("train", 5), ("validation", 1)):
        rows = load(capped, kind)[""]
        assert len(rows.data) == size
        assert [rows.where(row) for row in range(size)] == [
            f"dataset, split 'train': row {int(text[1:]) + 1}" for text in rows.data["text"]
        ]
        assert rows.uncut["text"][:] == ROWS["text"][:]


def test_files_come_before_splits_and_sets_have_names(load, tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.csv"), write(tmp_path / "two.csv", 4)
    both = source(
        DatasetDict({"train": ROWS, "dev": ROWS, "test": ROWS}),
        files={"train": [one, two], "test": {"first": one, "second": two}},
        names={"validation": {"a": "dev", "b": "test"}},
    )
    train = load(both, "train")[""]
    assert (train.data["text"][:], train.place) == ([f"t{n}" for n in range(8)], f"{one}, {two}")
    assert {name: rows.place for name, rows in load(both, "test").items()} == {"first": one, "second": two}
    assert {name: rows.place for name, rows in load(both, "validation").items()} == {
        "a": "dataset, split 'dev'",
        "b": "dataset, split 'test'",
    }


def test_splits_named_like_their_kind_need_no_option(load, tmp_path: Path) -> None:
    DatasetDict({"train": ROWS, "validation": ROWS.select([0])}).save_to_disk(str(tmp_path / "d"))
    saved = source(hub=HubSource(str(tmp_path / "d")))
    assert load(saved, "validation")[""].data.to_list() == [{"text": "t0", "label": "a"}]
    assert (saved.sets("test"), load(saved, "test")) == ({}, {})


def test_fingerprints_follow_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    prints = source(files={"train": path}).fingerprint("train", tmp_path)
    write(tmp_path / "a.csv")
    assert source(files={"train": path}).fingerprint("train", tmp_path) == prints
    write(tmp_path / "a.csv", start=1)
    changed = source(files={"train": path})
    assert changed.fingerprint("train", tmp_path) != prints
    assert changed.fingerprint("validation", tmp_path) == changed.fingerprint("train", tmp_path)  # it is cut from it
    assert source(files={"train": path}, validation_split_percentage=0).fingerprint("validation", tmp_path) is None
    assert source(ROWS).fingerprint("train", tmp_path) == source(Dataset.from_dict(ROWS[:])).fingerprint(
        "train", tmp_path
    )
    assert source(ROWS).fingerprint("train", tmp_path) != source(ROWS.select(range(9))).fingerprint("train", tmp_path)


def test_refusals(load, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset has no split 'train'; splits: \['tran'\] — did you mean 'tran'"):
        load(source({"tran": ROWS}), "train")
    with pytest.raises(UserError, match="dataset, split 'train': no rows"):
        load(source(ROWS.select([])), "train")
    with pytest.raises(UserError, match=r"no training rows: set train_file or dataset_name$"):
        load(source(), "train")
    write(tmp_path / "train.csv")
    with pytest.raises(UserError, match=r"tran\.csv: no such file — did you mean 'train\.csv'"):
        source(files={"train": f"{tmp_path}/tran.csv"}).fingerprint("train", tmp_path)
