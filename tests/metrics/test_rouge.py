"""ROUGE against rouge_score, row by row and in the mean; its bits against the table of the textbook; by hand."""

import pickle
import random
import sys
import unicodedata
from typing import Any

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from lit_ft.errors import UserError
from lit_ft.metrics.rouge import KINDS, Rouge
from lit_ft.metrics.subsequences import common_length, common_places, places
from lit_ft.metrics.word_rules import sentences, unicode_words
from tests.scored_texts import Rows, scored_rows


def fed(metric: Rouge, rows: Rows, size: int = 33) -> dict[str, float]:
    predictions, references = rows
    for start in range(0, len(predictions), size):
        metric.update(predictions[start : start + size], references[start : start + size])
    return {name: float(value) for name, value in metric.compute().items()}


def theirs(rows: Rows, **options: Any) -> Any:
    """rouge_score's precision, recall and F-measure, `[rows, kinds, 3]`."""
    scorer = RougeScorer(list(KINDS), **options)
    found = [scorer.score_multi(texts, prediction) for prediction, texts in zip(*rows, strict=True)]
    return np.array([[list(each[kind]) for kind in KINDS] for each in found])


class Slow(Tokenizer):
    """Letters, marks and digits of any script, looked up one by one."""

    def tokenize(self, text: str) -> list[str]:
        words, before = list[str](), "gap"
        for letter in unicodedata.normalize("NFKC", text).casefold():
            kind, name = unicodedata.category(letter)[0], unicodedata.name(letter, "")
            if kind in "LN" and name.startswith(("CJK", "HIRAGANA", "KATAKANA LETTER", "THAI CHARACTER")):
                words.append(letter)
                before = "whole"
            elif (kind == "M" and before != "gap") or (kind in "LN" and before == "open"):
                words[-1] += letter
            elif kind in "LMN":
                words.append(letter)
                before = "open"
            else:
                before = "gap"
        return words


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("use_stemmer", [False, True])
def test_every_row_is_rouge_scores(several: bool, use_stemmer: bool) -> None:
    rows = scored_rows(several)
    expected = theirs(rows, use_stemmer=use_stemmer)
    metric = Rouge(use_stemmer, split_summaries=False, precision_and_recall=True)
    found = np.array(metric.facts(*rows, None)).reshape(expected.shape)
    np.testing.assert_array_equal(found, expected)
    assert len({*expected[:, 0, 2].round(3)}) > 100
    means = fed(metric, rows)
    assert list(means)[:4] == ["rouge1_precision", "rouge1_recall", "rouge1", "rouge2_precision"]
    np.testing.assert_allclose([*means.values()], 100 * expected.mean(0).ravel(), atol=1e-5)
    usual = fed(Rouge(use_stemmer, split_summaries=False), rows, 520)
    assert usual == {kind: means[kind] for kind in KINDS}


def test_the_sum_of_sentences_is_rouge_scores_on_divided_texts() -> None:
    predictions, references = scored_rows(True)
    joined = (
        ["\n".join(sentences(text)) for text in predictions],
        [["\n".join(sentences(text)) for text in texts] for texts in references],
    )
    expected, whole = theirs(joined)[:, 3, 2].mean(), theirs((predictions, references))[:, 3, 2].mean()
    assert abs(expected - whole) > 1e-3
    assert fed(Rouge(), (predictions, references))["rougeLsum"] == pytest.approx(100 * expected, abs=1e-5)


def test_other_scripts() -> None:
    for text in ["北京 ABC中文, ｱｲｳ １２", "नमस्ते दुनिया! x_y", "สวัสดี ครับ", "Straße İstanbul über_alles e\u0301t"]:  # noqa: RUF001
        assert unicode_words(text) == Slow().tokenize(text), text
    assert unicode_words("Ｈello_Wörld 北京") == ["hello", "wörld", "北", "京"]  # noqa: RUF001
    rows = scored_rows(True, 1)
    expected = 100 * theirs(rows, tokenizer=Slow())[:, :, 2].mean(0)
    found = fed(Rouge(tokenizer="unicode", split_summaries=False), rows)
    np.testing.assert_allclose([*found.values()], expected, atol=1e-5)
    assert abs(found["rouge1"] - fed(Rouge(), rows)["rouge1"]) > 0.1
    for tokenizer, value in (("default", 0.0), ("unicode", 100.0)):
        metric = Rouge(tokenizer=tokenizer)  # type: ignore[arg-type]
        metric.update(["我喜欢猫"], [["我喜欢猫。"]])
        assert float(metric.compute()["rouge2"]) == value


def test_by_hand() -> None:
    metric = Rouge(precision_and_recall=True)
    # words: the cat sat down | the cat lay down there: 3 of 4 and of 5; pairs: the cat of 3 and 4; the cat down
    metric.update(["The cat sat down."], [["the CAT lay down there"]])
    found = {name: float(value) for name, value in metric.compute().items()}
    assert [found[f"rouge1{end}"] for end in ("_precision", "_recall", "")] == pytest.approx([75, 60, 100 * 2 / 3])
    assert [found[f"rouge2{end}"] for end in ("_precision", "_recall", "")] == pytest.approx([100 / 3, 25, 200 / 7])
    assert found["rougeL"] == pytest.approx(200 / 3)
    # sentences in another order: all of their words are found, but only one sentence is in common as a whole
    other = Rouge()
    other.update(["We slept. They ate fish."], [["They ate fish. We slept."]])
    assert float(other.compute()["rougeLsum"]) == pytest.approx(100)
    assert float(other.compute()["rougeL"]) == pytest.approx(60)


def slow_places(words: list[str], others: list[str]) -> list[int]:
    """The textbook's table and the way back through it that rouge_score takes."""
    table = [[0] * (len(others) + 1) for _ in range(len(words) + 1)]
    for row, word in enumerate(words, 1):
        for column, other in enumerate(others, 1):
            table[row][column] = (
                table[row - 1][column - 1] + 1 if word == other else max(table[row - 1][column], table[row][column - 1])
            )
    row, column, found = len(words), len(others), list[int]()
    while row > 0 and column > 0:
        if words[row - 1] == others[column - 1]:
            row, column = row - 1, column - 1
            found.append(row)
        elif table[row][column - 1] > table[row - 1][column]:
            column -= 1
        else:
            row -= 1
    return found


@pytest.mark.parametrize("letters", ["ab", "abcdefgh"])
def test_common_subsequences(letters: str) -> None:
    rng = random.Random(3)
    for _ in range(300):
        words, others = (rng.choices(letters, k=rng.randint(0, 90)) for _ in range(2))
        expected, where = slow_places(words, others), places(others)
        assert common_places(words, where, len(others)) == {*expected}
        assert common_length(words, where, len(others)) == len(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("One. Two.\nThree.\n", ["One. Two.", "Three."]),
        ("Only one line.\n", ["Only one line."]),
        ("Dr. Smith met J. R. Jones at 3.5 p.m. in No. 7. He left.",
         ["Dr. Smith met J. R. Jones at 3.5 p.m. in No. 7.", "He left."]),
        ('He said "Go!" and left. "Why?" she asked… Nobody knew.',
         ['He said "Go!" and left.', '"Why?" she asked…', "Nobody knew."]),
        ("北京欢迎你。我们走吧！好", ["北京欢迎你。", "我们走吧！", "好"]),  # noqa: RUF001
        ("", []), ("  ", []), ("No end", ["No end"]),
    ],
)  # fmt: skip
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_without_nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk.stem.porter", None)
    with pytest.raises(UserError, match=r"use_stemmer needs the package nltk: pip install 'lit-ft\[stemmer\]'"):
        Rouge(use_stemmer=True)
    Rouge()
    with pytest.raises(UserError, match="use_stemmer is for English"):
        Rouge(use_stemmer=True, tokenizer="unicode")


def test_metrics_travel() -> None:
    rows = scored_rows(False)
    metric = Rouge(use_stemmer=True)
    expected = fed(metric, rows)
    assert {name: float(value) for name, value in pickle.loads(pickle.dumps(metric)).compute().items()} == expected
    assert fed(pickle.loads(pickle.dumps(Rouge(use_stemmer=True))), rows) == expected
