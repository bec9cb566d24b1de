"""A stream goes on behind any batch, in any process, as if it had never stopped; places of other rows are refused."""

import json
import pickle
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.multiprocessing

from lit_ft.data.streaming.batches import StreamBatch, StreamDataset
from lit_ft.data.streaming.loader import StreamLoader
from lit_ft.data.streaming.order import Source
from lit_ft.data.streaming.streams import FileStream, Stream
from lit_ft.errors import UserError
from tests.data.stream_files import FORMATS, in_files, stream_of
from tests.data.streamed import collate, numbers, stream, used, windows

pytestmark = pytest.mark.usefixtures("small_chunks")


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
