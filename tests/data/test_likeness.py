"""Which columns hold texts that belong together, and the numbers that they become."""

import numpy as np
import pytest
from datasets import Dataset

from lit_ft.data.labels import IGNORED
from lit_ft.data.likeness.columns import find_mark, find_texts
from lit_ft.data.likeness.numbers import label_names, label_numbers, number_of, scores
from lit_ft.data.reading.raw import RawRows
from lit_ft.errors import RowError, UserError


def rows(**columns: list[object]) -> RawRows:
    return RawRows(Dataset.from_dict(columns), "here")


@pytest.mark.parametrize(
    ("columns", "texts"),
    [
        ({"id": [1], "positive": ["b"], "anchor": ["a"]}, ["anchor", "positive"]),
        ({"query": ["a"], "pos": ["b"], "neg_2": ["d"], "neg": ["c"]}, ["query", "pos", "neg", "neg_2"]),
        ({"query": ["a"], "positive": ["b"], "negative": ["c"]}, ["query", "positive", "negative"]),
        ({"anchor": ["a"], "question": ["b"], "answer": ["c"]}, ["question", "answer"]),
        ({"positive": ["a"], "negative": ["b"], "text1": ["c"], "text2": ["d"]}, ["text1", "text2"]),
        ({"text": ["a"], "other": ["b"], "label": ["c"]}, ["text"]),
        ({"words": ["a"], "label": ["c"]}, ["words"]),
    ],
)
def test_columns_say_by_their_names_what_they_are_for(columns: dict[str, list[object]], texts: list[str]) -> None:
    assert find_texts(rows(**columns), {}, predicting=False) == texts


def test_a_checkpoint_knows_its_columns() -> None:
    known = {"columns": ["mine", "yours"]}
    assert find_texts(rows(text=["a"], mine=["b"]), known, predicting=True) == ["mine"]
    with pytest.raises(UserError, match="here: which columns are anchor and positive"):
        find_texts(rows(a=["a"], b=["b"]), {}, predicting=True)
    with pytest.raises(UserError, match="here: which columns are anchor and positive"):
        find_texts(rows(positive=["a"], negative=["b"]), {}, predicting=False)


def test_what_is_known_of_texts() -> None:
    pairs = rows(text1=["a"], text2=["b"], label=[0.5], score=[1])
    assert find_mark(pairs, ["text1", "text2"], {}, None, "") == {"score": "score"}
    assert find_mark(pairs, ["text1", "text2"], {}, "label", "") == {"score": "label"}
    assert find_mark(pairs, ["text1", "text2"], {}, "", "") == {}
    assert find_mark(pairs, ["text1"], {}, None, "") == {"label": "label"}
    trained, others = {"score_column": "mine"}, rows(text1=["a"], text2=["b"], mine=[0.5])
    assert find_mark(others, ["text1", "text2"], {}, None, "") == {}
    assert find_mark(others, ["text1", "text2"], trained, None, "") == {"score": "mine"}
    assert find_mark(others, ["text1", "text2"], trained, "", "") == {}
    with pytest.raises(UserError, match="for rows of one text"):
        find_mark(pairs, ["text1", "text2"], {}, None, "label")
    with pytest.raises(UserError, match="alone is like nothing"):
        find_mark(rows(text=["a"]), ["text"], {}, None, "")


def test_numbers_of_texts_labels_and_scores() -> None:
    assert number_of("a") == number_of("a") != number_of("b")
    assert 0 <= number_of("\ud800") < 2**63
    assert label_numbers(["a", None, " ", 1]).tolist() == [number_of("a"), IGNORED, IGNORED, number_of("1")]
    assert label_numbers([-1, float("nan"), "-1", -1.0, "b"]).tolist() == [IGNORED] * 4 + [number_of("b")]
    assert scores(["0.5", 1], "score").dtype == np.float32
    np.testing.assert_array_equal(scores([None, "", -1], "score"), np.array([np.nan, np.nan, -1], np.float32))
    with pytest.raises(RowError, match="score is 'x', not a number") as raised:
        scores([1, "x"], "score")
    assert raised.value.row == 1
    assert label_names({"": rows(label=["b10", "b9", None, "", "-1"])}, "label") == ["b9", "b10"]
    assert label_names({"": rows(label=list(range(2000)))}, "label") is None
