"""The columns of known data sets are found; two readings are an error."""

import pytest

from lit_ft.data.choices.columns import ChoiceLayout, guess_layout, missing_between, numbered
from lit_ft.errors import UserError


@pytest.mark.parametrize(
    ("present", "layout"),
    [
        (
            "video-id fold-ind startphrase sent1 sent2 gold-source ending0 ending1 ending2 ending3 label",
            ("sent1", "sent2", ["ending0", "ending1", "ending2", "ending3"], "label"),
        ),
        ("ind activity_label ctx_a ctx_b ctx endings source_id label", ("ctx", "", ["endings"], "label")),
        ("example_id article answer question options", ("article", "question", ["options"], "answer")),
        ("id question choices answerKey", ("", "question", ["choices"], "answerKey")),
        ("id question question_concept choices answerKey", ("", "question", ["choices"], "answerKey")),
        ("premise choice1 choice2 question idx label", ("premise", "question", ["choice1", "choice2"], "label")),
        ("category prompt ending0 ending1 label", ("prompt", "", ["ending0", "ending1"], "label")),
        (
            "id context question answer0 answer1 answer2 answer3 label",
            ("context", "question", ["answer0", "answer1", "answer2", "answer3"], "label"),
        ),
        ("goal sol1 sol2 label", ("", "goal", ["sol1", "sol2"], "label")),
        ("sent1 sent2 ending0 ending1", ("sent1", "sent2", ["ending0", "ending1"], "")),
        ("context question options answer label", ("context", "question", ["options"], "")),  # two labels: to be named
    ],
)
def test_known_data_sets(present: str, layout: tuple[str, str, list[str], str]) -> None:
    assert guess_layout(present.split(), "rows.csv") == ChoiceLayout(*layout)


@pytest.mark.parametrize(
    "present",
    [
        "text label",
        "sent1 sent2 ending0 label",
        "sent1 sent2 ending0 ending1 article question options label",
        "choices",
    ],
)
def test_none_or_two_readings(present: str) -> None:
    with pytest.raises(UserError, match="rows\\.csv: which columns are context, question and choices"):
        guess_layout(present.split(), "rows.csv")


@pytest.mark.parametrize(
    ("present", "lacking"),
    [
        ("sent1 sent2 ending0 ending2 label", "ending1"),
        ("question goal sol2 sol3 label", "sol1"),
        ("context question answerA answerB answerD", "answerC"),
        ("context question choice_b choice_c", "choice_a"),
    ],
)
def test_a_choice_that_is_left_out_is_named(present: str, lacking: str) -> None:
    with pytest.raises(UserError, match=f"rows.csv: there are choices in .*, but none in '{lacking}'"):
        guess_layout(present.split(), "rows.csv")


def test_choices_that_go_on_lack_nothing() -> None:
    complete = (["a0", "a1"], ["a1", "a2", "a3"], ["a_A", "a_B"], ["xa", "xb", "xc"], ["x_1", "x2"], ["options"])
    assert [missing_between(names) for names in complete] == [""] * 6


def test_numbered_columns_come_in_order() -> None:
    present = ["answerC", "answerA", "answerB", "answer10", "answer2", "answer", "answers1", "answer_3"]
    assert numbered(["option10", "option9", "option_1"], "option") == ["option9", "option10", "option_1"]
    assert numbered(["answerC", "answerA", "answerB", "answer"], "answer") == ["answerA", "answerB", "answerC"]
    assert "answers1" not in numbered(present, "answer")
