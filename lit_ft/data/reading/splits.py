"""Cutting a validation split from train, and capping a split: seeded, stratified, the same on every machine."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from lit_ft.errors import UserError

Rows = npt.NDArray[np.int64]


def cut_validation(
    rows: int, percentage: float, seed: int, strata: Rows | None, groups: Rows | None = None
) -> tuple[Rows, Rows]:
    """Splits the row numbers into train and validation, each stratum in the same proportion as far as it divides.

    Args:
        rows: how many rows there are.
        percentage: share of validation, in percent.
        seed: the same seed gives the same cut.
        strata: the number of each row's stratum (its label), `[rows]`; `None` for a plain random cut.
        groups: the number of each row's group, `[rows]`, where rows of a group stay together, unless there is one only;
            then the cut is by chance alone, and the share at most `percentage`, but for the smallest group.

    Returns:
        Sorted row numbers of train and of validation; at least one row each.

    Raises:
        UserError: too few rows for two parts.
    """
    if rows < 2:
        raise UserError(
            f"cannot cut a validation split from {rows} row: set validation_file or validation_split_percentage: 0"
        )
    wanted = min(max(1, round(rows * percentage / 100)), rows - 1)
    if groups is not None and (groups != groups[0]).any():
        return _cut_groups(groups, wanted, seed)
    if strata is None:
        strata = np.zeros(rows, np.int64)
    shuffled = np.random.default_rng(seed).permutation(rows)
    keys, sizes = np.unique(strata, return_counts=True)
    taken = dict(zip(keys.tolist(), _shares(sizes, wanted).tolist(), strict=True))
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    parts = np.split(by_stratum, np.cumsum(sizes)[:-1])
    validation = np.concatenate([part[: taken[key]] for key, part in zip(keys.tolist(), parts, strict=True)])
    train = np.ones(rows, bool)
    train[validation] = False
    return np.flatnonzero(train), np.sort(validation)


def _cut_groups(groups: Rows, wanted: int, seed: int) -> tuple[Rows, Rows]:
    """Takes groups in random order as long as they fit."""
    _, whose, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    chosen = np.zeros(len(sizes), bool)
    left, waiting = wanted, order
    while len(waiting := waiting[sizes[waiting] <= left]):
        fits = sizes[waiting].cumsum() <= left
        chosen[waiting[fits]] = True
        left -= int(sizes[waiting[fits]].sum())
        waiting = waiting[~fits]
    if not chosen.any():
        chosen[order[sizes[order].argmin()]] = True
    return np.flatnonzero(~chosen[whose]), np.flatnonzero(chosen[whose])


def same_texts(cells: Iterable[Any]) -> Rows:
    """Numbers texts so that equal ones have the same number, `[rows]`; an empty one is like no other."""
    hashes = np.fromiter(
        (max(1, xxh3_64_intdigest(str(cell).encode("utf-8", "surrogatepass"))) if cell else 0 for cell in cells),
        np.uint64,
    )
    numbers: Rows = np.unique(hashes, return_inverse=True)[1].astype(np.int64)
    empty = np.flatnonzero(hashes == 0)
    numbers[empty] = len(numbers) + np.arange(len(empty))
    return numbers


def _shares(sizes: Rows, wanted: int) -> Rows:
    """Deals `wanted` rows out in proportion to the sizes; by largest remainder, so that the parts add up to it."""
    exact = sizes * wanted / sizes.sum()
    taken: Rows = exact.astype(np.int64)
    by_remainder = np.lexsort((-sizes, taken - exact))
    while (missing := wanted - int(taken.sum())) > 0:
        # a stratum's last row stays in train: validation must not hold a label that train lacks
        with_room = by_remainder[taken[by_remainder] < sizes[by_remainder] - 1]
        if not len(with_room):
            with_room = by_remainder[taken[by_remainder] < sizes[by_remainder]]
        taken[with_room[:missing]] += 1
    return taken


def rows_kept(rows: int, limit: int | None, seed: int, head: bool) -> Rows | None:
    """Returns at most `limit` row numbers, a seeded sample in order or the first with `head`; `None` for all."""
    if limit is None or limit >= rows:
        return None
    if head:
        return np.arange(limit)
    return np.sort(np.random.default_rng(seed).choice(rows, size=limit, replace=False))
