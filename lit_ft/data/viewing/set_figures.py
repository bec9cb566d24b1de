"""What a prepared set holds, in figures: rows, lengths, tokens, labels; plain JSON for previews and reports."""

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from lit_ft.data.features.ragged import Array, Ragged
from lit_ft.data.features.store import TARGETS, FeatureStore

PERCENTILES = (50, 90, 95, 99)
BINS = 20
"""Bars of a histogram."""
READ = 1 << 27
"""Tokens among which unknown ones are counted, for a run shall not wait for it."""


class Lengths(TypedDict):
    """How long the features of a set are, in tokens.

    Attributes:
        least: the shortest.
        mean: of all.
        percentiles: by percent, `{"50": 24, ...}`.
        most: the longest.
        total: tokens of all.
        edges: of the histogram's bars, one more than there are bars.
        counts: features in each bar.
    """

    least: int
    mean: float
    percentiles: dict[str, int]
    most: int
    total: int
    edges: list[int]
    counts: list[int]


class SetFigures(TypedDict):
    """What a set holds.

    Attributes:
        split: `train`, `validation`, `test` or `predict`.
        name: name of the set among those of its split; `""` = the only one.
        place: the file, or data set and split.
        rows: rows as they were read.
        kept: rows that are left.
        features: what the model reads of them: rows, windows or blocks.
        cut: rows that lose tokens.
        tokens_lost: tokens that they lose.
        lengths: of the features, by name of their side.
        unknown: unknown tokens, among the first 134 million or so.
        labels: features of each label.
    """

    split: str
    name: str
    place: str
    rows: int
    kept: int
    features: int
    cut: int
    tokens_lost: int
    lengths: dict[str, Lengths]
    unknown: int
    labels: dict[str, int]


def set_figures(
    store: FeatureStore, report: Mapping[str, Any], unknown_id: int | None, labels: dict[str, int]
) -> SetFigures:
    """Counts what a set holds.

    Args:
        store: its features.
        report: what the row checks say of it, a `SetReport`.
        unknown_id: id of the unknown token; `None` = there is none.
        labels: features of each label.
    """
    sides = {"tokens": "input_ids"} | ({"target tokens": TARGETS} if TARGETS in store.column_names else {})
    if store.most_sequences > 1:
        lengths = {"tokens of a row": store.lengths(), "tokens of the longest sequence": store.widths()}
    else:
        lengths = {title: store.lengths(name) for title, name in sides.items()}
    return {
        "split": report["split"],
        "name": report["name"],
        "place": report["place"],
        "rows": report["rows"],
        "kept": report["kept"],
        "features": len(store),
        "cut": report["found"].get("cut", {}).get("count", 0),
        "tokens_lost": report.get("tokens_lost", 0),
        "lengths": {title: describe_lengths(each) for title, each in lengths.items()},
        "unknown": 0 if unknown_id is None else _count(store, unknown_id),
        "labels": labels,
    }


def describe_lengths(lengths: Array) -> Lengths:
    """Returns the spread of lengths, `[features]`, at least one."""
    whole = lengths.astype(np.int64)
    least, most = int(whole.min()), int(whole.max())
    bins = min(BINS, most - least + 1)
    edges = np.unique(np.linspace(least, most + 1, bins + 1).astype(np.int64))
    counts, _ = np.histogram(whole, edges)
    found = np.percentile(whole, PERCENTILES, method="higher").astype(int).tolist()
    return {
        "least": least,
        "mean": round(float(whole.mean()), 1),
        "percentiles": {str(percent): value for percent, value in zip(PERCENTILES, found, strict=True)},
        "most": most,
        "total": int(whole.sum()),
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }


def _count(store: FeatureStore, token: int) -> int:
    total = read = 0
    for piece in store.pieces():
        ids = piece["input_ids"]
        assert isinstance(ids, Ragged)
        values = ids.values[ids.offsets[0] : ids.offsets[-1]]
        total, read = total + int((values == token).sum()), read + len(values)
        if read > READ:
            break
    return total
