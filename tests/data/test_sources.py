"""Where rows come from: names of files, patterns and packages, objects in memory, folders; what is none of these."""

import json
import subprocess
import sys
from pathlib import Path

import datasets
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from lit_ft.data.reading.sources import HubSource, expand_files, in_memory, named_files, pick_split, resolve_path
from lit_ft.errors import UserError

ROWS = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]


def write(folder: Path, **files: str) -> list[str]:
    names = []
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        path.write_text(content)
        names.append(str(path))
    return names


def test_package_paths(sample: Path) -> None:
    assert Path(resolve_path("package://lit_ft/sample_data/train.csv")) == sample.resolve() / "train.csv"
    assert resolve_path("some/train.csv") == "some/train.csv"
    with pytest.raises(UserError, match=r"'no_such_package' is not installed \(pip install no_such_package\)"):
        resolve_path("package://no_such_package/a")
    with pytest.raises(UserError, match=r"leads out of the package 'lit_ft'"):
        resolve_path("package://lit_ft/../README.md")


def test_a_pattern_does_not_leave_its_folder_by_links(tmp_path: Path) -> None:
    inside, snapshot, blobs = tmp_path / "data", tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    for folder in (inside, snapshot, blobs):
        folder.mkdir(parents=True)
    write(inside, a_csv="text\na\n")
    (inside / "same.csv").symlink_to(inside / "a.csv")
    assert len(expand_files(f"{inside}/*.csv")) == 2
    (outside,) = write(tmp_path, secret_csv="text\nb\n")
    (inside / "z.csv").symlink_to(outside)
    with pytest.raises(UserError, match=rf"z.csv is a link that leads out of {inside}, to {outside}; list that file"):
        expand_files(f"{inside}/*.csv")
    assert len(expand_files([f"{inside}/z.csv"])) == 1, "whoever names a link means it"
    (deep := inside / "deep").mkdir()
    (inside / "z.csv").unlink()
    (deep / "link").symlink_to(tmp_path / "hub")
    write(blobs, b_csv="text\nb\n")
    with pytest.raises(UserError, match="leads out of"):
        expand_files(f"{inside}/deep/*/*/*.csv")
    (snapshot / "rows.csv").symlink_to(blobs / "b.csv")
    assert len(expand_files(f"{snapshot}/*.csv")) == 1, "the hub's own cache is made of such links"


def test_glob_is_sorted_and_skips_folders(tmp_path: Path) -> None:
    write(tmp_path, b_csv="text,label\nb,1\n", a_csv="text,label\na,0\n")
    (tmp_path / "c.csv").mkdir()
    assert [path.name for path in expand_files(f"{tmp_path}/*.csv")] == ["a.csv", "b.csv"]


def test_a_name_with_brackets_that_exists_is_no_glob(tmp_path: Path) -> None:
    (tmp_path / "part[1].txt").write_text("a\n")
    assert expand_files(f"{tmp_path}/part[1].txt") == [tmp_path / "part[1].txt"]


def test_files_keep_the_names_that_the_user_gave(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, b_csv="text\nb\n", a_csv="text\na\n")
    package = "package://lit_ft/sample_data/train.csv"
    files = named_files(["~/b.csv", package, f"{tmp_path}/*.csv"])
    assert [name for name, _ in files] == ["~/b.csv", package, f"{tmp_path}/a.csv", f"{tmp_path}/b.csv"]
    assert [path for _, path in files[:2]] == [tmp_path / "b.csv", sample.resolve() / "train.csv"]


def test_bad_file_lists(tmp_path: Path) -> None:
    write(tmp_path, a_csv="text,label\na,0\n")
    with pytest.raises(UserError, match=r"\*\.tsv: the pattern matches no file$"):
        expand_files(f"{tmp_path}/*.tsv")
    with pytest.raises(UserError, match=r"the pattern matches no file \(there is no folder .*/none\)"):
        expand_files(f"{tmp_path}/none/*/*.tsv")
    with pytest.raises(UserError, match="the list of files is empty"):
        expand_files([])
    with pytest.raises(UserError, match=r"is a folder, not a file; name its files: '.*/\*\.csv' \(1 of them\)"):
        expand_files(str(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.md").write_text("")
    with pytest.raises(UserError, match=r"other: is a folder, not a file; it holds no data files \(notes\.md\)"):
        expand_files(str(tmp_path / "other"))


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        Dataset.from_list(ROWS),
        pd.DataFrame(ROWS),
        DatasetDict({"train": Dataset.from_list(ROWS)}),
        {"train": ROWS},
    ],
    ids=["list", "Dataset", "DataFrame", "DatasetDict", "dict"],
)
def test_in_memory(data: object) -> None:
    assert {name: part.to_list() for name, part in in_memory(data).items()} == {"train": ROWS}


def test_in_memory_by_split_of_several_kinds() -> None:
    parts = in_memory({"train": pd.DataFrame(ROWS, index=[7, 8]), "test": ROWS[:1]})
    assert [part.column_names for part in parts.values()] == [["text", "label"]] * 2
    assert len(parts["test"]) == 1


def test_in_memory_categories_are_read_as_their_values() -> None:
    assert in_memory(pd.DataFrame({"label": pd.Categorical(["x", "y", "x"])}))["train"]["label"][:] == ["x", "y", "x"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "dataset: expected a Dataset, DatasetDict, list of dicts or DataFrame, found int"),
        ([], "dataset: the list has no rows"),
        (["a"], "dataset: row 1: expected an object"),
        ({"train": DatasetDict()}, r"dataset\['train'\]: expected the rows of one split"),
        (pd.DataFrame({"a": [1, "b"]}, dtype=object), "dataset: the DataFrame cannot be read"),
    ],
)
def test_in_memory_refuses(data: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        in_memory(data)


def test_fingerprint_is_that_of_the_content_in_every_process() -> None:
    code = (
        f"from lit_ft.data.reading.sources import in_memory; print(in_memory({json.dumps(ROWS)})['train']._fingerprint)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert in_memory(ROWS)["train"]._fingerprint == other
    assert in_memory(ROWS[::-1])["train"]._fingerprint != other


def test_pick_split_names_the_closest_and_drops_a_format() -> None:
    data = Dataset.from_list(ROWS).with_format("torch", columns=["label"])
    assert pick_split({"train": data}, "train", "x")[:] == {"text": ["a", "b"], "label": [0, 1]}
    with pytest.raises(UserError, match=r"x has no split 'tain'; splits: \['train'\] — did you mean 'train'\?"):
        pick_split({"train": data}, "tain", "x")


@pytest.mark.parametrize("whole", [True, False])
def test_saved_data_set(tmp_path: Path, whole: bool) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    data = Dataset.from_list(ROWS, features=features)
    (DatasetDict({"train": data}) if whole else data).save_to_disk(str(tmp_path / "saved"))
    source = HubSource(str(tmp_path / "saved"))
    assert source.splits() == {"train"}
    loaded = source.load("train")
    assert (loaded.to_list(), loaded.features["label"].names) == (ROWS, ["no", "yes"])
    with pytest.raises(UserError, match=r"has no split 'trian'.*did you mean 'train'"):
        source.load("trian")


def test_folder_of_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "d").mkdir()
    write(tmp_path / "d", train_csv="text,label\na,0\nb,1\n", test_csv="text,label\nc,1\n")
    source = HubSource(str(tmp_path / "d"))
    assert (source.splits(), source.load("train").to_list()) == ({"train", "test"}, ROWS)
    write(tmp_path / "d", test_csv="text,label\nc,1,2,3\n")
    with pytest.raises(UserError, match=f"dataset_name '{tmp_path}/d': .*"):
        source.load("test")


@pytest.mark.parametrize("way", ["load", "stream"])
def test_unknown_data_set(way: str) -> None:
    with pytest.raises(UserError, match="dataset_name 'no/such-data-set'"):
        getattr(HubSource("no/such-data-set"), way)("train")


@pytest.mark.parametrize("way", ["load", "stream"])
def test_a_loading_script_is_refused(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "reviews"
    folder.mkdir()
    (folder / "reviews.py").write_text("raise SystemExit('this was run')\n")
    for name in (str(folder), str(folder / "reviews.py")):
        with pytest.raises(UserError, match=r"reviews\.py.* is a loading script: .*never run.*save_to_disk"):
            getattr(HubSource(name), way)("train")


@pytest.mark.parametrize("way", ["load", "stream"])
def test_a_file_in_place_of_a_data_set(way: str, tmp_path: Path) -> None:
    (name,) = write(tmp_path, a_csv="text\na\n")
    with pytest.raises(UserError, match=r"a\.csv' is a file; name it in train_file"):
        getattr(HubSource(name), way)("train")


def test_a_folder_without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match=f"dataset_name '{tmp_path}/d': the folder holds no data files"):
        HubSource(str(tmp_path / "d")).stream("train")
    (tmp_path / "d" / "notes.md").write_text("no data")
    with pytest.raises(
        UserError, match=f"dataset_name '{tmp_path}/d': the folder holds no data files \\(notes\\.md\\)"
    ):
        HubSource(str(tmp_path / "d")).splits()
