"""Streamed rows -> batches of features, tokenized on the fly in loader workers, endless, each with its place."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from lit_ft.data.batching.collators import Feature
from lit_ft.data.features.ragged import Column, Ragged, as_column, length_of
from lit_ft.data.grouping.blocks import Grouping
from lit_ft.data.ordering.chance import hashed, unit_share
from lit_ft.data.ordering.orders import StoppingStrategy, mixed_length
from lit_ft.data.reading.raw import named_cells
from lit_ft.data.streaming.order import Block, Place, Shard, ShardReader, Source
from lit_ft.errors import RowError, UserError

Featurize = Callable[[dict[str, list[Any]]], dict[str, Any]]
"""A batch of raw rows by column -> columns of features, as a task's `tokenize`; `row` says whose each feature is."""

ROWS_AT_ONCE = 256
"""Rows that are drawn and tokenized together; the most that is tokenized twice when a run goes on."""


class Mixture:
    """A shard's rows of one or several sources, row by row, for ever.

    The source of each row is drawn by `probabilities`, a pure function of seed, shard and the number of the draw.
    What happens when a source is used up (its last row for this shard has come):

    - `all_exhausted`: it begins again, in another order, and the others go on: the proportions hold for ever.
    - `first_exhausted`: all sources begin again; what was left of the others does not come in that epoch.
    - `all_exhausted_without_replacement`: it waits until the others are used up too (their proportions rise), then all
      begin again: in an epoch each row comes once.

    Args:
        sources: where the rows come from.
        probabilities: share of each source; used for several only.
        stopping_strategy: see above.
        seed: of the choice and of the orders.
        shard: which rows are ours.
        buffer: rows of a source that are shuffled together; 0 = as they stand.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        probabilities: Sequence[float],
        stopping_strategy: StoppingStrategy,
        seed: int,
        shard: Shard,
        buffer: int,
    ) -> None:
        self.readers = [ShardReader(source, number, shard, seed, buffer) for number, source in enumerate(sources)]
        self.shares, self.strategy = np.asarray(probabilities, dtype=np.float64), stopping_strategy
        self.seed, self.shard, self.draws = seed, shard, 0

    def place(self) -> Place:
        """Returns where the next row is, as plain JSON."""
        return {"draws": self.draws, "sources": [reader.place() for reader in self.readers]}

    def load(self, place: Place) -> None:
        """Goes on at a place."""
        self.draws = place["draws"]
        for reader, there in zip(self.readers, place["sources"], strict=True):
            reader.load(there)

    def draw(self, count: int) -> list[tuple[int, Block, int]]:
        """Returns the next rows: number of the source, block, and index in the block."""
        numbers = np.arange(self.draws, self.draws + count)
        self.draws += count
        if len(self.readers) == 1:
            return [(0, *self.readers[0].pick()) for _ in numbers]
        return [self._one(chance) for chance in unit_share(numbers, self.seed, *self.shard).tolist()]

    def _one(self, chance: float) -> tuple[int, Block, int]:
        epochs = np.array([reader.epoch for reader in self.readers])
        shares = self.shares
        if self.strategy == "all_exhausted_without_replacement":
            shares = shares * (epochs == epochs.min())
        bounds = np.cumsum(shares)
        source = int(np.searchsorted(bounds, chance * bounds[-1], side="right"))
        picked = self.readers[source].pick()
        if self.strategy == "first_exhausted" and (epoch := self.readers[source].epoch) > epochs.max():
            for reader in self.readers:
                reader.begin(epoch)
        return (source, *picked)


@dataclass(frozen=True)
class StreamBatch:
    """Features of one batch, and the place after it."""

    features: list[Feature]
    place: str


class StreamDataset(IterableDataset[StreamBatch]):
    """Batches of features of streamed rows; never ends (an epoch's last row is followed by the next epoch's first).

    Each process and loader worker has rows of its own; see `ShardReader` for how they are dealt out and shuffled, and
    `Mixture` for several sources. Memory holds a block of `shuffle_buffer_size` rows of each source and a chunk of a
    file, per worker. A row's features (windows) come one after the other.

    Args:
        sources: where the rows come from.
        featurize: a task's `tokenize`; it is called in the workers, with `ROWS_AT_ONCE` rows or fewer of one source.
        batch_size: features of a batch.
        seed: of all that is by chance.
        shuffle_buffer_size: rows of a source that are shuffled together; 0 = rows come as they stand.
        probabilities: share of each of several sources, in sum 1.
        stopping_strategy: see `Mixture`.
        num_replicas: number of processes.
        rank: this process.
        group: makes what turns features into other features, such as blocks that run on from row to row.

    Attributes:
        start: the workers' streams in the order of the workers, with the place of each; set by `StreamLoader`.

    Raises:
        UserError: a source has no rows or cannot be read, or probabilities do not fit the sources.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        featurize: Featurize,
        batch_size: int,
        seed: int = 42,
        shuffle_buffer_size: int = 10_000,
        probabilities: Sequence[float] | None = None,
        stopping_strategy: StoppingStrategy = "all_exhausted",
        num_replicas: int = 1,
        rank: int = 0,
        group: Callable[[], Grouping | None] | None = None,
    ) -> None:
        if len(sources) > 1 and probabilities is None:
            raise UserError(
                f"{len(sources)} sources are streamed, and a stream does not know its rows: set probabilities, "
                "one for each source"
            )
        if len(sources) > 1:  # refuses wrong probabilities and strategies; the length is nobody's
            mixed_length([1 << 30] * len(sources), probabilities, stopping_strategy)
        self.sources, self.featurize, self.batch_size = list(sources), featurize, batch_size
        self.seed, self.shuffle_buffer_size = seed, shuffle_buffer_size
        self.probabilities, self.stopping_strategy = list(probabilities or [1.0]), stopping_strategy
        self.num_replicas, self.rank, self._group = num_replicas, rank, group
        self.start: list[tuple[int, str | None]] | None = None
        for source in self.sources:
            _ = source.stream.schema  # raises here, not in a worker; and travels to the workers

    def group(self) -> Grouping | None:
        """Makes what turns features into other features; `None` = nothing does."""
        return None if self._group is None else self._group()

    def settings(self) -> dict[str, Any]:
        """Returns, as plain JSON, what must be the same for a place to mean the same."""
        grouping = self.group()
        return {
            "grouping": None if grouping is None else grouping.settings(),
            "seed": self.seed,
            "shuffle_buffer_size": self.shuffle_buffer_size,
            "probabilities": self.probabilities,
            "stopping_strategy": self.stopping_strategy,
            "processes": self.num_replicas,
            "rows": [[source.stream.fingerprint(), source.held_out, source.cut_seed] for source in self.sources],
        }

    def __iter__(self) -> Iterator[StreamBatch]:
        info = get_worker_info()
        if info is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the workers share the cores already
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        stream, place = self.start[worker] if self.start else (worker, None)
        shard = Shard(self.rank * workers + stream, self.num_replicas * workers)
        return self._batches(stream, shard, json.loads(place) if place else None)

    def _batches(self, stream: int, shard: Shard, place: Place | None) -> Iterator[StreamBatch]:
        features: list[Feature] = []
        for after, feature in self._features(shard, place):
            features.append(feature)
            if len(features) == self.batch_size:
                yield StreamBatch(features, json.dumps({"stream": stream, **after}))
                features = []

    def _features(self, shard: Shard, place: Place | None) -> Iterator[tuple[Place, Feature]]:
        """Yields each feature with the place after it.

        That is the place of its batch of rows, what groups held of earlier rows then, and how many features came since.
        """
        mixture = Mixture(
            self.sources, self.probabilities, self.stopping_strategy, self.seed, shard, self.shuffle_buffer_size
        )
        grouping, done = self.group(), 0
        if place is not None:
            mixture.load(place["rows"])
            done = place["done"]
            if grouping is not None:
                grouping.load(place["held"])
        fruitful = mixture.readers[0].epoch
        while True:
            rows = mixture.place()
            before = {"rows": rows} if grouping is None else {"rows": rows, "held": grouping.state()}
            made = self._featurized(mixture.draw(ROWS_AT_ONCE))
            fruits = len(made)
            if grouping is not None:  # a block may take many rows, but empty ones never make one
                fruits = sum(len(feature["input_ids"]) for feature in made)
            if grouping is not None and made:
                made = _grouped(grouping, made, (rows["draws"], *shard))
            for number, feature in enumerate(made[done:], done + 1):
                yield {**before, "done": number}, feature
            done = 0
            epoch = mixture.readers[0].epoch
            fruitful = epoch if fruits else fruitful
            if epoch > fruitful + 1:
                raise UserError(f"{self.sources[0].stream.name}: no row gives a feature to train on")

    def _featurized(self, drawn: Sequence[tuple[int, Block, int]]) -> list[Feature]:
        """Makes the features of some rows, in the rows' order; rows of one block are tokenized together."""
        groups: dict[tuple[int, int], list[int]] = {}
        for place, (source, block, _) in enumerate(drawn):
            groups.setdefault((source, id(block)), []).append(place)
        made: list[list[Feature]] = [[] for _ in drawn]
        for (source, _), places in groups.items():
            rows = np.array([drawn[place][2] for place in places])
            for row, feature in self._of_block(source, drawn[places[0]][1], rows):
                made[places[row]].append(feature)
        return [feature for features in made for feature in features]

    def _of_block(self, source: int, block: Block, rows: np.ndarray) -> Iterator[tuple[int, Feature]]:
        """Yields each feature with the index, among `rows`, of the row that it is of."""
        numbers = block.numbers[rows]
        names = self.sources[source].stream.label_names()
        cells = block.table.take(rows).to_pydict()
        batch = {name: named_cells(column, names.get(name)) for name, column in cells.items()}
        made = self._tokenized(source, batch, numbers)
        columns = {name: as_column(values) for name, values in made.items()}
        keys = hashed(numbers, source) >> np.uint64(1)
        windows = np.zeros(len(rows), dtype=np.int64)
        for feature, row in enumerate(np.asarray(columns.pop("row")).tolist()):
            values = {name: column[feature] for name, column in columns.items()}
            yield row, {**values, "key": (block.epoch, int(keys[row]) + int(windows[row]))}
            windows[row] += 1

    def _tokenized(self, source: int, batch: dict[str, list[Any]], numbers: np.ndarray) -> dict[str, Any]:
        where = self.sources[source].stream.where
        try:
            return self.featurize(batch)
        except RowError as error:
            raise error.at(lambda row: where(int(numbers[row]))) from None
        except UserError:
            raise
        except Exception:
            for row, number in enumerate(numbers.tolist()):
                try:
                    self.featurize({name: values[row : row + 1] for name, values in batch.items()})
                except Exception as error:
                    error.add_note(where(number))
                    raise
            raise


def _grouped(grouping: Grouping, features: list[Feature], place: tuple[int, ...]) -> list[Feature]:
    """Makes groups of features; their keys are hashes of the place in the stream, the epoch is that of the last row."""
    epoch = features[-1]["key"][0]
    names = [name for name, value in features[0].items() if isinstance(value, np.ndarray) and value.ndim]
    columns: dict[str, Column] = {
        name: Ragged.of([feature[name] for feature in features], features[0][name].dtype) for name in names
    }
    groups = grouping.add(columns)
    keys = hashed(np.arange(length_of(groups.values())), *place) >> np.uint64(1)
    return [
        {**{name: column[number] for name, column in groups.items()}, "key": (epoch, int(key))}
        for number, key in enumerate(keys)
    ]
