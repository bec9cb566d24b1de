"""What is made of the best spans of a document's windows; run_qa's way is compared in the module's tests."""

import math

import numpy as np
import pytest

from lit_ft.ops.decoding.answering import Candidates

CONTEXT = " a blue whale  sings"


def window(null: float, *spans: tuple[float, int, int]) -> Candidates:
    scores, starts, ends = np.array(spans, float).reshape(-1, 3).T
    return Candidates.of(scores.astype(np.float32), starts.astype(int), ends.astype(int), np.float32(null))


def test_a_span_of_two_windows_counts_once_and_loses_its_white_space() -> None:
    merged = Candidates.merged(
        [window(1.0, (3.0, 2, 7), (2.0, 14, 20), (1.0, 13, 15)), window(-2.0, (5.0, 3, 7), (-np.inf, 0, 0))], CONTEXT, 5
    )
    assert [CONTEXT[start:end] for start, end in zip(merged.starts, merged.ends, strict=True)] == ["blue", "sings"]
    assert merged.scores.tolist() == [5.0, 2.0]
    assert merged.null == -2.0  # a window with the answer says so; the others have none
    assert merged.null_odds == -7.0
    assert Candidates.merged([window(0.0, (3.0, 3, 7), (2.0, 15, 20))], CONTEXT, 1).scores.tolist() == [3.0]


@pytest.mark.parametrize(("threshold", "answer"), [(None, "blue"), (0.0, "blue"), (-2.0, "blue"), (-3.0, "")])
def test_null_is_among_the_best_in_any_case(threshold: float | None, answer: str) -> None:
    merged = Candidates.merged([window(1.0, (3.0, 3, 7), (2.0, 15, 20))], CONTEXT, 2)
    found = merged.prediction(CONTEXT, 2, threshold)
    assert found["answer"] == answer
    scores = np.array([3.0, 2.0] if threshold is None else [3.0, 2.0, 1.0])
    expected = np.exp(scores) / np.exp(scores).sum()
    assert [each["score"] for each in found["n_best"]] == pytest.approx(expected.tolist())
    assert found["score"] == pytest.approx(expected[2 if answer == "" else 0])
    assert ("no_answer_probability" in found) == (threshold is not None)
    assert found.get("no_answer_probability", expected[-1]) == pytest.approx(expected[-1])


def test_a_context_without_tokens_has_no_answer() -> None:
    merged = Candidates.merged([window(1.0)], "", 3)
    assert merged.best_text("") == ""
    assert merged.null_odds == math.inf
    assert merged.prediction("", 3, None) == {"answer": "", "score": 0.0, "start": 0, "end": 0, "n_best": []}
    found = merged.prediction("", 3, 5.0)
    assert (found["answer"], found["no_answer_probability"], found["null_odds"]) == ("", 1.0, None)


def test_the_only_one_written_is_still_the_best() -> None:
    found = window(2.0, (1.0, 3, 7), (0.5, 8, 13)).prediction(CONTEXT, 1, 5.0)
    assert (found["answer"], len(found["n_best"])) == ("blue", 1)


@pytest.mark.parametrize(
    ("context", "end", "answer"), [("में है", 1, "में"), ("cafe\u0301 x", 4, "cafe\u0301"), ("ab", 2, "ab")]
)
def test_marks_belong_to_the_letter_before_them(context: str, end: int, answer: str) -> None:
    assert Candidates.merged([window(0.0, (1.0, 0, end))], context, 3).best_text(context) == answer
