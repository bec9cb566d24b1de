import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.multiprocessing
from datasets import Dataset

from lit_ft.data.streaming import streams
from lit_ft.data.streaming.batches import StreamBatch, StreamDataset
from lit_ft.data.streaming.loader import StreamLoader
from lit_ft.data.streaming.order import Source, held_out
from lit_ft.data.streaming.streams import FileStream, MemoryStream, Stream, collect
from lit_ft.errors import RowError, UserError
from tests.data.stream_files import FORMATS, in_files, stream_of

BATCH = 4


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHUNK", 7)
    monkeypatch.setattr("lit_ft.data.streaming.batches.ROWS_AT_ONCE", 6)


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


def same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("buffer", [0, 10])
@pytest.mark.parametrize("kind", FORMATS)
def test_going_on_behind_every_batch_gives_the_rest_of_the_run(kind: str, buffer: int, tmp_path: Path) -> None:
    def made() -> StreamDataset:
        return stream(source, featurize=windows, shuffle_buffer_size=buffer, num_replicas=2, rank=1)

    source = stream_of(kind, tmp_path, [29, 16])
    run = list(islice(made(), 30))
    assert run[-1].features[-1]["key"][0] >= 1, "the run goes beyond an epoch"
    went_on_behind_each(run, made)


def went_on_behind_each(run: list[StreamBatch], made: Callable[[], StreamDataset]) -> None:
    """Begins anew behind every batch, at the place that the beginning before gave."""
    place = run[0].place
    for batch in run[1:]:
        again = made()
        again.start = [(0, place)]
        following = next(iter(again))
        assert same(following.features, batch.features)
        place = following.place
    again = made()
    again.start = [(0, run[11].place)]
    assert same([batch.features for batch in islice(again, len(run) - 12)], [batch.features for batch in run[12:]])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_new_loader_goes_on_behind_the_last_batch_used(workers: int, tmp_path: Path) -> None:
    def made() -> StreamLoader:
        sources = [Source(FileStream(paths)), Source(numbers(11))]
        return StreamLoader(stream(*sources, probabilities=[0.7, 0.3]), collate, workers)

    paths = in_files(tmp_path, "csv", [21, 8])
    whole = used(made(), 14)
    for done in (0, 1, 6):
        loader = made()
        iterator = iter(loader)
        for _ in range(done):
            loader.take(next(iterator))
        next(iterator)  # fetched, not used
        torch.save(loader.state_dict(), tmp_path / "state.pt")
        again = made()
        again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert same(used(again, 5), whole[done : done + 5])
        assert same(used(again, 3), whole[done + 5 : done + 8]), "another pass of the same loader goes on"


def test_a_spawned_worker_gives_what_a_forked_one_does(tmp_path: Path) -> None:
    source = FileStream(in_files(tmp_path, "jsonl.gz", [30]))
    spawned, forked = (
        used(StreamLoader(stream(source, shuffle_buffer_size=0), collate, 1, multiprocessing_context=context), 3)
        for context in ("spawn", "fork")
    )
    assert same(spawned, forked)
    assert [number for batch in forked for number in batch["number"]] == list(range(12))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "txt", "memory"])
def test_going_on_reads_no_more_than_one_block(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = Stream.chunks

    def counted(self: Stream, part: int, position: Any = None) -> Iterator[tuple[Any, pa.Table]]:
        for after, table in original(self, part, position):
            read.append(table.num_rows)
            yield after, table

    source = stream_of(kind, tmp_path, [600])
    place = list(islice(stream(source), 130))[-1].place
    monkeypatch.setattr(Stream, "chunks", counted)
    again = stream(source)
    again.start = [(0, place)]
    next(iter(again))
    assert 0 < sum(read) <= 10 + 10 + 2 * 7  # the block, at most one more for the batch, and the chunks they lie in


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


def sources_seen(batches: Iterator[StreamBatch], count: int) -> list[tuple[int, int, int]]:
    """(source, number, epoch) of each feature; the sources' numbers begin at 0, 1000, 2000."""
    features = [feature for batch in islice(batches, count) for feature in batch.features]
    return [(*divmod(int(feature["number"]), 1000), feature["key"][0]) for feature in features]


def test_a_mixture_keeps_its_proportions_and_goes_through_every_source() -> None:
    part = stream(numbers(40), numbers(700, 1000), numbers(90, 2000), probabilities=[0.2, 0.7, 0.1])
    seen = sources_seen(iter(part), 1000)
    shares = Counter(source for source, _, _ in seen)
    for source, share in enumerate([0.2, 0.7, 0.1]):
        assert shares[source] / 4000 == pytest.approx(share, abs=0.025)
    for source, size in enumerate([40, 700, 90]):
        own = [number for which, number, _ in seen if which == source]
        for start in range(0, len(own) - size, size):  # again and again, each time all of it
            assert sorted(own[start : start + size]) == list(range(size))
    assert [which for which, _, _ in seen[:400]] != [which for which, _, _ in seen[400:800]]


def test_first_exhausted_begins_all_anew_with_the_first_end() -> None:
    part = stream(numbers(10), numbers(500, 1000), probabilities=[0.5, 0.5], stopping_strategy="first_exhausted")
    seen = sources_seen(iter(part), 100)
    epochs = [epoch for _, _, epoch in seen]
    assert epochs == sorted(epochs)
    for epoch in range(epochs[-1]):
        assert sorted(number for source, number, when in seen if (source, when) == (0, epoch)) == list(range(10))
    assert max(number for source, number, _ in seen if source == 1) < 100


def test_without_replacement_every_row_comes_once_in_an_epoch() -> None:
    strategy = "all_exhausted_without_replacement"
    part = stream(numbers(10), numbers(54, 1000), probabilities=[0.5, 0.5], stopping_strategy=strategy)
    seen = sources_seen(iter(part), 48)
    for epoch in range(3):
        own = seen[epoch * 64 : epoch * 64 + 64]
        assert {when for _, _, when in own} == {epoch}
        assert sorted((source, number) for source, number, _ in own) == [
            *((0, number) for number in range(10)),
            *((1, number) for number in range(54)),
        ]


@pytest.mark.parametrize("strategy", ["all_exhausted", "first_exhausted", "all_exhausted_without_replacement"])
def test_a_mixture_goes_on_behind_every_batch(strategy: str, tmp_path: Path) -> None:
    def made() -> StreamDataset:
        shares = {"probabilities": [0.3, 0.5, 0.2], "stopping_strategy": strategy}
        return stream(*sources, featurize=windows, num_replicas=3, rank=2, **shares)

    sources = [stream_of(kind, tmp_path / kind, [23, 9]) for kind in ("jsonl", "parquet", "memory")]
    went_on_behind_each(list(islice(made(), 40)), made)


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


def test_wrong_mixtures_are_refused() -> None:
    for options, message in (
        ({}, "2 sources are streamed.*set probabilities"),
        ({"probabilities": [0.5, 0.6]}, "sum to 1.1"),
        ({"probabilities": [1.0]}, "1 numbers for 2 sources"),
        ({"probabilities": [0.5, 0.5], "stopping_strategy": "first"}, "did you mean 'first_exhausted'"),
    ):
        with pytest.raises(UserError, match=message):
            stream(numbers(20), numbers(20), **options)


def test_a_place_of_other_rows_or_workers_is_refused(tmp_path: Path) -> None:
    def made(files: int = 2, workers: int = 0, **options: Any) -> StreamLoader:
        return StreamLoader(stream(FileStream(paths[:files]), **options), collate, workers)

    paths = in_files(tmp_path, "csv", [30, 30])
    state = made().state_dict()
    assert json.loads(json.dumps(state)) == state
    made(batch_size=2).load_state_dict(state)  # the place counts features, not batches
    made(workers=1).load_state_dict(state)
    for changed, message in (
        (made(workers=2), "num_workers were 1, are now 2"),
        (made(num_replicas=2), "processes were 1, are now 2"),
        (made(shuffle_buffer_size=11), "shuffle_buffer_size were 10, are now 11"),
        (made(files=1), "rows are not those"),
        (made(seed=7), "seed were 42, are now 7"),
    ):
        with pytest.raises(UserError, match=message):
            changed.load_state_dict(state)


def test_dataset_and_loader_pickle(tmp_path: Path) -> None:
    for kind in FORMATS:
        dataset = stream(stream_of(kind, tmp_path / kind, [12, 12]), featurize=windows)
        copied = pickle.loads(pickle.dumps(dataset))
        assert same(next(iter(copied)).features, next(iter(dataset)).features)


def _in_a_process(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    loader = StreamLoader(stream(numbers(60), num_replicas=2, rank=rank), collate)
    used(loader, 3 + rank)
    torch.save(loader.state_dict(), folder / f"state-{rank}.pt")
    torch.save([batch["number"] for batch in used(loader, 2)], folder / f"rest-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_the_first_process_saves_the_places_of_all(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_in_a_process, (tmp_path,), 2, start_method="fork")
    state = torch.load(tmp_path / "state-0.pt", weights_only=True)
    assert state == torch.load(tmp_path / "state-1.pt", weights_only=True)
    for rank in range(2):
        loader = StreamLoader(stream(numbers(60), num_replicas=2, rank=rank), collate)
        loader.load_state_dict(state)
        rest = [[int(number) for number in batch["number"]] for batch in used(loader, 2)]
        assert rest == [
            list(map(int, numbers)) for numbers in torch.load(tmp_path / f"rest-{rank}.pt", weights_only=False)
        ]
