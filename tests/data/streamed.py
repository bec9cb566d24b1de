"""Streams of numbered rows, and what is taken from them, for the tests of streams."""

from itertools import islice
from typing import Any

from datasets import Dataset

from lit_ft.data.streaming.batches import StreamDataset
from lit_ft.data.streaming.loader import StreamLoader
from lit_ft.data.streaming.order import Source
from lit_ft.data.streaming.streams import MemoryStream, Stream

BATCH = 4


def one_each(batch: dict[str, list[Any]]) -> dict[str, Any]:
    """One feature for each row: the number in its text."""
    return {"number": [int(text.split(",")[0].split()[1]) for text in batch["text"]], "row": range(len(batch["text"]))}


def windows(batch: dict[str, list[Any]]) -> dict[str, Any]:
    """Features of 9 characters: rows have from 3 to 5 of them."""
    made = [
        (row, text[start : start + 9]) for row, text in enumerate(batch["text"]) for start in range(0, len(text), 9)
    ]
    return {"input_ids": [list(map(ord, text)) for _, text in made], "row": [row for row, _ in made]}


def numbers(count: int, first: int = 0) -> MemoryStream:
    return MemoryStream(Dataset.from_dict({"text": [f"row {n}" for n in range(first, first + count)]}), "dataset")


def collate(features: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [feature[name] for feature in features] for name in features[0]}


def stream(*sources: Stream | Source, **options: Any) -> StreamDataset:
    given = [source if isinstance(source, Source) else Source(source) for source in sources]
    return StreamDataset(given, **{"featurize": one_each, "batch_size": BATCH, "shuffle_buffer_size": 10, **options})


def used(loader: StreamLoader, batches: int) -> list[dict[str, Any]]:
    return [loader.take(batch) for batch in islice(loader, batches)]
