"""Which columns are text and label: as asked for, as known, or guessed; two readings are an error."""

import pytest
from datasets import Value

from lit_ft.data.reading.columns import (
    as_list,
    check_columns,
    find_text_columns,
    guess_label_column,
    guess_text_columns,
    string_column,
    texts_of,
)
from lit_ft.errors import UserError


@pytest.mark.parametrize(("names", "wanted"), [(None, []), ("a", ["a"]), (["a", "b"], ["a", "b"])])
def test_as_list(names: object, wanted: list[str]) -> None:
    assert as_list(names) == wanted


@pytest.mark.parametrize(
    ("present", "labels", "wanted"),
    [
        (["id", "text", "label"], ["label"], (["text"], [])),
        (["sentence", "label", "idx"], ["label"], (["sentence"], [])),
        (["sentence1", "sentence2", "label", "idx"], ["label"], (["sentence1"], ["sentence2"])),
        (["idx", "hypothesis", "premise"], [], (["premise"], ["hypothesis"])),
        (["question", "sentence", "label"], ["label"], (["question"], ["sentence"])),
        (["review", "stars"], ["stars"], (["review"], [])),
    ],
)
def test_text_columns(present: list[str], labels: list[str], wanted: tuple) -> None:
    assert guess_text_columns(present, labels, "x") == wanted


@pytest.mark.parametrize(
    "present",
    [
        ["a", "b"],
        ["text", "sentence"],
        ["text", "premise", "hypothesis"],
        ["question1", "question2", "premise", "hypothesis"],
    ],
)
def test_two_readings_are_refused(present: list[str]) -> None:
    with pytest.raises(
        UserError, match=r"train\.csv: which column is the text\? columns: \[.*\]; set text_column_names"
    ):
        guess_text_columns(present, [], "train.csv")


@pytest.mark.parametrize(
    ("present", "wanted"), [("text label", ["label"]), ("labels", ["labels"]), ("label labels", []), ("a", [])]
)
def test_label_column(present: str, wanted: list[str]) -> None:
    assert guess_label_column(present.split()) == wanted


def test_misspelt_column() -> None:
    check_columns(["text"], ["text", "label"], "train.csv")
    with pytest.raises(
        UserError, match=r"train\.csv has no column 'txet'; columns: \['text', 'label'\] — did you mean 'text'\?"
    ):
        check_columns(["label", "txet"], ["text", "label"], "train.csv")


def test_texts_of_several_columns_are_joined() -> None:
    rows = {"a": ["x", None], "b": [1, "y"]}
    assert texts_of(rows, ["a"]) == ["x", ""]
    assert texts_of(rows, ["a", "b"], " | ") == ["x | 1", " | y"]


def test_the_column_of_strings() -> None:
    features = {"n": Value("int64"), "a": Value("string"), "b": Value("large_string")}
    assert string_column(features, "b", "here") == "b"
    assert string_column({**features, "text": Value("string")}, None, "here") == "text"
    assert string_column({"n": features["n"], "b": features["b"]}, None, "here") == "b"
    for given, message in (
        ("n", "here: column 'n' holds int64, not text; columns of text: \\['a', 'b'\\]"),
        ("c", "here has no column 'c'"),
        (None, "here: which column is the text"),
    ):
        with pytest.raises(UserError, match=message):
            string_column(features, given, "here")
    with pytest.raises(UserError, match=r"here: no column of text; columns: \{'n': 'int64'\}"):
        string_column({"n": features["n"]}, None, "here")


def test_columns_are_as_asked_for_as_known_or_as_guessed() -> None:
    present, known = (
        ["text", "other", "label"],
        {"text_columns": ["other"], "pair_columns": [], "label_columns": ["text"]},
    )
    assert find_text_columns(present, "x", "other", "text", "", {}) == (["other"], ["text"], ["label"], False)
    assert find_text_columns(present, "x", "", "", "", known) == (["other"], [], ["text"], False)
    assert find_text_columns(present, "x", "", "", "", {}) == (["text"], [], ["label"], True)
    assert find_text_columns(present, "x", "", ["other"], "text", {})[1:] == (["other"], ["text"], True)
