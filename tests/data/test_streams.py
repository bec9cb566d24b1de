"""Streams of files, of the hub and of memory: read on from every position, rows named, held out."""

import json
import pickle
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from lit_ft.data.reading.sources import HubSource
from lit_ft.data.streaming import streams
from lit_ft.data.streaming.order import held_out
from lit_ft.data.streaming.streams import PART, FileStream, HubStream, MemoryStream, Stream, collect, joined, open_hub
from lit_ft.errors import UserError
from tests.data.stream_files import FORMATS, in_files, rows, stream_of

SIZES = [40, 17]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHUNK", 7)


def read(stream: Stream, part: int = 0, position: object = None) -> list[dict]:
    return [row for _, table in stream.chunks(part, position) for row in table.to_pylist()]


@pytest.mark.parametrize("kind", FORMATS)
def test_all_rows_come_and_reading_goes_on_at_every_position(kind: str, tmp_path: Path) -> None:
    stream = stream_of(kind, tmp_path, SIZES)
    expected = rows(sum(SIZES))
    if kind == "txt":
        expected = [{"text": row["text"].replace("\n", " ")} for row in expected]
    assert [row for part in range(stream.parts) for row in read(stream, part)] == expected
    for part in range(stream.parts):
        whole, done = read(stream, part), 0
        chunks = list(stream.chunks(part))
        assert len(chunks) > 1
        for position, table in chunks:
            done += table.num_rows
            kept = json.loads(json.dumps(position))
            assert kept == position, "a position is plain JSON"
            assert read(pickle.loads(pickle.dumps(stream)), part, kept) == whole[done:]


@pytest.mark.parametrize("kind", ["csv", "memory", "hub parquet"])
def test_a_row_number_names_its_file_and_row(kind: str, tmp_path: Path) -> None:
    stream = stream_of(kind, tmp_path, SIZES)
    last = (stream.parts - 1 << PART) + 16
    expected = {
        "csv": f"{tmp_path}/part-1.csv: row 17",
        "memory": "dataset: row 17",
        "hub parquet": f"dataset '{tmp_path}', split 'train', file 2 of 2: row 17",
    }
    assert stream.where(last) == expected[kind]


def test_columns_are_called_as_wanted(tmp_path: Path) -> None:
    (path,) = in_files(tmp_path, "csv", [10])
    stream = FileStream([path], columns={"text": "sentence"})
    assert stream.schema.names == ["sentence", "label"]
    assert [row["sentence"] for row in read(stream)] == [row["text"] for row in rows(10)]
    with pytest.raises(UserError, match=r"part-0.csv: no column 'txt' to call 'sentence'.*did you mean 'text'"):
        _ = FileStream([path], columns={"txt": "sentence"}).schema
    with pytest.raises(UserError, match="two columns \\['label'\\]"):
        _ = FileStream([path], columns={"text": "label"}).schema


def test_later_chunks_have_the_columns_of_the_first_and_its_texts(tmp_path: Path) -> None:
    first = [{"text": "a", "note": None, "label": number} for number in range(7)]
    later = [{"text": 5}, {"text": 1.5}, {"text": True}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in first + later))
    assert read(FileStream([tmp_path / "a.jsonl"]))[7:] == [
        {"text": text, "note": None, "label": None} for text in ("5", "1.5", "True")
    ]


def test_text_that_datasets_takes_for_numbers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # it reads csv 10,000 rows at a time and guesses anew each time: 007 would be 7
    monkeypatch.setattr(streams, "CHUNK", 5000)
    (tmp_path / "a.csv").write_text("text,label\n" + "a,1\n" * 10_000 + "007,1.5\n")
    stream = open_hub(HubSource(str(tmp_path)), "train")
    with pytest.raises(UserError, match="split 'train': column 'text' is text in the first rows, but int64 further on"):
        list(stream.chunks(0))
    (tmp_path / "a.csv").write_text("text,label\n" + "a,1\n" * 10_000 + "b,1.5\n")
    assert read(stream)[-2:] == [{"text": "a", "label": 1}, {"text": "b", "label": 1.5}]
    assert FileStream([tmp_path / "a.csv"]).schema.field("label").type == "string"


def test_numbers_become_text_beside_text_only() -> None:
    tables = [pa.table({"a": [1], "b": [1]}), pa.table({"a": ["x"], "b": [1.5]}), pa.table({"a": [2.5]})]
    assert joined(tables).to_pydict() == {"a": ["1", "x", "2.5"], "b": [1, 1.5, None]}
    large = pa.table({"a": pa.array(["y"], pa.large_string())})
    assert joined([large, tables[1]]).column("a").to_pylist() == ["y", "x"]


def test_wrong_names_and_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.csv: no such file"):
        FileStream([tmp_path / "gone.csv"])
    in_files(tmp_path, "parquet", SIZES)
    with pytest.raises(UserError, match="has no split 'trein'; splits: \\['train'\\] — did you mean 'train'"):
        open_hub(HubSource(str(tmp_path)), "trein")
    with pytest.raises(UserError, match="dataset: no rows"):
        _ = MemoryStream(Dataset.from_dict({"text": []}), "dataset").schema
    (tmp_path / "part-1.parquet").write_bytes((tmp_path / "part-1.parquet").read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{tmp_path}"):
        read(open_hub(HubSource(str(tmp_path)), "train"), 1)


def test_a_fingerprint_tells_other_rows_but_not_another_folder(tmp_path: Path) -> None:
    prints = []
    for folder, sizes in (("a", [10, 10]), ("b", [10, 10]), ("c", [10, 11]), ("d", [20])):
        prints.append(stream_of("csv", tmp_path / folder, sizes).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize("kind", ["csv", "hub parquet", "memory"])
def test_what_is_held_out_is_collected_and_can_be_named(kind: str, tmp_path: Path) -> None:
    stream = stream_of(kind, tmp_path, [400, 300])
    wanted = partial(held_out, percentage=10, seed=1)
    table = collect(stream, wanted)
    numbers = [(part << PART) + row for part in range(stream.parts) for row in range(len(read(stream, part)))]
    assert table.column("row_number").to_pylist() == [
        number for number, out in zip(numbers, wanted(np.array(numbers)), strict=True) if out
    ]
    everything = dict(zip(numbers, rows(700), strict=True))
    for row in table.to_pylist():
        assert everything[row.pop("row_number")] == row
    assert collect(stream, wanted, 5).to_pylist() == table.to_pylist()[:5]
    with pytest.raises(UserError, match="none of the rows"):
        collect(stream, lambda numbers: numbers < 0)


def test_the_cut_has_its_share_and_depends_on_seed_and_row_alone() -> None:
    numbers = np.concatenate([np.arange(100_000), (3 << PART) + np.arange(100_000)])
    cut = held_out(numbers, 5, 42)
    assert cut.mean() == pytest.approx(0.05, abs=0.003)
    assert cut[:100_000].mean() == pytest.approx(0.05, abs=0.004)
    # rows in a row are no more alike than others, nor are the same rows of two files
    assert (cut[1:] & cut[:-1]).mean() == pytest.approx(0.0025, abs=0.0005)
    assert (cut[:100_000] & cut[100_000:]).mean() == pytest.approx(0.0025, abs=0.0007)
    np.testing.assert_array_equal(held_out(numbers[::-1], 5, 42), cut[::-1])
    assert [held_out(numbers[:1], 5, 42)[0], held_out(numbers[7:8], 5, 42)[0]] == [cut[0], cut[7]]
    assert (held_out(numbers, 5, 43) & cut).mean() == pytest.approx(0.0025, abs=0.0005)
    assert not held_out(numbers, 0, 42).any()
    assert held_out(numbers, 100, 42).all()
    assert (held_out(numbers, 10, 42) >= cut).all()  # a larger share takes the smaller one's rows too


def test_sizes_of_parts_are_known_where_they_cost_nothing(tmp_path: Path) -> None:
    files = stream_of("csv", tmp_path, SIZES)
    assert files.sizes == [path.stat().st_size for path in files.paths]
    assert stream_of("memory", tmp_path, SIZES).sizes == [57]
    hub = stream_of("hub parquet", tmp_path / "hub", SIZES)
    assert (hub.sizes, hub.parts, list(accumulate(SIZES))) == (None, 2, [40, 57])
    assert isinstance(hub, HubStream)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_with_other_columns_is_refused(kind: str, tmp_path: Path) -> None:
    first, other = in_files(tmp_path, kind, [3, 3])
    if kind == "csv":
        other.write_text(other.read_text().replace("text", "texxt", 1))
    else:
        table = pq.read_table(other)
        pq.write_table(table.rename_columns([name.replace("text", "texxt") for name in table.column_names]), other)
    stream = FileStream([first, other])
    assert len(read(stream, 0)) == 3
    with pytest.raises(UserError, match=f"{other.name} has columns .*'texxt'.*, but .*{first.name} has .*'text'"):
        read(stream, 1)
