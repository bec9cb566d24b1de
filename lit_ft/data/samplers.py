"""The order of rows: training as a pure function of seed and epoch, evaluation in input order, each row exactly once.

Both derive from `DistributedSampler` because that is the only sampler Lightning leaves alone on several processes.
They yield keys `(epoch, index)`: what depends on chance (masks) can be a pure function of them.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DistributedSampler

Key = tuple[int, int]
FILLER = -1
"""Index of a row that only fills up a process's last batch; it carries no label and counts nowhere."""


class GlobalOrderSampler(DistributedSampler[Key]):
    """Shuffles all rows by (seed, epoch) and gives each process its slice of every global batch.

    One process with batch size 16 and two with 8 see the same rows at the same step. A last global batch that does
    not divide by the processes is filled up with `FILLER` keys, so that every process makes the same number of steps.

    Args:
        num_rows: rows of the data set.
        batch_size: rows per process and step.
        seed: seed of the order.
        num_replicas: number of processes.
        rank: this process.
        weights: draw each row with this weight, with replacement (class-balanced sampling); `None` = each row once.

    Attributes:
        start: epoch and batch to begin at, for a run that goes on in the middle of an epoch.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        seed: int = 42,
        num_replicas: int = 1,
        rank: int = 0,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(range(num_rows), num_replicas=num_replicas, rank=rank, seed=seed)  # type: ignore[arg-type]
        self.num_rows, self.batch_size, self.weights = num_rows, batch_size, weights
        self.start: tuple[int, int] = (0, 0)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Returns the epoch's row numbers, `[num_rows]`, for all processes together."""
        rng = np.random.default_rng([self.seed, epoch])
        if self.weights is None:
            return rng.permutation(self.num_rows)
        shares = self.weights / self.weights.sum()
        return rng.choice(self.num_rows, size=self.num_rows, p=shares)

    def __iter__(self) -> Iterator[Key]:
        order = self.order(self.epoch)
        step = self.batch_size * self.num_replicas
        done = self.start[1] * step if self.epoch == self.start[0] else 0
        for start in range(done, self.num_rows, step):
            rows = order[start : start + step]
            size = -(-len(rows) // self.num_replicas)
            mine = rows[self.rank * size : (self.rank + 1) * size].tolist()
            yield from ((self.epoch, row) for row in mine + [FILLER] * (size - len(mine)))

    def __len__(self) -> int:
        full, rest = divmod(self.num_rows, self.batch_size * self.num_replicas)
        return full * self.batch_size + -(-rest // self.num_replicas)


class ContiguousSampler(DistributedSampler[Key]):
    """Gives each process one contiguous run of whole rows, each row once.

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


def balanced_weights(labels: torch.Tensor) -> npt.NDArray[np.float64]:
    """Returns a weight per row such that every class is drawn equally often; `labels` are class ids `[rows]`."""
    ids = labels.numpy()
    counts = np.bincount(ids)
    return np.asarray(1.0 / counts[ids], dtype=np.float64)
