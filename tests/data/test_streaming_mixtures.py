"""Several sources as one stream: their proportions, where an epoch ends, going on; mixtures that cannot be."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from lit_ft.data.streaming.batches import StreamBatch, StreamDataset
from lit_ft.errors import UserError
from tests.data.stream_files import stream_of
from tests.data.streamed import numbers, stream, windows
from tests.data.test_streaming_places import went_on_behind_each

pytestmark = pytest.mark.usefixtures("small_chunks")


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


def test_wrong_mixtures_are_refused() -> None:
    for options, message in (
        ({}, "2 sources are streamed.*set probabilities"),
        ({"probabilities": [0.5, 0.6]}, "sum to 1.1"),
        ({"probabilities": [1.0]}, "1 numbers for 2 sources"),
        ({"probabilities": [0.5, 0.5], "stopping_strategy": "first"}, "did you mean 'first_exhausted'"),
    ):
        with pytest.raises(UserError, match=message):
            stream(numbers(20), numbers(20), **options)
