"""Files of any mix of formats as one data set: kinds of columns against pandas and `csv`; what goes with what."""

import csv
import gzip
import io
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from lit_ft.data.reading.files import read_files
from lit_ft.data.reading.readers import ReadOptions
from lit_ft.errors import UserError

ROWS = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "rows"
    made.mkdir()
    return made


@pytest.fixture
def read(folder: Path):
    return lambda names, **options: read_files(names, ReadOptions(**options), folder).data.to_list()


def write(folder: Path, **files: str) -> list[str]:
    names = []
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        path.write_text(content)
        names.append(str(path))
    return names


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_sample_as_csv_module_and_json_read_it(read, sample: Path, name: str) -> None:
    text = (sample / f"{name}.csv").read_text(encoding="utf-8")
    assert read(str(sample / f"{name}.csv")) == list(csv.DictReader(io.StringIO(text, newline="")))


def test_sample_jsonl_as_json_reads_it(read, sample: Path) -> None:
    lines = (sample / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert read(str(sample / "train.jsonl")) == [json.loads(line) for line in lines]


def test_parts_are_named_as_the_user_does(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, a_csv="text,label\na,0\nb,1\n", b_jsonl='{"text": "c", "label": 5}\n', c_csv="text,label\nd,7\n")
    package = "package://lit_ft/sample_data/train.jsonl"
    rows = read_files(["a.csv", "*.jsonl", "c.csv"], ReadOptions(), folder)
    assert rows.parts == [("a.csv", 0), ("b.jsonl", 2), ("c.csv", 3)]
    assert rows.data["label"][:] == [0, 1, 5, 7]
    (folder / "more").mkdir()
    assert read_files(package, ReadOptions(), folder / "more").parts == [(package, 0)]


def test_rows_lie_on_disk_and_pickle_as_a_path(folder: Path, tmp_path: Path) -> None:
    (name,) = write(tmp_path, a_txt="".join(f"row number {number}\n" for number in range(20_000)))
    data = read_files(name, ReadOptions(), folder).data
    assert all(Path(file["filename"]).is_relative_to(folder) for file in data.cache_files)
    sent = pickle.dumps(data)
    assert len(sent) < 20_000
    assert pickle.loads(sent)["text"][19_999] == "row number 19999"


def test_list_of_mixed_formats(read, tmp_path: Path) -> None:
    names = write(tmp_path, a_csv="text,label\na,0\n", b_jsonl='{"label": 1, "text": "b"}')
    pd.DataFrame([{"text": "c", "label": 2}]).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "d.tsv.gz").write_bytes(gzip.compress(b"label\ttext\n3\td\n"))
    names += [f"{tmp_path}/c.parquet", f"{tmp_path}/d.tsv.gz"]
    assert read(names) == [*ROWS, {"text": "c", "label": 2}, {"text": "d", "label": 3}]


def test_glob_is_sorted_and_skips_folders(read, tmp_path: Path) -> None:
    write(tmp_path, b_csv="text,label\nb,1\n", a_csv="text,label\na,0\n")
    (tmp_path / "c.csv").mkdir()
    assert read(f"{tmp_path}/*.csv") == ROWS


@pytest.mark.parametrize(
    "value", ["NA", "null", "None", "nan", "007", "2020-01-01", "1_000", "true", "+5", " x ", "1e400"]
)
def test_csv_text_stays_as_it_stands(read, tmp_path: Path, value: str) -> None:
    rows = read(write(tmp_path, a_csv=f"text,other\n{value},a\n{value},b\n"))
    assert [row["text"] for row in rows] == [value, value]


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["1", "-2", "0"], [1, -2, 0]),
        (["1", "", "3"], [1, None, 3]),
        (["0.5", "-1.0", ""], [0.5, -1.0, None]),
        (["0.50", "1.10"], ["0.50", "1.10"]),  # a float would lose the last digit
        (["1", "0.5"], ["1", "0.5"]),
        (["1", "b"], ["1", "b"]),
        (["", "b"], ["", "b"]),
        (["", ""], [None, None]),
    ],
)
def test_csv_numbers(read, tmp_path: Path, cells: list[str], wanted: list) -> None:
    found = [row["label"] for row in read(write(tmp_path, a_csv="text,label\n" + "".join(f"t,{c}\n" for c in cells)))]
    assert (found, [type(value) for value in found]) == (wanted, [type(value) for value in wanted])


@pytest.mark.parametrize(("last", "kind"), [("7", int), ("", int), ("x", str), ("007", str), ("1.5", str)])
def test_one_cell_at_the_end_of_many_chunks_decides(read, tmp_path: Path, last: str, kind: type) -> None:
    cells = [str(number) for number in range(30_000)] + [last]
    rows = read(write(tmp_path, a_csv="text,label\n" + "".join(f"t,{cell}\n" for cell in cells)))
    assert [row["label"] for row in rows] == [kind(cell) if cell else None for cell in cells]


def test_csv_numbers_as_pandas_reads_them(read, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=200)
    pd.DataFrame({"score": numbers}).to_csv(tmp_path / "a.csv", index=False)
    assert [row["score"] for row in read(f"{tmp_path}/a.csv")] == numbers.tolist()


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ("1", "b", ["1", "b"]),
        ("", "2", [None, 2]),
        ("", "b", ["", "b"]),
        ("1", "0.5", [1.0, 0.5]),
        ("0.5", "b", ["0.5", "b"]),
    ],
)
def test_two_csv_that_look_like_different_kinds(read, tmp_path: Path, first: str, second: str, wanted: list) -> None:
    names = write(tmp_path, a_csv=f"text,label\nx,{first}\n", b_csv=f"text,label\ny,{second}\n")
    assert [row["label"] for row in read(names)] == wanted


@pytest.mark.parametrize(
    ("cells", "value", "wanted"),
    [
        (["1", "2"], "3", [1, 2, 3]),
        (["1", "2"], "0.5", [1.0, 2.0, 0.5]),
        (["1", "2"], '"b"', ["1", "2", "b"]),
        (["x", "2"], "3", ["x", "2", "3"]),
        (["x", "2"], "1.50", ["x", "2", "1.5"]),
        (["", ""], '"b"', [None, None, "b"]),
        (["", "x"], "null", ["", "x", None]),
    ],
)
def test_csv_beside_json(read, tmp_path: Path, cells: list[str], value: str, wanted: list) -> None:
    content = "text,label\n" + "".join(f"t,{cell}\n" for cell in cells)
    names = write(tmp_path, a_csv=content, b_jsonl=f'{{"text": "t", "label": {value}}}')
    for order in (names, names[::-1]):
        found = sorted((row["label"] for row in read(order)), key=repr)
        assert found == sorted(wanted, key=repr)


FAR = 2 * 8192  # rows: two chunks


@pytest.mark.parametrize(
    ("first", "last", "wanted"),
    [
        ({"a": 1}, {"a": 0.5}, (1.0, 0.5)),
        ({"a": 1}, {"a": "x"}, ("1", "x")),
        ({"a": 1.0}, {"a": "x"}, ("1.0", "x")),
        ({"a": True}, {"a": 1}, ("True", "1")),
        ({"a": 2**60 + 1}, {"a": 0.5}, (str(2**60 + 1), "0.5")),
        ({"a": None}, {"a": "x"}, (None, "x")),
        ({"a": []}, {"a": ["x"]}, ([], ["x"])),
        ({"a": {"b": 1}}, {"a": {"c": "x"}}, ({"b": 1, "c": None}, {"b": None, "c": "x"})),
    ],
)
def test_json_columns_of_late_surprise(read, tmp_path: Path, first: dict, last: dict, wanted: tuple) -> None:
    rows = read(write(tmp_path, a_jsonl="\n".join([json.dumps(first)] * FAR + [json.dumps(last)])))
    assert (rows[0]["a"], rows[FAR - 1]["a"], rows[FAR]["a"]) == (wanted[0], wanted[0], wanted[1])


def test_whole_numbers_and_decimals_in_one_chunk_keep_how_they_are_written(read, tmp_path: Path) -> None:
    rows = read(write(tmp_path, a_jsonl='{"a": 1}\n{"a": 2.5}\n' + '{"a": 3}\n' * FAR + '{"a": "x"}\n'))
    assert [row["a"] for row in (*rows[:3], rows[-1])] == ["1", "2.5", "3", "x"]


def test_a_key_that_comes_late_is_null_before(read, tmp_path: Path) -> None:
    rows = read(write(tmp_path, a_jsonl='{"a": 1}\n' * FAR + '{"b": 2}\n'))
    assert (rows[0], rows[-1]) == ({"a": 1, "b": None}, {"a": None, "b": 2})


def test_bad_file_lists(read, tmp_path: Path) -> None:
    names = write(tmp_path, a_csv="text,label\na,0\n", b_csv="text,lable\nb,1\n", c_jsonl='{"text": "c", "label": [1]}')
    with pytest.raises(
        UserError, match=r"b\.csv has columns \['text', 'lable'\], but .*a\.csv has \['text', 'label'\]"
    ):
        read(names[:2])


def test_columns_of_kinds_that_do_not_go_together(read, tmp_path: Path) -> None:
    names = write(tmp_path, a_csv="text,label\na,0\n", c_jsonl='{"text": "c", "label": [1]}')
    with pytest.raises(UserError, match=r"column 'label' mixes .*list<.*c\.jsonl, row 1\), int64 \(cells of csv"):
        read(names)


def test_mixed_kinds_far_apart_are_named_with_their_rows(read, tmp_path: Path) -> None:
    (name,) = write(tmp_path, a_jsonl='{"a": null}\n' + '{"a": [1]}\n' * (FAR - 1) + '{"a": "b"}\n')
    with pytest.raises(UserError, match=rf"column 'a' mixes .*a\.jsonl, row 2\), string \(.*a\.jsonl, row {FAR + 1}\)"):
        read(name)


def to_parquet(path: Path, names: list[str], label: list[int]) -> str:
    features = Features(
        {"text": Value("string"), "label": ClassLabel(names=names), "tags": List(ClassLabel(names=names))}
    )
    rows = {"text": ["t"] * len(label), "label": label, "tags": [[0]] * len(label)}
    Dataset.from_dict(rows, features=features).to_parquet(path)
    return str(path)


def test_label_names_survive(folder: Path, tmp_path: Path) -> None:
    shards = [to_parquet(tmp_path / f"{n}.parquet", ["no", "yes"], [n]) for n in (0, 1)]
    data = read_files(shards, ReadOptions(), folder).data
    assert data.features["label"].names == ["no", "yes"]
    assert data.features["tags"].feature.names == ["no", "yes"]
    assert pickle.loads(pickle.dumps(data)).features == data.features
    assert data["label"][:] == [0, 1]


def test_shards_that_number_labels_otherwise(read, tmp_path: Path) -> None:
    shards = [
        to_parquet(tmp_path / "a.parquet", ["no", "yes"], [0]),
        to_parquet(tmp_path / "b.parquet", ["yes", "no"], [0]),
    ]
    with pytest.raises(
        UserError, match=r"'label' .*\['yes', 'no'\].* in .*b\.parquet.*\['no', 'yes'\].* in .*a\.parquet"
    ):
        read(shards)
    (name,) = write(tmp_path, c_jsonl='{"text": "t", "label": 0, "tags": [0]}')
    for order in ([name, shards[0]], [shards[0], name]):
        with pytest.raises(UserError, match="no label names"):
            read(order)


FULL_DISK = """
import resource, sys
from pathlib import Path
from lit_ft.data.reading.files import read_files
from lit_ft.data.reading.readers import ReadOptions

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    read_files(sys.argv[1], ReadOptions(), Path(sys.argv[2]))
except ValueError as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_is_full(folder: Path, tmp_path: Path) -> None:
    (name,) = write(tmp_path, a_txt="a row of text\n" * 40_000)
    code = [sys.executable, "-c", FULL_DISK, name, str(folder)]
    said = subprocess.run(code, capture_output=True, text=True, check=True).stdout
    assert re.match(rf"UserError {folder}\S*: the rows cannot be written here \(.*large.*\); .*preparation_dir", said)


def test_categories_are_read_as_their_values(read, tmp_path: Path) -> None:
    pd.DataFrame({"label": pd.Categorical(["x", "y", "x"])}).to_parquet(tmp_path / "a.parquet")
    assert [row["label"] for row in read(f"{tmp_path}/a.parquet")] == ["x", "y", "x"]
