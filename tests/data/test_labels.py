"""Cells as labels, one, several or numbers: how they are read, told apart, sorted, aligned and encoded."""

import math

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from lit_ft.data.labels import (
    IGNORED,
    LabelEncoder,
    LabelReader,
    align_with_checkpoint,
    class_names,
    infer_problem_type,
    is_list_column,
    is_missing,
    is_multi_hot,
    is_no_category,
    natural_key,
    sorted_names,
)
from lit_ft.errors import RowError, UserError

PLAIN = Features({"label": Value("string")})


def reader(problem_type="single_label", columns=("label",), **options) -> LabelReader:
    return LabelReader(list(columns), problem_type, **{"names": None, "delimiter": None, "multi_hot": False, **options})


def read(cells: list, *args, **options) -> list:
    return reader(*args, **options).read({"label": cells})


def test_cells_that_hold_nothing_or_name_no_category() -> None:
    nothing, none, others = [None, math.nan, "", " \t"], [-1, -1.0, "-1", " -1 "], [0, 0.0, False, "0", "-", "-10", []]
    assert all(map(is_missing, nothing))
    assert not any(map(is_missing, none + others))
    assert all(map(is_no_category, nothing + none))
    assert not any(map(is_no_category, others))


def test_natural_order() -> None:
    assert sorted(["10", "2", "item10", "item9", "a"], key=natural_key) == ["2", "10", "a", "item9", "item10"]
    # a set's order must not decide between names that are equal numbers
    assert sorted_names({"1", "01", "001"}, reader()) == ["001", "01", "1"]


@pytest.mark.parametrize(
    ("cells", "options", "wanted"),
    [
        (["yes", " no "], {}, ["yes", "no"]),
        ([3, 10], {}, ["3", "10"]),
        ([1.0, 2.0], {}, ["1", "2"]),
        ([True, False], {}, ["true", "false"]),
        ([None, "", " ", math.nan, -1], {}, [None] * 5),
        ([0, 1, -1, None], {"names": ["no", "yes"]}, ["no", "yes", None, None]),
        ([0, "1", "yes"], {"names": ["no", "yes"]}, ["no", "yes", "yes"]),
        ([True, False], {"names": ["no", "yes"]}, ["yes", "no"]),
        ([True], {"names": ["False", "True"]}, ["true"]),
    ],
)
def test_single_labels(cells: list, options: dict, wanted: list) -> None:
    assert read(cells, **options) == wanted


@pytest.mark.parametrize(
    ("cells", "options", "wanted"),
    [
        ([["a", "b"], [], None], {}, [["a", "b"], [], None]),
        ([[0, 2], [1]], {"names": ["x", "y", "z"]}, [["x", "z"], ["y"]]),
        ([[0, 2], [1]], {}, [["0", "2"], ["1"]]),
        ([[1, 0, 1], [0.0, 0.0, 0.0]], {"names": ["x", "y", "z"], "multi_hot": True}, [["x", "z"], []]),
        ([[True, False]], {"multi_hot": True}, [["0"]]),
        (["a; b", "b", ""], {"delimiter": ";"}, [["a", "b"], ["b"], []]),
        ([3], {"delimiter": ";"}, [["3"]]),
    ],
)
def test_multi_labels(cells: list, options: dict, wanted: list) -> None:
    assert read(cells, "multi_label", **options) == wanted


@pytest.mark.parametrize(("names", "wanted"), [(None, ["a", "c"]), (["x", "y", "z"], ["x", "z"])])
def test_several_columns(names: list[str] | None, wanted: list[str]) -> None:
    cells = {"a": [1, None, 0], "b": [False, None, 0], "c": [1.0, None, 0]}
    assert reader("multi_label", "abc", names=names).read(cells) == [wanted, None, []]
    with pytest.raises(
        UserError, match=r"row 2, column \['a', 'b', 'c'\]: \[2, 0, 0\]: several label columns must hold"
    ):
        reader("multi_label", "abc").read({"a": [1, 2], "b": [0, 0], "c": [0, 0]})


def test_regression() -> None:
    assert read([1, 2.5, "3.5", None, ""], "regression") == [[1.0], [2.5], [3.5], None, None]
    assert read([[1, 2], None], "regression") == [[1.0, 2.0], None]
    assert reader("regression", "ab").read({"a": [1, 2], "b": [0.5, None]}) == [[1.0, 0.5], None]


@pytest.mark.parametrize(
    ("cells", "problem_type", "options", "message"),
    [
        ([1, 1.5], "single_label", {}, "row 2, .*1.5 is a number with a fraction, but problem_type is single_label"),
        ([["a"]], "single_label", {}, r"row 1, .*\['a'\] is a list, but problem_type is single_label"),
        (["a b"], "multi_label", {}, "'a b' is one string, but problem_type is multi_label: set label_delimiter"),
        ([["a"], 3], "multi_label", {}, "row 2, .*3 is no list of labels"),
        (["1", "good"], "regression", {}, "row 2, .*'good' is no number, but problem_type is regression"),
        ([[1, "x"]], "regression", {}, "'x' is no number"),
        ([0, 2], "single_label", {"names": ["a", "b"]}, "row 2, .*label id 2, but there are only 2 label names"),
        ([[0, 0, 1]], "multi_label", {"names": ["a", "b"], "multi_hot": True}, "label id 2, but there are only 2"),
    ],
)
def test_labels_under_the_wrong_problem_type(cells: list, problem_type: str, options: dict, message: str) -> None:
    with pytest.raises(RowError, match=message):
        read(cells, problem_type, **options)


@pytest.mark.parametrize(
    ("cells", "features", "delimiter", "wanted"),
    [
        (["a", "b"], PLAIN, None, "single_label"),
        ([1, 2], PLAIN, None, "single_label"),
        ([True, None], PLAIN, None, "single_label"),
        (["a;b"], PLAIN, ";", "multi_label"),
        ([["a"]], Features({"label": List(Value("string"))}), None, "multi_label"),
        ([0.5, 1.0, None], PLAIN, None, "regression"),
        ([f"{number % 50}" for number in range(200)], PLAIN, None, "single_label"),
    ],
)
def test_inferred_problem_type(cells: list, features: Features, delimiter: str | None, wanted: str) -> None:
    assert infer_problem_type({"label": cells}, features, delimiter) == wanted


@pytest.mark.parametrize(
    ("second", "wanted"), [([1, 0], "multi_label"), ([True, None], "multi_label"), ([0.5, 2.0], "regression")]
)
def test_inferred_problem_type_of_several_columns(second: list, wanted: str) -> None:
    assert infer_problem_type({"a": [0, 1], "b": second}, PLAIN, None) == wanted


def test_ambiguous_labels_are_refused() -> None:
    with pytest.raises(UserError, match=r"'label' holds floats without fractions \(such as 1\.0\): set problem_type"):
        infer_problem_type({"label": [1.0, 2.0]}, PLAIN, None)
    with pytest.raises(UserError, match=r"150 different values in 150 rows: is it the label\?"):
        infer_problem_type({"label": [f"id {number}" for number in range(150)]}, PLAIN, None)


def test_class_names_and_list_columns() -> None:
    features = Features(
        {"one": ClassLabel(names=["x"]), "many": List(ClassLabel(names=["x", "y"])), "text": Value("string")}
    )
    assert [class_names(features, name) for name in features] == [["x"], ["x", "y"], None]
    assert [is_list_column(features, name) for name in features] == [False, True, False]
    assert is_list_column(Dataset.from_list([{"label": ["a"]}]).features, "label")


@pytest.mark.parametrize(
    ("cells", "names", "wanted"),
    [
        ([[0, 1, 1], [0, 0, 0]], None, True),
        ([[0.0, 1.0, 1.0]], None, True),
        ([[True, False], [False, True]], None, True),
        ([[1, 0], [0, 1]], None, True),  # as ids, every row would have every label
        ([[1, 0], [0, 1]], ["a", "b", "c"], False),
        ([[0, 1], [1]], None, False),
        ([[0, 2, 1]], None, False),
        ([["a", "b"]], None, False),
        ([None], None, False),
        ([[0], [1]], None, False),
    ],
)
def test_multi_hot_vectors_are_told_from_ids(cells: list, names: list[str] | None, wanted: bool) -> None:
    assert is_multi_hot(cells, names) is wanted


def test_sorted_names() -> None:
    assert sorted_names(["b", None, "a", "b"], reader()) == ["a", "b"]
    assert sorted_names([["b"], None, ["a", "c"], []], reader("multi_label")) == ["a", "b", "c"]
    assert sorted_names([["a"]], reader("multi_label", "xy")) == ["x", "y"]
    assert sorted_names(["yes"], reader(names=["no", "yes"])) == ["no", "yes"]
    assert sorted_names([None, [1.0]], reader("regression")) == ["label"]
    assert sorted_names([None, [1.0, 2.0]], reader("regression")) == ["label_0", "label_1"]


@pytest.mark.parametrize(
    ("names", "checkpoint", "wanted"),
    [
        (["neg", "pos"], ["pos", "neg"], True),
        (["neg", "pos"], ["POS", "NEG", "neutral"], True),
        (["0", "1"], ["NEG", "POS"], True),
        (["0", "2"], ["NEG", "POS"], False),
        (["neg", "positive"], ["neg", "pos"], False),
        (["0", "1"], ["1", "2", "3"], False),  # `1` is a name there, and would be read as two things
    ],
)
def test_alignment_with_a_checkpoint(names: list[str], checkpoint: list[str], wanted: bool) -> None:
    assert align_with_checkpoint(names, checkpoint) == (checkpoint if wanted else None)


def encoder(problem_type: str, labels: list[str]) -> LabelEncoder:
    return LabelEncoder({"problem_type": problem_type, "labels": labels})


def test_encoding() -> None:
    single = encoder("single_label", ["POS", "NEG"])
    assert [single.encode(label) for label in ("neg", "POS", "0", "1", None)] == [1, 0, 0, 1, IGNORED]
    assert [encoder("single_label", ["a", "A"]).encode(label) for label in "aA"] == [0, 1]
    multi = encoder("multi_label", ["a", "b", "c"])
    assert [multi.encode(label) for label in (["c", "a"], [])] == [[1.0, 0.0, 1.0], [0.0] * 3]
    assert all(map(math.isnan, multi.encode(None)))
    assert encoder("regression", ["x", "y"]).encode([1.0, 2.0]) == [1.0, 2.0]
    assert math.isnan(encoder("regression", ["x"]).encode(None)[0])


@pytest.mark.parametrize(
    ("problem_type", "names", "label", "message"),
    [
        ("single_label", ["refund", "order"], "refnd", "label 'refnd' is unknown; .* — did you mean 'refund'"),
        ("multi_label", ["refund", "order"], ["order", "ordre"], "label 'ordre' is unknown; .* — did you mean 'order'"),
        ("single_label", ["1", "2", "5", "7"], "3", "label '3' is unknown"),  # not the id of `7`
        ("single_label", ["a", "b"], "2", "label '2' is unknown"),
        ("single_label", [f"l{number}" for number in range(30)], "x", "'l19'] and 10 more"),
        ("regression", ["x", "y"], [1.0], "1 numbers, but there are 2 targets"),
    ],
)
def test_encoding_refuses(problem_type: str, names: list[str], label: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoder(problem_type, names).encode(label)
