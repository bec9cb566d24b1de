"""What the labels of all sets are: names over several sources, counts, strata; where there are too many."""

import math

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from lit_ft.data import label_description
from lit_ft.data.label_description import DistinctCells, LabelColumns, count_labels, numbered_labels
from lit_ft.data.reading.raw import RawRows
from lit_ft.errors import RowError, UserError


def rows(cells: list, place: str = "t.csv", name: str = "label") -> RawRows:
    return RawRows(Dataset.from_dict({name: cells}), place)


def columns(kind: str | None = None, **options) -> LabelColumns:
    return LabelColumns(["label"], kind, **{"names": None, "delimiter": None, **options})


def test_distinct_cells_and_where_they_came_first() -> None:
    found = DistinctCells(["label"], [rows(["b", "a", "b", None, ""]), rows(["c", "a"], "u.csv")])
    assert found.columns == {"label": ["b", "a", None, "", "c"]}
    assert (found.rows, found.complete) == (5, True)
    assert [found.where(number) for number in (0, 4)] == ["t.csv: row 1", "u.csv: row 1"]
    floats = DistinctCells(["label"], [rows([math.nan, 1.0, math.nan, None])])
    assert len(floats.columns["label"]) == 3
    lists = DistinctCells(["label"], [rows([["a", "b"], ["a"], ["a", "b"]])])
    assert lists.columns["label"] == [["a", "b"], ["a"]]


def test_names_of_several_sources_are_one_list() -> None:
    notes: list[str] = []
    found = columns().describe([rows(["b", "a"]), rows(["c"], "u.csv")], None, False, notes)
    assert found == {"problem_type": "single_label", "multi_hot": False, "labels": ["a", "b", "c"]}
    assert notes == ["t.csv: labels read as single_label"]


def test_class_label_columns_of_another_order_name_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(names: list[str], ids: list[int]) -> RawRows:
        features = Features({"label": ClassLabel(names=names), "text": Value("string")})
        return RawRows(Dataset.from_dict({"label": ids, "text": ["x"] * len(ids)}, features=features), "d")

    one, other = named(["no", "yes"], [0, 1, -1]), named(["yes", "no"], [0, 1, 1])
    found = columns().describe([one, other], None, False, [])
    assert found["labels"] == ["no", "yes"]
    coder = columns().coder(found)
    (batch,) = other.batches(["label"])
    assert batch == {"label": ["yes", "no", "no"]}
    assert coder.encode(coder.read(batch), strict=True)[0].tolist() == [1, 0, 0]
    (batch,) = one.batches()
    assert coder.encode(coder.read(batch), strict=True)[0].tolist() == [0, 1, -100]


def test_more_labels_than_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_description, "MOST", 3)
    many = rows([f"l{number}" for number in range(9)])
    with pytest.raises(UserError, match=r"t\.csv: column 'label' has more than 3 different labels"):
        columns("single_label").describe([many], None, False, [])
    numbers = rows([number / 7 for number in range(9)])
    assert columns().describe([numbers], None, False, [])["problem_type"] == "regression"


def test_unknown_labels_are_errors_or_marked() -> None:
    found = {"problem_type": "single_label", "labels": ["a", "b"], "multi_hot": False}
    coder = columns().coder(found)
    labels = coder.read({"label": ["a", "c", None, "c", "b"]})
    with pytest.raises(RowError, match=r"row 2, column \['label'\]: label 'c' is unknown"):
        coder.encode(labels, strict=True)
    encoded, unknown = coder.encode(labels, strict=False)
    assert (encoded.tolist(), unknown.tolist()) == ([0, -100, -100, -100, 1], [False, True, False, True, False])


def test_counts() -> None:
    def counted(kind: str, names: list[str], labels: list) -> dict:
        total: dict = {}
        for part in (labels[:1], labels[1:]):
            count_labels(
                np.array(part).reshape(len(part), *np.shape(labels)[1:]), {"problem_type": kind, "labels": names}, total
            )
        return total

    single = counted("single_label", ["b", "a", "c"], [1, 1, -100, 0])
    assert single == {"label_counts": [1, 2, 0], "num_train_rows": 4}
    assert counted("multi_label", ["a", "b"], [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])["label_counts"] == [2, 1]
    assert counted("regression", ["x"], [[1.0]])["label_counts"] == []


def test_strata_are_numbers_by_label() -> None:
    assert numbered_labels(rows(["b", "a", "b", None, "a", None]), ["label"]).tolist() == [0, 1, 0, 2, 1, 2]
    assert numbered_labels(rows([[1], [2], [1], [1]]), ["label"]).tolist() == [0, 1, 0, 0]
    assert numbered_labels(rows([1.5, 2.5, 3.5]), ["label"]) is None


def test_more_combinations_of_labels_than_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_description, "MOST", 6)
    cells = [[f"l{number % 4}", f"m{number % 5 // 4}"] for number in range(40)]
    found = columns().describe([rows(cells)], None, False, [])
    assert (found["problem_type"], found["labels"]) == ("multi_label", ["l0", "l1", "l2", "l3", "m0", "m1"])


def test_targets_that_no_disk_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_description, "MOST_BYTES", 100)
    with pytest.raises(UserError, match=r"t\.csv: 40 labels make vectors"):
        columns().describe([rows([[f"l{number}"] for number in range(40)])], None, False, [])


@pytest.mark.parametrize("swapped", [False, True])
def test_ids_and_names_in_two_sources_are_the_same_labels(swapped: bool) -> None:
    features = Features({"label": ClassLabel(names=["neg", "pos"])})
    named = RawRows(Dataset.from_dict({"label": [0, 1]}, features=features), "named")
    sets = [rows([0, 1, 1]), named]
    assert columns().describe(sets[::-1] if swapped else sets, None, False, [])["labels"] == ["neg", "pos"]


def test_multi_label_vectors() -> None:
    coder = columns("multi_label").coder({"problem_type": "multi_label", "labels": ["a", "b"], "multi_hot": False})
    encoded, unknown = coder.encode(coder.read({"label": [["b"], [], ["c"], ["a", "b"]]}), strict=False)
    assert encoded[[0, 1, 3]].tolist() == [[0, 1], [0, 0], [1, 1]]
    assert np.isnan(encoded[2]).all()
    assert unknown.tolist() == [False, False, True, False]
    with pytest.raises(RowError, match=r"row 3, .*label 'c' is unknown"):
        coder.encode([["b"], [], ["c"]], strict=True)
