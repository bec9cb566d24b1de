"""Features of one set, as they were tokenized -> the features that a task makes of all of them together, on disk."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lit_ft.data.features.ragged import Column, length_of
from lit_ft.data.features.store import FeatureStore, FeatureWriter
from lit_ft.data.grouping.blocks import Grouping
from lit_ft.errors import UserError


def regrouped(folder: Path, grouping: Grouping, place: str) -> list[str]:
    """Replaces the files of a set by those of its groups, in memory that does not grow with the set.

    Args:
        folder: where `features-*.arrow` (and `kept.npy`, the features that count) lie.
        grouping: makes the groups.
        place: what the set is called in messages.

    Returns:
        What there is to say of the result.

    Raises:
        UserError: nothing comes out.
    """
    paths, kept = sorted(folder.glob("features-*.arrow")), folder / "kept.npy"
    store = FeatureStore(paths, np.load(kept, mmap_mode="r") if kept.exists() else None)
    target = folder / "grouped.arrow"
    with FeatureWriter(target) as writer:
        for columns in _groups(store, grouping):
            size = length_of(columns.values())
            # a group is a row of its own: it has parts of many, and many may have parts of one
            writer.add({**columns, "row": np.arange(writer.features, writer.features + size)})
    if not writer.features:
        raise UserError(f"{place}: {grouping.nothing()}")
    for path in [*paths, kept]:
        path.unlink(missing_ok=True)
    target.rename(folder / "features-00000.arrow")
    return [f"{place}: {note}" for note in grouping.notes()]


def _groups(store: FeatureStore, grouping: Grouping) -> Iterator[dict[str, Column]]:
    for columns in store.pieces():
        yield grouping.add(columns)
    yield grouping.finish()
