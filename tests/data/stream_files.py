"""The same rows in every format that can be streamed, for the tests of streams."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset

from lit_ft.data.reading.sources import HubSource
from lit_ft.data.streaming.streams import FileStream, HubStream, MemoryStream, Stream, open_hub


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"text": f'row {number}, "quoted"\nsecond line é{"!" * (number % 7)}', "label": f"L{number % 3}"}
        for number in range(first, first + count)
    ]


def write_csv(path: Path, data: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(data[0]))
        writer.writeheader()
        writer.writerows(data)


def write_jsonl(path: Path, data: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")


def write_json(path: Path, data: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def write_parquet(path: Path, data: list[dict[str, Any]]) -> None:
    pa.parquet.write_table(pa.Table.from_pylist(data), path, row_group_size=16)


def write_text(path: Path, data: list[dict[str, Any]]) -> None:
    path.write_text("".join(row["text"].replace("\n", " ") + "\n" for row in data), encoding="utf-8")


def write_gzip(path: Path, data: list[dict[str, Any]]) -> None:
    plain = path.with_name(path.name.removesuffix(".gz"))
    (write_csv if plain.suffix == ".csv" else write_jsonl)(plain, data)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "json": write_json,
    "csv.gz": write_gzip,
    "jsonl.gz": write_gzip,
    "parquet": write_parquet,
    "txt": write_text,
}
FORMATS = [*WRITERS, "memory", "saved", "hub parquet", "hub csv", "hub jsonl", "hub from memory"]


def in_files(folder: Path, suffix: str, sizes: list[int]) -> list[Path]:
    paths, first = [], 0
    for number, size in enumerate(sizes):
        paths.append(folder / f"part-{number}.{suffix}")
        WRITERS[suffix](paths[-1], rows(size, first))
        first += size
    return paths


def stream_of(kind: str, folder: Path, sizes: list[int]) -> Stream:
    """A stream of `sum(sizes)` rows; those of files have one file for each size."""
    folder.mkdir(exist_ok=True)
    if kind.startswith("hub "):
        if kind == "hub from memory":
            shards = Dataset.from_list(rows(sum(sizes))).to_iterable_dataset(num_shards=len(sizes))
            return HubStream(shards, "iterable")
        in_files(folder, kind.split()[1], sizes)
        return open_hub(HubSource(str(folder)), "train")
    if kind == "saved":
        Dataset.from_list(rows(sum(sizes))).save_to_disk(folder / "saved")
        return open_hub(HubSource(str(folder / "saved")), "train")
    if kind == "memory":
        return MemoryStream(Dataset.from_list(rows(sum(sizes))), "dataset")
    return FileStream(in_files(folder, kind, sizes))
