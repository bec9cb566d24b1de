"""The loader of a stream: places from all workers gathered, saved, and handed out again."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch.distributed
from torch.utils.data import DataLoader

from lit_ft.data.batching.collators import Batch, Feature
from lit_ft.data.streaming.batches import StreamBatch, StreamDataset
from lit_ft.errors import UserError


class PlacedBatch(dict[str, Any]):
    """A batch with its place in the stream: an attribute, so that `model(**batch)` sees nothing of it."""

    def __init__(self, batch: Batch, place: str) -> None:
        super().__init__(batch)
        self.place = place


class StreamLoader(DataLoader[Any]):
    """Loads a `StreamDataset` in workers, and knows the place after the batches that were used.

    Workers run ahead, so the place travels with each batch (`PlacedBatch`); whoever uses a batch, and saves the place,
    calls `take` on it. Every pass (`iter`) goes on behind the last batch taken. Lightning saves and restores the state
    of a loader by itself; `state_dict` has to be called in all processes together.

    Args:
        dataset: the stream.
        collate: features -> batch, in the workers.
        num_workers: worker processes; 0 = none.
        kwargs: further arguments of `DataLoader`. `persistent_workers` is not among them: workers are told where to go
            on when they start.
    """

    def __init__(
        self, dataset: StreamDataset, collate: Callable[[list[Feature]], Batch], num_workers: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(
            dataset, batch_size=None, collate_fn=partial(_collated, collate), num_workers=num_workers, **kwargs
        )
        self._stream = dataset
        self._places: list[str | None] = [None] * max(1, num_workers)
        self._next = 0

    def __iter__(self) -> Any:
        # the workers take turns, beginning with the first: it has to get the stream whose turn it is
        streams = [(self._next + worker) % len(self._places) for worker in range(len(self._places))]
        self._stream.start = [(stream, self._places[stream]) for stream in streams]
        return super().__iter__()

    def take(self, batch: PlacedBatch) -> Batch:
        """Notes that a batch is used, and returns it as a plain dict."""
        stream = json.loads(batch.place)["stream"]
        self._places[stream], self._next = batch.place, (stream + 1) % len(self._places)
        return dict(batch)

    def state_dict(self) -> dict[str, Any]:
        """Returns the place behind the last batch taken, of all processes, as plain values."""
        mine = {"next": self._next, "places": list(self._places)}
        replicas = self._stream.num_replicas
        ranks: list[Any] = [mine] * replicas
        if replicas > 1:
            torch.distributed.all_gather_object(ranks, mine)
        return {"settings": self._settings(), "ranks": ranks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on at a place, from the next pass on.

        Raises:
            UserError: the rows, their order, or how they are dealt out have changed since.
        """
        now = self._settings()
        for name, before in state_dict["settings"].items():
            if now[name] != before:
                change = "are not those of the checkpoint" if name == "rows" else f"were {before}, are now {now[name]}"
                raise UserError(
                    f"the place in the training stream cannot be restored: {name} {change}; put that back, or begin "
                    "a new run from the checkpoint's weights"
                )
        mine = state_dict["ranks"][self._stream.rank]
        self._next, self._places = mine["next"], list(mine["places"])

    def _settings(self) -> dict[str, Any]:
        return {**self._stream.settings(), "num_workers": len(self._places)}


def _collated(collate: Callable[[list[Feature]], Batch], batch: StreamBatch) -> PlacedBatch:
    return PlacedBatch(collate(batch.features), batch.place)
