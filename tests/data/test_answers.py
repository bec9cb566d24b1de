"""Answers in every shape that data sets have, and their places in the context: found, repaired, or named."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_ft.data.answers.places import State, answer_spans, note_on_states, place
from lit_ft.data.reading.formats.answers import Answer, answer_key, read_answers, with_starts
from lit_ft.errors import RowError

PAIR = [Answer("blue", 4), Answer("a blue whale", 2)]
STRUCT = {"text": ["blue", "a blue whale"], "answer_start": [4, 2]}
ROWS = [{"text": "blue", "answer_start": 4}, {"text": "a blue whale", "answer_start": 2}]


OTHER_NUMBERS = {**STRUCT, "answer_start": [4.0, "2"]}


@pytest.mark.parametrize("cell", [STRUCT, ROWS, json.dumps(STRUCT), json.dumps(ROWS), str(STRUCT), OTHER_NUMBERS])
def test_shapes_of_answers(cell: object) -> None:
    assert read_answers(cell) == PAIR


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (["blue", "a blue"], [Answer("blue", None), Answer("a blue", None)]),
        ({"text": ["blue"]}, [Answer("blue", None)]),
        ({"text": "blue", "answer_start": 4}, [Answer("blue", 4)]),
        ("blue", [Answer("blue", None)]),
        ("[blue", [Answer("[blue", None)]),  # a bracket is no JSON yet
        ({"text": [], "answer_start": []}, []),
        ([], []),
        ("[]", []),
        ({"text": ["", " "], "answer_start": [0, 0]}, []),
        (None, None),
        ("  ", None),
        ({"text": None, "answer_start": None}, None),
    ],
)
def test_texts_alone_no_answer_and_no_label(cell: object, expected: list[Answer] | None) -> None:
    assert read_answers(cell) == expected


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"text": ["a", "b"], "answer_start": [1]}, "2 texts, but 1 answer_start"),
        ({"answers": ["a"]}, "expected {'text'"),
        ([1, 2], "expected {'text'"),
        (7, "expected {'text'"),
        ({"text": ["a"], "answer_start": ["x"]}, "answer_start 'x'"),
        ({"text": [3], "answer_start": [0]}, "text 3"),
        ({"text": ["a"], "answer_start": [0.5]}, "answer_start 0.5"),
    ],
)
def test_other_shapes_are_named(cell: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_answers(cell)


def test_places_of_a_column_of_their_own() -> None:
    cells = ["blue", ["blue", "a blue"], "blue", "[]", None, STRUCT, json.dumps(["a"]), "blue", "blue"]
    starts = [4, [4, 2], None, 9, 3, 7, "[6]", float("nan"), "5"]
    assert [read_answers(cell) for cell in with_starts(cells, starts)] == [
        [Answer("blue", 4)], [Answer("blue", 4), Answer("a blue", 2)], [Answer("blue", None)], [], None, PAIR,
        [Answer("a", 6)], [Answer("blue", None)], [Answer("blue", 5)],
    ]  # fmt: skip


CONTEXT = "The sky is blue.\n\nThe sea  is blue, too: blue."


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer("blue", 11), ("blue", 11, State.EXACT)),
        (Answer(" blue", 10), ("blue", 11, State.EXACT)),  # white space around it goes
        (Answer("blue", 12), ("blue", 11, State.MOVED)),
        (Answer("blue", 28), ("blue", 30, State.MOVED)),
        (Answer("blue", 400), ("blue", 41, State.MOVED)),
        (Answer("blue", -1), ("blue", 11, State.MOVED)),
        (Answer("blue", None), ("blue", 11, State.SEARCHED)),
        (Answer("sea is blue", 20), ("sea  is blue", 22, State.MOVED)),
        (Answer("blue. The", None), ("blue.\n\nThe", 11, State.SEARCHED)),
    ],
)
def test_answers_are_found(answer: Answer, expected: tuple[str, int, State]) -> None:
    found = place(CONTEXT, answer)
    assert found is not None
    start, end, state = found
    assert (CONTEXT[start:end], start, state) == expected


@given(st.text("ab ", min_size=1, max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(-2, 14))
def test_the_nearest_occurrence_is_taken(context: str, text: str, said: int) -> None:
    every = [start for start in range(len(context)) if context.startswith(text, start)]
    found = place(context, Answer(text, said))
    if not every:
        assert found is None
    else:
        assert found is not None
        assert found[:2] == (nearest := min(every, key=lambda start: abs(start - said)), nearest + len(text))
        assert (found[2] == State.EXACT) == (said in every)


def test_an_answer_that_is_nowhere_is_named_or_dropped() -> None:
    contexts, cells = [CONTEXT] * 4, [STRUCT, "green", None, []]
    with pytest.raises(RowError, match=r"answer 'green' of question 'q1' is not in its context .*on_bad_answer: drop"):
        answer_spans(contexts, cells, ["q0", "q1", "q2", "q3"], "error")
    spans = answer_spans(contexts, cells, [None] * 4, "drop")
    assert spans.state.tolist() == [State.MOVED, State.LOST, State.UNLABELLED, State.UNANSWERABLE]
    assert spans.start.tolist() == [11, -1, -1, -1]
    with pytest.raises(RowError, match="row 2, answers of question 'q1': found 7, expected"):
        answer_spans(contexts, [STRUCT, 7, None, []], ["q0", "q1", "q2", "q3"], "error")


def test_repairs_are_said() -> None:
    assert note_on_states(np.array([1, 2, 3, 0, 0, 0])) == ""
    note = note_on_states(np.array([0, 0, 7, 2, 1, 3]))
    assert note.startswith("2 of 13 answers stand elsewhere")
    assert "; 1 of 13 answers come without answer_start" in note
    assert "; 3 of 13 answers are not in their context" in note


def test_rows_are_compared_by_their_different_answers() -> None:
    assert answer_key(["b", "a", "b "]) == ["a", "b"]
    assert answer_key([]) == []
    assert answer_key(None) is None


@pytest.mark.parametrize(("cell", "expected"), [
    ("[1]", [Answer("[1]", None)]),
    ("{1: 2}", [Answer("{1: 2}", None)]),
    ({"text": ["blue"], "answer_start": 4}, [Answer("blue", 4)]),
    ({"text": "blue", "answer_start": [4]}, [Answer("blue", 4)]),
])  # fmt: skip
def test_citations_and_shapes_that_are_nearly_right(cell: object, expected: list[Answer]) -> None:
    assert read_answers(cell) == expected


def test_a_text_that_is_none() -> None:
    with pytest.raises(ValueError, match="text 5 with answer_start 1"):
        read_answers({"text": 5, "answer_start": 1})
