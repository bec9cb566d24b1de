"""What a data module holds, for people: rows as its batches hold them, figures of its sets, what is wrong with them."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from lit_ft.data.ordering.orders import shuffled
from lit_ft.data.reading.raw import Split
from lit_ft.data.viewing.findings import Finding, batch_findings, label_findings, row_findings
from lit_ft.data.viewing.row_views import RowView
from lit_ft.data.viewing.set_figures import SetFigures, set_figures
from lit_ft.datamodules.batch_notes import figures_of


def view(data: Any, kind: Split, name: str, index: int) -> RowView:
    """Shows one feature of a set as the model will see it.

    Args:
        data: the data module, set up.
        kind: the split.
        name: of the set among those of the split.
        index: which of its features.
    """
    features = data.features[kind][name]
    row, first = int(features.row_of_feature[index]), int(index)
    while first and features.row_of_feature[first - 1] == row:
        first -= 1
    windows = 1 if features.windows is None else int(features.windows[row])
    batch = data.batch_of(kind, [features[(0, index)]])
    source, number = data.source_of_row(row) if kind == "train" else ("", row)
    title, lost = data.known_rows.get(kind, {}).get(name, {}).get(row, (None, 0))
    if windows > 1:
        title = f"{title or f'row {number + 1}'}, window {index - first + 1} of {windows}"
    if title and source:
        title = f"{source}: {title}"
    return RowView(tuple(data.sequences(batch)), data.label_of(batch), title, lost)


def some_views(data: Any, kind: Split, name: str, count: int) -> Iterator[RowView]:
    """Shows some rows of a set, always the same ones: each as its first feature."""
    rows = data.features[kind][name].row_of_feature
    known = np.array([*data.known_rows.get(kind, {}).get(name, {})], np.int64)
    known = known[np.isin(known, rows)]
    places = np.searchsorted(rows, known) if len(known) else shuffled(len(rows), 0, 0)
    return (view(data, kind, name, int(place)) for place in places[:count])


def figures(data: Any) -> list[SetFigures]:
    """Counts what each set of the stage at hand holds; several sources of training rows are one set."""
    made = []
    for kind, sets in data.features.items():
        for name, features in sets.items():
            reports = [
                one
                for one in data.report["sets"]
                if one["split"] == kind and (kind == "train" or one["name"] in ("", name))
            ]
            if reports:
                counts = {} if kind == "predict" else data.label_counts(features.store)
                made.append(set_figures(features.store, _together(reports, name), data.unknown_id, counts))
    return made


def findings(data: Any, sets: list[SetFigures], of_batches: dict[str, Any]) -> list[Finding]:
    """Says what is worth a thought in the stage at hand, in order of gravity.

    Args:
        data: the data module, set up.
        sets: what `figures` returned.
        of_batches: what `batches` returned.
    """
    of_rows = row_findings(data.report, data.kinds_of_bad_rows)
    of_labels = label_findings(sets) if data.learns_classes else []
    return [*of_rows, *of_labels, *batch_findings(of_batches)]


def summary(data: Any) -> dict[str, Any]:
    """Returns figures, batches and findings of the stage at hand as plain JSON."""
    sets, of_batches = figures(data), batches(data)
    found = [asdict(finding) for finding in findings(data, sets, of_batches)]
    return {"sets": sets, "batches": of_batches, "findings": found}


def batches(data: Any) -> dict[str, Any]:
    """Returns what the batches of an epoch hold, and how much of them is padding by this and other orders.

    Of streams, and where no training rows are at hand, it returns nothing.
    """
    if "train" not in data.features or data.hparams["streaming"]:
        return {}
    store, order, (replicas, rank) = data.features["train"][""].store, data.training_order, data.processes
    chosen = figures_of(data, data._train_sampler)
    padding = {}
    for strategy in ("random", "group_by_length"):
        # where every row has the same length, grouping is refused; what it would save, which is nothing, can be said
        other = replace(order, strategy=strategy, max_tokens=None, static_length=None)
        sampler = other.sampler(store, data._train_sizes, data._own_order, data.hparams["batch_size"], replicas, rank)
        padding[strategy] = round(figures_of(data, sampler).padding, 4)
    return {
        "steps": chosen.steps,
        "rows": round(float(chosen.rows.mean()), 1),
        "tokens": int(chosen.tokens.sum()),
        "padding": round(chosen.padding, 4),
        "padding_of": padding,
    }


def _together(reports: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Adds up what the row checks say of the sources of a set."""
    cut = sum(one["found"].get("cut", {}).get("count", 0) for one in reports)
    sums = {key: sum(one.get(key, 0) for one in reports) for key in ("rows", "kept", "tokens_lost")}
    place = ", ".join(one["place"] for one in reports)
    return {"split": reports[0]["split"], "name": name, "place": place, **sums, "found": {"cut": {"count": cut}}}
