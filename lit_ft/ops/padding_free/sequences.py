"""Sequences that lie end to end in one flat row: their lengths, and the few padded batches that attention runs them in.

The lengths travel to every attention layer as a keyword of the forward; what is made of them is made once for all.
"""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

BUCKET_COST = 4096
"""What one more batch costs, in attention scores of one head: some forty kernels are started for it."""

TOKEN_COST = 16
"""What one more padded token costs, likewise: its states are copied there and back."""


class Bucket:
    """Sequences of similar length, padded on the right to the longest of them.

    Attributes:
        count: how many sequences.
        length: tokens of each, with padding.
        tokens: flat positions of the tokens `[count * length]`, on the CPU; padding stands at the sequence's first.
        lengths: real tokens of each sequence `[count]`, on the CPU.
        even: all are equally long: no padding.
        masks: what attention layers made for it, by whatever it depends on: the next layer needs the same.
    """

    def __init__(self, starts: np.ndarray, lengths: np.ndarray) -> None:
        self.count, self.length = len(lengths), int(lengths.max())
        self.lengths, self.even = torch.from_numpy(lengths), bool((lengths == self.length).all())
        self.masks: dict[Hashable, Tensor | None] = {}
        places = np.arange(self.length)
        tokens = starts[:, None] + np.where(places < lengths[:, None], places, 0)
        self.tokens = torch.from_numpy(tokens.reshape(-1))

    def real(self, device: torch.device) -> Tensor:
        """Returns which tokens are no padding, `[count, length]`."""
        return torch.arange(self.length, device=device) < self.lengths.to(device, non_blocking=True)[:, None]


class Sequences:
    """Lengths of the sequences of a flat row, in order.

    No dataclass and no list: whatever moves or copies batches shall hand it on as it is.

    Attributes:
        lengths: tokens of each sequence; 0 = it is missing.
        total: tokens of the row.
        uniform: all are equally long: the row is a batch already.
    """

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = tuple(lengths)
        self.total = sum(self.lengths)
        self.uniform = len(set(self.lengths)) == 1 and self.lengths[0] > 0
        self._places: dict[tuple[int, torch.device], tuple[list[Tensor], Tensor]] = {}
        self._bounds: dict[torch.device, Tensor] = {}

    @cached_property
    def buckets(self) -> list[Bucket]:
        """The sequences in padded batches."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        given = np.array(self.lengths, np.int64)
        order = np.argsort(-given, kind="stable")[: int((given > 0).sum())]
        return [Bucket((ends - given)[part], given[part]) for part in _buckets(given, order)]

    def bounds(self, device: torch.device) -> Tensor:
        """Returns where in the flat row each sequence begins, and the row's end, `[sequences + 1]` of int32."""
        if device not in self._bounds:
            ends = np.cumsum((0, *self.lengths), dtype=np.int32)
            self._bounds[device] = torch.from_numpy(ends).to(device, non_blocking=True)
        return self._bounds[device]

    def places(self, heads: int, device: torch.device) -> tuple[list[Tensor], Tensor]:
        """Returns where the states of tokens lie in the flat row and in the buckets, heads apart.

        Args:
            heads: of the states in question.
            device: of the states.

        Returns:
            For each bucket the rows of `[total * heads, size]` states that make it up,
            `[count * heads * length]`; and for each of the `[total * heads]` rows its place in all buckets laid end to
            end.
        """
        key = (heads, device)
        if key not in self._places:
            self._places[key] = self._make_places(heads, device)
        return self._places[key]

    def _make_places(self, heads: int, device: torch.device) -> tuple[list[Tensor], Tensor]:
        rows = []
        inverse = torch.empty(self.total * heads, dtype=torch.long)
        start = 0
        for bucket in self.buckets:
            tokens = bucket.tokens.view(bucket.count, 1, bucket.length)
            mine = (tokens * heads + torch.arange(heads)[:, None]).flatten()
            real = bucket.real(mine.device)[:, None].expand(-1, heads, -1).flatten()
            inverse[mine[real]] = torch.arange(start, start + len(mine))[real]
            start += len(mine)
            rows.append(mine.to(device, non_blocking=True))
        return rows, inverse.to(device, non_blocking=True)


def _buckets(lengths: np.ndarray, order: np.ndarray) -> list[np.ndarray]:
    """Cuts sequences, longest first, into the runs that cost least together; exact, by dynamic programming."""
    ordered = lengths[order]
    if not len(ordered):
        return []
    # only where the length changes is a cut worth a thought
    edges = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(ordered)]])
    area = (ordered + TOKEN_COST) * ordered
    best, cut = np.zeros(len(edges)), np.zeros(len(edges), np.int64)
    for end in range(1, len(edges)):
        costs = best[:end] + (edges[end] - edges[:end]) * area[edges[:end]] + BUCKET_COST
        cut[end] = costs.argmin()
        best[end] = costs[cut[end]]
    bounds = [len(edges) - 1]
    while bounds[-1]:
        bounds.append(int(cut[bounds[-1]]))
    return [order[edges[start] : edges[stop]] for start, stop in pairwise(reversed(bounds))]


class Watch:
    """What a probe learns: the windows that masks were asked for, and those that attention layers were told of."""

    def __init__(self) -> None:
        self.asked: set[int | None] = set()
        self.told: set[int | None] = set()


_flat: ContextVar[Watch | None] = ContextVar("flat", default=None)


@contextmanager
def running_flat() -> Iterator[Watch]:
    """Around the forward pass of flat inputs: the model makes no attention mask; backward may run outside."""
    watch = Watch()
    token = _flat.set(watch)
    try:
        yield watch
    finally:
        _flat.reset(token)


def watching() -> Watch | None:
    """Returns the watch of the flat pass that is running, or `None`."""
    return _flat.get()
