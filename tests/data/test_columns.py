import pytest

from lit_ft.data.reading.columns import as_list, check_columns, guess_label_column, guess_text_columns
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
