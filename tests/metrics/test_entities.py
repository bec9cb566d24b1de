"""Scores of entities against seqeval, on random sentences, in batches and over two processes."""

import random
from typing import Any

import pytest
from seqeval.metrics import classification_report
from seqeval.scheme import BILOU, IOB2, IOBES

from lit_ft.data.features.ragged import Ragged
from lit_ft.data.tags.schemes import TagScheme, TagTable
from lit_ft.metrics.entities import NAMES, EntityScores

Sentences = list[list[str]]


def pair(scheme: TagScheme) -> tuple[TagTable, Sentences, Sentences]:
    """Gold tags, and predictions that mostly agree."""
    table, rng = TagTable.for_types(["PER", "LOC", "ORG"], scheme), random.Random(2)
    gold = [[rng.choice(["O", *table.names]) for _ in range(rng.randint(1, 12))] for _ in range(300)]
    return table, gold, [[tag if rng.random() < 0.8 else rng.choice(table.names) for tag in row] for row in gold]


def ids(table: TagTable, rows: Sentences) -> Ragged:
    return Ragged.of([[table.names.index(tag) for tag in row] for row in rows])


def scored(table: TagTable, scheme: TagScheme, gold: Sentences, predicted: Sentences, size: int) -> EntityScores:
    metric = EntityScores(table.names, scheme)
    for start in range(0, len(gold), size):
        stop = start + size
        metric.update(ids(table, predicted[start:stop]), ids(table, gold[start:stop]))
    return metric


def report(gold: Sentences, predicted: Sentences, **mode: Any) -> dict[str, Any]:
    return dict(classification_report(gold, predicted, output_dict=True, zero_division=0, **mode))


@pytest.mark.parametrize("size", [7, 300])
@pytest.mark.parametrize("scheme", ["IO", "IOB1", "IOB2", "BIOES"])
def test_default_mode(scheme: TagScheme, size: int) -> None:
    table, gold, predicted = pair(scheme)
    metric, expected = scored(table, scheme, gold, predicted, size), report(gold, predicted)
    values = {name: float(value) for name, value in metric.compute().items()}
    assert list(values) == NAMES
    for suffix, theirs in (("", "micro avg"), ("_macro", "macro avg")):
        for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert values[name + suffix] == pytest.approx(expected[theirs][key], abs=1e-6), name + suffix
    assert 0.2 < values["f1"] < 0.95
    for row in metric.table_of_types():
        theirs_of_type = expected[row["label"]]
        assert row["support"] == theirs_of_type["support"] > 50
        assert row["f1"] == pytest.approx(theirs_of_type["f1-score"], abs=1e-6)


@pytest.mark.parametrize(("scheme", "theirs"), [("IOB2", IOB2), ("BIOES", IOBES), ("BILOU", BILOU)])
def test_strict_mode(scheme: TagScheme, theirs: type) -> None:
    table, gold, predicted = pair(scheme)
    expected = report(gold, predicted, mode="strict", scheme=theirs)["micro avg"]["f1-score"]
    found = float(scored(table, scheme, gold, predicted, 50).compute()["f1_strict"])
    assert found == pytest.approx(expected, abs=1e-6)
    assert 0.2 < found < 0.95


def test_a_type_that_is_only_predicted_has_its_part_in_the_means() -> None:
    table, gold, predicted = pair("IOB2")
    gold = [["O" if tag.endswith("LOC") else tag for tag in row] for row in gold]
    found, expected = scored(table, "IOB2", gold, predicted, 300).compute(), report(gold, predicted)["macro avg"]
    for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        assert float(found[f"{name}_macro"]) == pytest.approx(expected[key], abs=1e-6)


def test_two_processes_add_their_counts() -> None:
    table, gold, predicted = pair("IOB2")
    whole = scored(table, "IOB2", gold, predicted, 300)
    halves = [scored(table, "IOB2", gold[part], predicted[part], 300) for part in (slice(100), slice(100, None))]
    halves[0].counts += halves[1].counts  # what its `dist_reduce_fx`, a sum, does
    assert {name: float(value) for name, value in halves[0].compute().items()} == pytest.approx(
        {name: float(value) for name, value in whole.compute().items()}
    )


def test_nothing_found_and_nothing_there() -> None:
    metric = EntityScores(["O", "B-X", "I-X"], "IOB2")
    metric.update(Ragged.of([[0, 0]]), Ragged.of([[0, 0]]))
    assert set(map(float, metric.compute().values())) == {0.0}
