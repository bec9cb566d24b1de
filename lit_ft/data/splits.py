"""Cutting a validation split from train, and capping a split: seeded, stratified, the same on every machine."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from lit_ft.errors import UserError


def cut_validation(
    rows: int, percentage: float, seed: int, strata: Sequence[Hashable] | None
) -> tuple[list[int], list[int]]:
    """Splits the row numbers into train and validation, each stratum in the same proportion as far as it divides.

    Args:
        rows: how many rows there are.
        percentage: share of validation, in percent.
        seed: the same seed gives the same cut.
        strata: one key per row (its label); `None` for a plain random cut.

    Returns:
        Sorted row numbers of train and of validation; at least one row each.

    Raises:
        UserError: too few rows for two parts.
    """
    if rows < 2:
        raise UserError(
            f"cannot cut a validation split from {rows} row: set validation_file or validation_split_percentage: 0"
        )
    rng = np.random.default_rng(seed)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row in rng.permutation(rows).tolist():
        groups[strata[row] if strata is not None else None].append(row)
    wanted = min(max(1, round(rows * percentage / 100)), rows - 1)
    # largest remainder: the parts add up to `wanted` however small the strata are
    exact = {key: len(members) * wanted / rows for key, members in groups.items()}
    taken = {key: int(share) for key, share in exact.items()}
    by_remainder = sorted(groups, key=lambda key: (taken[key] - exact[key], -len(groups[key])))
    while (missing := wanted - sum(taken.values())) > 0:
        # a stratum's last row stays in train: validation must not hold a label that train lacks
        with_room = [key for key in by_remainder if taken[key] < len(groups[key]) - 1]
        for key in (with_room or [key for key in by_remainder if taken[key] < len(groups[key])])[:missing]:
            taken[key] += 1
    validation = sorted(row for key, members in groups.items() for row in members[: taken[key]])
    chosen = set(validation)
    return [row for row in range(rows) if row not in chosen], validation


def rows_kept(rows: int, limit: int | None, seed: int, head: bool) -> list[int] | None:
    """Returns at most `limit` row numbers, a seeded sample in order or the first with `head`; `None` for all."""
    if limit is None or limit >= rows:
        return None
    if head:
        return list(range(limit))
    return sorted(np.random.default_rng(seed).choice(rows, size=limit, replace=False).tolist())
