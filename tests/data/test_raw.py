from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from lit_ft.data.raw import RawSource
from lit_ft.data.sources import HubSource
from lit_ft.errors import UserError

ROWS = Dataset.from_dict({"text": [f"t{number}" for number in range(40)], "label": ["a", "a", "a", "b"] * 10})
NO_FILES = dict.fromkeys(["train", "validation", "test", "predict"])
NAMES = {**NO_FILES, "train": "train"}


def source(dataset=None, files=None, names=None, hub=None, **options) -> RawSource:
    return RawSource(dataset, hub, {**NO_FILES, **(files or {})}, {**NAMES, **(names or {})}, **options)


def labels(rows: Dataset, place: str) -> list:
    return rows["label"][:]


def write(path: Path, start: int = 0, count: int = 4) -> str:
    path.write_text("text,label\n" + "".join(f"t{number},a\n" for number in range(start, start + count)))
    return str(path)


def test_validation_is_cut_from_train_in_proportion() -> None:
    cut = source(ROWS, validation_split_percentage=20)
    (train,), (validation,) = cut.load("train", labels).values(), cut.load("validation", labels).values()
    assert sorted(train.data["text"][:] + validation.data["text"][:]) == sorted(ROWS["text"][:])
    assert sorted(validation.data["label"][:]) == ["a"] * 6 + ["b"] * 2


@pytest.mark.parametrize("options", [{"validation_split_percentage": 0}, {"names": {"validation": "train"}}])
def test_nothing_is_cut(options: dict) -> None:
    uncut = source(ROWS, **options)
    assert not uncut.cuts_validation()
    assert uncut.load("train", labels)[""].data["text"][:] == ROWS["text"][:]


@pytest.mark.parametrize("head", [True, False])
def test_rows_keep_their_numbers_through_cut_and_cap(head: bool) -> None:
    capped = source(ROWS, limits={"train": 5, "validation": 1}, validation_split_percentage=20, head=head)
    for kind, size in (("train", 5), ("validation", 1)):
        rows = capped.load(kind, labels)[""]
        assert len(rows.data) == size
        assert [f"t{rows.number(row) - 1}" for row in range(size)] == rows.data["text"][:]
        assert rows.uncut["text"][:] == ROWS["text"][:]


def test_files_come_before_splits_and_sets_have_names(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.csv"), write(tmp_path / "two.csv", 4)
    both = source(
        DatasetDict({"train": ROWS, "dev": ROWS, "test": ROWS}),
        files={"train": [one, two], "test": {"first": one, "second": two}},
        names={"validation": {"a": "dev", "b": "test"}},
    )
    train = both.load("train", labels)[""]
    assert (train.data["text"][:], train.place) == ([f"t{n}" for n in range(8)], f"{one}, {two}")
    assert {name: rows.place for name, rows in both.load("test", labels).items()} == {"first": one, "second": two}
    assert {name: rows.place for name, rows in both.load("validation", labels).items()} == {
        "a": "dataset, split 'dev'",
        "b": "dataset, split 'test'",
    }


def test_splits_named_like_their_kind_need_no_option(tmp_path: Path) -> None:
    DatasetDict({"train": ROWS, "validation": ROWS.select([0])}).save_to_disk(str(tmp_path / "d"))
    saved = source(hub=HubSource(str(tmp_path / "d")))
    assert saved.load("validation", labels)[""].data.to_list() == [{"text": "t0", "label": "a"}]
    assert (saved.sets("test"), saved.load("test", labels)) == ({}, {})


def test_fingerprints_follow_the_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    prints = source(files={"train": path}).fingerprint("train")
    write(tmp_path / "a.csv")
    assert source(files={"train": path}).fingerprint("train") == prints
    write(tmp_path / "a.csv", start=1)
    changed = source(files={"train": path})
    assert changed.fingerprint("train") != prints
    assert changed.fingerprint("validation") == changed.fingerprint("train")  # it is cut from it
    assert source(files={"train": path}, validation_split_percentage=0).fingerprint("validation") is None
    assert source(ROWS).fingerprint("train") == source(Dataset.from_dict(ROWS[:])).fingerprint("train")
    assert source(ROWS).fingerprint("train") != source(ROWS.select(range(9))).fingerprint("train")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset has no split 'train'; splits: \['tran'\] — did you mean 'tran'"):
        source({"tran": ROWS}).load("train", labels)
    with pytest.raises(UserError, match="dataset, split 'train': no rows"):
        source(ROWS.select([])).load("train", labels)
    with pytest.raises(UserError, match=r"no training rows: set train_file or dataset_name$"):
        source().load("train", labels)
    write(tmp_path / "train.csv")
    with pytest.raises(UserError, match=r"tran\.csv: no such file — did you mean 'train\.csv'"):
        source(files={"train": f"{tmp_path}/tran.csv"}).fingerprint("train")
