"""Who gets which rows at which step: training in slices of a global order, evaluation in contiguous runs of rows.

All derive from `DistributedSampler` because that is the only sampler Lightning leaves alone on several processes.
They yield keys `(epoch, index)`: what depends on chance (masks) can be a pure function of them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DistributedSampler

from lit_ft.data.ordering.orders import Lengths, Rows, TokenBatches, length_sorted

Key = tuple[int, int]
FILLER = -1
"""Index of a row that only fills up a process's last batch; it carries no label and counts nowhere."""
RUN = 64
"""Batches whose rows are sorted together in evaluation: enough for little padding, few enough to wait in memory."""
Item = TypeVar("Item", covariant=True)


def fillers(keys: Sequence[Key]) -> torch.Tensor:
    """Says which rows of a batch only fill it up, `[batch]`; `keys` are the (epoch, index) of each."""
    return torch.tensor([index == FILLER for _, index in keys])


class StepSampler(DistributedSampler[Item]):
    """Units (rows or whole batches) in an order of all processes together; each step takes the next of them.

    The place in an epoch is a number of units: it stays the same place for another number of processes.

    Args:
        units: units of every epoch.
        units_per_step: units that all processes together take in a step.
        num_replicas: number of processes.
        rank: this process.

    Attributes:
        start: epoch and units done in it, where a run goes on; see `start_at`.
    """

    def __init__(self, units: int, units_per_step: int, num_replicas: int, rank: int) -> None:
        super().__init__(range(units), num_replicas=num_replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]
        self.units, self.units_per_step = units, units_per_step
        self.start = (0, 0)

    @property
    def steps(self) -> int:
        """Steps of a whole epoch, the same for every process."""
        return -(-self.units // self.units_per_step)

    def start_at(self, epoch: int, units: int) -> None:
        """Goes on in `epoch` after its first `units`, of all processes together; later epochs are whole."""
        self.start = (epoch, units)
        self.set_epoch(epoch)

    def steps_before(self, units: int) -> int:
        """Returns the steps that count as done after `units`: those left complete them to `steps`."""
        return self.steps - -(-(self.units - units) // self.units_per_step)

    def units_after(self, epoch: int, steps: int) -> int:
        """Returns the units of an epoch that are done after `steps`, those before `start` included in both."""
        begin = self._begin(epoch)
        return min(begin + (steps - self.steps_before(begin)) * self.units_per_step, self.units)

    def spans(self, epoch: int) -> TokenBatches:
        """Returns the batches of an epoch: its rows, and where each process's batch lies in them, step by step.

        There may be fewer batches in the last step than processes, which make do with fillers.
        """
        raise NotImplementedError

    def rows_at(self, epoch: int, step: int) -> Rows:
        """Returns the rows that this process gets in a step of an epoch, without fillers."""
        begin = self._begin(epoch)
        return self._share(epoch, begin + (step - self.steps_before(begin)) * self.units_per_step)

    def _share(self, epoch: int, first: int) -> Rows:
        raise NotImplementedError

    def _begin(self, epoch: int) -> int:
        return self.start[1] if epoch == self.start[0] else 0


class GlobalOrderSampler(StepSampler[Key]):
    """Gives each process its slice of every global batch of an order.

    One process with batch size 16 and two with 8 see the same rows at the same step. A last global batch that does
    not divide by the processes is filled up with `FILLER` keys, so that every process makes the same number of steps.

    Args:
        order: gives the row numbers of an epoch, `[num_rows]`, as the functions of `lit_ft.data.ordering.orders` do.
        num_rows: rows of every epoch.
        batch_size: rows per process and step.
        num_replicas: number of processes.
        rank: this process.
    """

    def __init__(
        self, order: Callable[[int], Rows], num_rows: int, batch_size: int, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(num_rows, batch_size * num_replicas, num_replicas, rank)
        self.order, self.batch_size = order, batch_size

    def __iter__(self) -> Iterator[Key]:
        epoch, order = self.epoch, self.order(self.epoch)
        assert len(order) == self.units
        for start in range(self._begin(epoch), self.units, self.units_per_step):
            rows = order[start : start + self.units_per_step]
            size = -(-len(rows) // self.num_replicas)
            mine = rows[self.rank * size : (self.rank + 1) * size].tolist()
            yield from ((epoch, row) for row in mine + [FILLER] * (size - len(mine)))

    def spans(self, epoch: int) -> TokenBatches:
        """Returns the batches of an epoch; see the base."""
        whole = self.units - self.units % self.units_per_step
        size = -(-(self.units - whole) // self.num_replicas) or 1  # the last step is shared evenly
        starts = np.concatenate([np.arange(0, whole, self.batch_size), np.arange(whole, self.units, size)])
        return self.order(epoch), np.stack([starts, np.append(starts[1:], self.units)], axis=1)

    def _share(self, epoch: int, first: int) -> Rows:
        rows = self.order(epoch)[first : first + self.units_per_step]
        size = -(-len(rows) // self.num_replicas)
        return rows[self.rank * size : (self.rank + 1) * size]

    def __len__(self) -> int:
        # of a whole epoch also where a run goes on within one: Lightning adds the steps done before, and asks only once
        full, rest = divmod(self.units, self.units_per_step)
        return full * self.batch_size + -(-rest // self.num_replicas)


class TokenBudgetSampler(StepSampler[list[Key]]):
    """Gives each process one batch of an order of batches per step; for `DataLoader(batch_size=None)`.

    At step s of W processes, process r gets batch s * W + r: one process that accumulates W batches computes the same.
    The last step is filled up with batches of one `FILLER`.

    Args:
        batches: gives the batches of an epoch, as `token_batch_order` of `lit_ft.data.ordering.orders` does.
        num_batches: batches of every epoch, of all processes together.
        num_replicas: number of processes.
        rank: this process.
    """

    def __init__(
        self, batches: Callable[[int], TokenBatches], num_batches: int, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(num_batches, num_replicas, num_replicas, rank)
        self.batches = batches

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, (rows, spans) = self.epoch, self.batches(self.epoch)
        assert len(spans) == self.units
        for first in range(self._begin(epoch), self.units, self.num_replicas):
            mine = first + self.rank
            start, stop = spans[mine].tolist() if mine < self.units else (0, 0)
            yield [(epoch, row) for row in rows[start:stop].tolist()] or [(epoch, FILLER)]

    def spans(self, epoch: int) -> TokenBatches:
        """Returns the batches of an epoch; see the base."""
        return self.batches(epoch)

    def _share(self, epoch: int, first: int) -> Rows:
        rows, spans = self.batches(epoch)
        mine = first + self.rank
        return rows[slice(*spans[mine])] if mine < self.units else rows[:0]

    def __len__(self) -> int:
        return self.steps  # of a whole epoch also where a run goes on within one, as above


class ContiguousSampler(DistributedSampler[Key]):
    """Gives each process one contiguous run of whole rows, each row once, in input order.

    The processes' results laid end to end are in input order.

    Args:
        row_of_feature: the row that each feature (window) belongs to, ascending, `[features]`.
        num_replicas: number of processes.
        rank: this process.
    """

    def __init__(self, row_of_feature: np.ndarray, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(range(len(row_of_feature)), num_replicas=num_replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]
        rows = int(row_of_feature[-1]) + 1 if len(row_of_feature) else 0
        first, last = rows * rank // num_replicas, rows * (rank + 1) // num_replicas
        self.start, self.stop = (int(place) for place in np.searchsorted(row_of_feature, [first, last]))

    def __iter__(self) -> Iterator[Key]:
        # a process without rows takes part all the same: the others wait for it
        return iter([(0, index) for index in range(self.start, self.stop)] or [(0, FILLER)])

    def __len__(self) -> int:
        return max(self.stop - self.start, 1)


class LengthSortedSampler(ContiguousSampler):
    """Gives each process its contiguous run of whole rows, those of `RUN` batches at a time sorted by length.

    Batches of rows of similar length have little padding; the first is the longest of its `RUN`.

    Args:
        row_of_feature: the row that each feature (window) belongs to, ascending, `[features]`.
        lengths: tokens of each feature, `[features]`.
        batch_size: features of a batch.
        limit: how many batches will be used, as Lightning's `limit_predict_batches`: a number, or a share of all. Those
            hold the features that they would hold in input order.
        num_replicas: number of processes.
        rank: this process.

    Attributes:
        settles: for the last feature of each of these sorted pieces, the row before which all rows have come with it.
    """

    def __init__(
        self,
        row_of_feature: Rows,
        lengths: Lengths,
        batch_size: int,
        limit: float = 1.0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(row_of_feature, num_replicas, rank)
        mine = slice(self.start, self.stop)
        batches = -(-len(self) // batch_size)
        used = limit if isinstance(limit, int) else int(batches * limit)  # as Lightning counts
        rows = row_of_feature[mine]
        self.order, ends = length_sorted(rows, lengths[mine], RUN * batch_size, used * batch_size)
        self.order += self.start
        below = [*rows[ends[:-1]].tolist(), int(rows[-1]) + 1] if len(rows) else []
        self.settles: dict[int, int] = dict(zip(self.order[ends - 1].tolist(), below, strict=True))

    def __iter__(self) -> Iterator[Key]:
        return iter([(0, index) for index in self.order.tolist()] or [(0, FILLER)])


def balanced_weights(labels: torch.Tensor) -> npt.NDArray[np.float64]:
    """Returns a weight per row such that every class is drawn equally often; `labels` are class ids `[rows]`."""
    ids = labels.numpy()
    counts = np.bincount(ids)
    return np.asarray(1.0 / counts[ids], dtype=np.float64)
