"""Choices in every form that data sets have, and every way to say which one is right."""

import re
from typing import Any

import pytest

from lit_ft.data.choices.rows import ChoiceLabels, LabelKind, LabelVotes, check_enough, read_choices
from lit_ft.errors import RowError, UserError

TEXTS = ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("rows", "columns", "names"),
    [
        ({"c1": ["red"], "c2": ["green"], "c3": ["blue"]}, ["c1", "c2", "c3"], ["c1", "c2", "c3"]),
        ({"options": [TEXTS]}, ["options"], None),
        ({"choices": [{"text": TEXTS, "label": ["A", "B", "C"]}]}, ["choices"], ["A", "B", "C"]),
        ({"choices": [{"text": TEXTS, "label": [1, 2, 3]}]}, ["choices"], ["1", "2", "3"]),
        ({"choices": [{"text": TEXTS}]}, ["choices"], None),
        (
            {"choices": [[{"text": text, "label": name} for text, name in zip(TEXTS, "ABC", strict=True)]]},
            ["choices"],
            ["A", "B", "C"],
        ),
    ],
)
def test_forms_of_choices(rows: dict[str, Any], columns: list[str], names: list[str] | None) -> None:
    (choices,) = read_choices(rows, columns)
    assert choices == (TEXTS, [0, 1, 2], 3, names)


def test_empty_cells_are_no_choices_and_the_others_keep_their_places() -> None:
    rows: dict[str, list[Any]] = {"a": ["x", " ", 1], "b": [None, "y", 2], "c": ["z", float("nan"), 3]}
    found = read_choices(rows, ["a", "b", "c"])
    assert [each.texts for each in found] == [["x", "z"], ["y"], ["1", "2", "3"]]
    assert [each.places for each in found] == [[0, 2], [1], [0, 1, 2]]
    assert found[0].spread([0.25, 0.75]) == [0.25, None, 0.75]
    labels = ChoiceLabels("label", "index")
    assert labels.encode([2, 1, 0], found, strict=True) == ([1, 0, 0], [False] * 3)
    with pytest.raises(RowError, match="label 1 is choice 2, which is empty"):
        labels.encode([1], found, strict=True)
    assert labels.encode([1], found[:1], strict=False) == ([-100], [True])
    with pytest.raises(RowError, match="row 2, one choice only, 'y': a row needs two or more"):
        check_enough(found)
    assert read_choices({"options": [None]}, ["options"])[0].texts == []
    with pytest.raises(RowError, match="no choices"):
        check_enough(read_choices({"options": [["a", "b"], None]}, ["options"]))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("red, green", "row 1, column 'options': 'red, green' is no list of choices; name a column for each choice"),
        ({"txt": ["a"]}, "the choices have ['txt']; expected 'text'"),
        ({"text": ["a", "b"], "label": ["A"]}, "2 choices, but 1 labels"),
    ],
)
def test_cells_that_hold_no_choices(cell: Any, message: str) -> None:
    with pytest.raises(RowError, match=re.escape(message)):
        read_choices({"options": [cell]}, ["options"])


def kind_of(cells: list[Any], rows: dict[str, list[Any]], columns: list[str]) -> LabelKind:
    votes = LabelVotes("label", 0)
    votes.add(cells, read_choices(rows, columns))
    return votes.winner("rows.csv")


NAMED = {"choices": [{"text": TEXTS, "label": ["A", "B", "C"]}, {"text": TEXTS, "label": ["1", "2", "3"]}]}
LISTS = {"options": [TEXTS, TEXTS]}
COLUMNS = {"choice1": ["red", "red"], "choice2": ["green", "green"]}


@pytest.mark.parametrize(
    ("cells", "rows", "kind", "places"),
    [
        (["B", "3"], NAMED, "name", [1, 2]),  # ARC
        (["choice2", "choice1"], COLUMNS, "name", [1, 0]),  # COPA on the hub: names of a ClassLabel
        ([1, 0], COLUMNS, "index", [1, 0]),
        (["2", "0"], LISTS, "index", [2, 0]),  # HellaSwag
        ([2.0, 0.0], LISTS, "index", [2, 0]),
        (["C", "a"], LISTS, "letter", [2, 0]),  # RACE
        (["blue", "red"], LISTS, "text", [2, 0]),
        (["B", ""], LISTS, "letter", [1, None]),
        (["1", "-1"], LISTS, "index", [1, None]),
        ([None, 2], LISTS, "index", [None, 2]),
    ],
)
def test_ways_to_say_which_one(cells: list[Any], rows: dict[str, Any], kind: str, places: list[int | None]) -> None:
    columns = list(rows)
    assert kind_of(cells, rows, columns) == kind
    labels, choices = ChoiceLabels("label", kind), read_choices(rows, columns)  # type: ignore[arg-type]
    found = [labels.place(cell, each) for cell, each in zip(cells, choices, strict=True)]
    assert found == places
    for cell, place, each in zip(cells, places, choices, strict=True):
        if place is not None:  # what a prediction would write
            assert str(labels.said(place, each)).lower() == str(cell).removesuffix(".0").lower()


def test_numbers_among_choices_that_are_numbers() -> None:
    rows = {"options": [["2", "0", "1"], ["1", "0", "2"]]}
    assert kind_of(["2", "0"], rows, ["options"]) == "index"  # both readings fit; `text` can be set
    assert ChoiceLabels("label", "text").place("2", read_choices(rows, ["options"])[0]) == 0


@pytest.mark.parametrize(
    ("kind", "cell", "message"),
    [
        ("index", 3, "label 3 is not from 0 to 2, .* 3 choices; do labels count from 1\\? then set first_label: 1"),
        ("index", "4", "label '4' is not from 0 to 2, the numbers of its 3 choices$"),
        ("index", "B", "label 'B' is not from 0 to 2"),
        ("letter", "D", "label 'D' is not from A to C, the letters of its 3 choices"),
        ("text", "bleu", "label 'bleu' is none of .*'red', 'green', 'blue'.* — did you mean 'blue'"),
        ("name", "E", "label 'E' is none of \\['A', 'B', 'C'\\]"),
    ],
)
def test_labels_that_are_no_choice(kind: Any, cell: Any, message: str) -> None:
    choices = read_choices(NAMED, ["choices"])[:1]
    with pytest.raises(RowError, match="row 1, column 'answer': " + message):
        ChoiceLabels("answer", kind).encode([cell], choices, strict=True)
    assert ChoiceLabels("answer", kind).encode([cell], choices, strict=False) == ([-100], [True])


def test_numbers_that_count_from_one() -> None:
    choices = read_choices(LISTS, ["options"])
    labels = ChoiceLabels("label", "index", first=1)
    assert labels.encode(["1", 3], choices, strict=True)[0] == [0, 2]
    assert labels.said(0, choices[0]) == 1
    with pytest.raises(RowError, match="label 0 is not from 1 to 3"):
        labels.encode([0], choices, strict=True)


def test_one_odd_cell_does_not_change_how_the_others_are_read() -> None:
    cells, rows = ["A", "B", "?", "C"], {"options": [TEXTS] * 4}
    assert kind_of(cells, rows, ["options"]) == "letter"
    with pytest.raises(RowError, match="row 3, column 'label': label '\\?' is not from A to C"):
        ChoiceLabels("label", "letter").encode(cells, read_choices(rows, ["options"]), strict=True)


@pytest.mark.parametrize(
    ("cells", "message"),
    [([None, "", -1], "no row has a label in column 'label'"), (["x", "?", "z"], "such as 'z', which are neither")],
)
def test_columns_that_say_nothing(cells: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=f"rows.csv: .*{message}"):
        kind_of(cells, {"options": [TEXTS] * 3}, ["options"])
