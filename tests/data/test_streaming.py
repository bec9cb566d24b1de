"""Rows as a stream: each once in an epoch, dealt out, mixed, less those held out; how it is read: test_streams.py."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lit_ft.data.streaming.batches import StreamBatch, StreamDataset
from lit_ft.data.streaming.loader import StreamLoader
from lit_ft.data.streaming.order import Source, held_out
from lit_ft.data.streaming.streams import FileStream, MemoryStream, collect
from lit_ft.errors import RowError, UserError
from tests.data.stream_files import in_files
from tests.data.streamed import BATCH, collate, numbers, one_each, stream, used

pytestmark = pytest.mark.usefixtures("small_chunks")


def epochs_of(dataset: Callable[[int], StreamDataset], ranks: int, workers: int, size: int) -> dict[int, list[int]]:
    """Row numbers of the first two epochs, of all processes; the loaders' turns laid end to end."""
    seen: dict[int, list[int]] = {0: [], 1: []}
    for rank in range(ranks):
        loader = StreamLoader(dataset(rank), collate, workers)
        for batch in used(loader, -(-2 * size // (ranks * BATCH)) + 3 * max(1, workers)):
            for (epoch, _), number in zip(batch["key"], batch["number"], strict=True):
                seen.setdefault(epoch, []).append(number)
    return seen


@pytest.mark.parametrize("buffer", [0, 10])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_row_once_in_each_epoch(ranks: int, workers: int, buffer: int) -> None:
    def dataset(rank: int, seed: int = 1) -> StreamDataset:
        return stream(numbers(53), num_replicas=ranks, rank=rank, shuffle_buffer_size=buffer, seed=seed)

    seen = epochs_of(dataset, ranks, workers, 53)
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(53))
    if buffer and not workers:
        assert seen[0] != seen[1]
        assert seen[0] != epochs_of(partial(dataset, seed=2), ranks, workers, 53)[0]
        assert seen[0] == epochs_of(dataset, ranks, workers, 53)[0]
    elif not buffer and ranks * max(1, workers) == 1:
        assert seen[0] == seen[1] == list(range(53))


@pytest.mark.parametrize(("sizes", "whole"), [([30] * 4, True), ([90, 10, 10, 10], False), ([30] * 3, False)])
def test_files_are_dealt_out_whole_where_that_is_even(sizes: list[int], whole: bool, tmp_path: Path) -> None:
    files = Counting(in_files(tmp_path, "jsonl", sizes))
    parts = [stream(files, num_replicas=4, rank=rank) for rank in range(4)]
    shares = []
    for part in parts:
        files.read_rows.clear()
        shares.append([key[0] for batch in islice(part, 20) for key in keys(batch)].count(0))
        assert len({number for number, _ in files.read_rows}) == (3 if whole else len(sizes))  # 80 rows: 2.7 epochs
    assert sum(shares) == sum(sizes)
    assert max(shares) - min(shares) <= len(sizes)


def keys(batch: StreamBatch) -> list[tuple[int, int]]:
    return [feature["key"] for feature in batch.features]


class Counting(FileStream):
    """Files that count what is read of them: (part, rows) of each chunk."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__(paths)
        self.read_rows: list[tuple[int, int]] = []

    def read(self, part: int, position: Any, texts: Any) -> Iterator[tuple[Any, pa.Table]]:
        for after, table in super().read(part, position, texts):
            self.read_rows.append((part, table.num_rows))
            yield after, table


def test_one_row_in_alternation_does_not_end_in_one_worker() -> None:
    odd = [
        np.mean([feature["number"] % 2 for batch in islice(part, 25) for feature in batch.features])
        for part in (stream(numbers(400), num_replicas=2, rank=rank) for rank in range(2))
    ]
    assert 0.3 < odd[0] < 0.7
    assert 0.3 < odd[1] < 0.7


def test_fewer_rows_than_workers_still_all_come() -> None:
    for rank in range(5):
        batches = islice(stream(numbers(3), num_replicas=5, rank=rank), 10)
        assert {feature["number"] for batch in batches for feature in batch.features} == {0, 1, 2}


def test_the_buffer_mixes_rows_of_its_reach_and_not_beyond() -> None:
    part = stream(numbers(1000), shuffle_buffer_size=100)
    order = [feature["number"] for batch in islice(part, 500) for feature in batch.features]
    moved = np.abs(np.array(order[:1000]) - np.arange(1000))
    assert sorted(order[:1000]) == sorted(order[1000:]) == list(range(1000))
    assert moved.max() < 100
    assert moved.mean() == pytest.approx(100 / 3, rel=0.15)  # two places of a block at random are a third of it apart
    first, second = (
        {edge for edge in range(1000) if max(own[: edge + 1]) == edge} for own in (order[:1000], order[1000:])
    )
    assert len(first) >= 10
    assert len(second) >= 10
    assert len(first & second) < 5, "blocks have other edges in the next epoch: rows meet others than before"


def test_files_come_in_another_order_in_each_epoch(tmp_path: Path) -> None:
    part = stream(FileStream(in_files(tmp_path, "csv", [8] * 6)), batch_size=8, shuffle_buffer_size=2)
    files = [[int(feature["number"]) // 8 for feature in batch.features] for batch in islice(part, 12)]
    first, second = list(chain(*files[:6])), list(chain(*files[6:]))
    assert Counter(first) == Counter(second) == dict.fromkeys(range(6), 8)
    assert list(dict.fromkeys(first)) != list(dict.fromkeys(second))


def test_memory_holds_a_block_not_the_stream() -> None:
    alive: list[int] = []

    class Watched(MemoryStream):
        def read(self, part: int, position: Any, texts: Any) -> Iterator[tuple[Any, pa.Table]]:
            for after, table in super().read(part, position, texts):
                alive.append(pa.total_allocated_bytes())
                yield after, pa.table({"text": [text * 1000 for text in table.column("text").to_pylist()]})

    plain = numbers(3000)
    before = pa.total_allocated_bytes()
    for _ in islice(stream(Watched(plain.dataset, "rows"), featurize=windows_of_none, shuffle_buffer_size=50), 700):
        pass
    # a row takes 8 kB; a block of 50 rows once as chunks, once joined, and the block before
    assert max(alive) - before < 3 * 50 * 9000
    assert len(alive) > 400


def windows_of_none(batch: dict[str, list[Any]]) -> dict[str, Any]:
    return {"number": [0] * len(batch["text"]), "row": range(len(batch["text"]))}


@pytest.mark.parametrize("workers", [0, 2])
def test_training_gets_all_that_is_not_held_out(workers: int, tmp_path: Path) -> None:
    files = FileStream(in_files(tmp_path, "jsonl", [80, 70]))
    out = collect(files, partial(held_out, percentage=20, seed=3)).column("text").to_pylist()
    held = {int(text.split(",")[0].split()[1]) for text in out}
    assert 10 < len(held) < 50
    seen = epochs_of(lambda rank: stream(Source(files, 20, 3), num_replicas=2, rank=rank), 2, workers, 150)
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(set(range(150)) - held)
    other_order = epochs_of(lambda rank: stream(Source(files, 20, 3), num_replicas=2, rank=rank, seed=9), 2, 0, 150)
    assert sorted(other_order[0]) == sorted(seen[0])


def test_keys_are_different_for_every_feature_and_the_same_in_every_run() -> None:
    part = stream(numbers(30), numbers(30, 1000), featurize=two_each, probabilities=[0.5, 0.5])
    seen = [key for batch in islice(part, 100) for key in keys(batch)]
    assert len(set(seen)) == 400
    assert max(index for _, index in seen) < 2**63
    assert seen == [key for batch in islice(part, 100) for key in keys(batch)]


def two_each(batch: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: np.repeat(values, 2) for name, values in one_each(batch).items()}


def refuses_17(batch: dict[str, list[Any]], error: type[Exception] = RowError) -> dict[str, Any]:
    for row, text in enumerate(batch["text"]):
        if text.startswith("row 17,"):
            raise RowError(row, "column 'label': bad") if error is RowError else error("bad")
    return one_each(batch)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_file_and_row(workers: int, tmp_path: Path) -> None:
    files = FileStream(in_files(tmp_path, "csv", [15, 15]))
    with pytest.raises(UserError, match=r"part-1.csv: row 3, column 'label': bad"):
        used(StreamLoader(stream(files, featurize=refuses_17), collate, workers), 10)
    with pytest.raises(KeyError) as caught:
        list(islice(stream(files, featurize=partial(refuses_17, error=KeyError)), 10))
    assert caught.value.__notes__ == [f"{tmp_path}/part-1.csv: row 3"]


def nothing(batch: dict[str, list[Any]]) -> dict[str, Any]:
    return {"number": [], "row": []}


def test_a_stream_that_gives_nothing_is_an_error_not_a_hang() -> None:
    with pytest.raises(UserError, match="dataset: no row gives a feature"):
        next(iter(stream(numbers(20), featurize=nothing)))
    with pytest.raises(UserError, match="dataset: no row is left to train on"):
        next(iter(stream(Source(numbers(20), held_out=100))))
