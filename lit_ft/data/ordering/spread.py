"""Some rows of an evaluation set, spread evenly over those that will be evaluated."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def spread(row_of_feature: Rows, most: int, replicas: int = 1, each: int | None = None) -> Rows:
    """Chooses rows, the same in every process.

    Args:
        row_of_feature: the rows of a set, ascending, one feature each, `[features]`; numbers may be missing.
        most: how many rows at most.
        replicas: how many processes share the set, as `ContiguousSampler` deals it out.
        each: how many features a process evaluates at most; `None` = all of its own.

    Returns:
        The chosen rows, ascending.
    """
    rows = int(row_of_feature[-1]) + 1 if len(row_of_feature) else 0
    edges = np.searchsorted(row_of_feature, rows * np.arange(replicas + 1) // replicas)
    used = np.concatenate([np.arange(start, stop, dtype=np.int64)[:each] for start, stop in pairwise(edges.tolist())])
    if len(used) > most:
        used = used[(2 * np.arange(most) + 1) * len(used) // (2 * most)]
    chosen: Rows = row_of_feature[used]
    return chosen
