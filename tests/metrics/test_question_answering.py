"""Exact match and F1 are those of SQuAD's official evaluation, whatever the batches and the number of processes."""

import math
import random

import numpy as np
import pytest
import torch
from torchmetrics.text import SQuAD

from lit_ft.metrics.question_answering import NAMES, NAMES_WITH_NULL, AnswerScores, answer_scores, lack, normal_form
from tests.questions import OUR_NAMES, compute_exact, compute_f1, normalize_answer, official

WORDS = ["the", "a", "An", "blue", "Whale", "whale's", "sea,", "é", "1,000", "—", "(sic)", ""]


def made(rows: int, seed: int, answerable: float) -> tuple[dict[str, str], dict[str, list[str]], dict[str, float]]:
    """Answers, gold answers and odds, all by chance; some answers are right, some are empty."""
    rng = random.Random(seed)
    preds, golds, odds = {}, {}, {}
    for number in range(rows):
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 4))) for _ in range(3)]
        qid = f"q{number}"
        golds[qid] = texts[: rng.randint(1, 3)] if rng.random() < answerable else []
        right = golds[qid] and rng.random() < 0.4
        preds[qid] = rng.choice(golds[qid]) if right else rng.choice(["", " ".join(rng.choices(WORDS, k=2)).strip()])
        odds[qid] = float(np.float32(rng.gauss(-1 if golds[qid] else 1, 2)))
    return preds, golds, odds


def scored(preds: dict[str, str], golds: dict[str, list[str]], odds: dict[str, float], metric: AnswerScores) -> None:
    ids = list(preds)
    for first in range(0, len(ids), 7):
        some = ids[first : first + 7]
        metric.update([preds[q] for q in some], [golds[q] for q in some], [odds[q] for q in some])


@pytest.mark.parametrize("seed", range(6))
def test_texts_are_compared_as_the_official_script_does(seed: int) -> None:
    preds, golds, _ = made(100, seed, 0.8)
    for qid, answers in golds.items():
        assert normal_form(preds[qid]) == normalize_answer(preds[qid])
        kept = [text for text in answers if normalize_answer(text)] or [""]
        exact, f1 = answer_scores(preds[qid], answers)
        assert exact == max(compute_exact(gold, preds[qid]) for gold in kept)
        assert f1 == pytest.approx(max(compute_f1(gold, preds[qid]) for gold in kept))


@pytest.mark.parametrize("text", ["sea—the—sky", "a€an€1", "The the theory", "an\u00a0end"])
def test_an_article_leaves_a_space(text: str) -> None:
    assert normal_form(text) == normalize_answer(text)


@pytest.mark.parametrize("threshold", [0.0, -1.3, 2.0])
@pytest.mark.parametrize("answerable", [0.5, 1.0, 0.1])
def test_with_missing_answers_all_figures_are_the_official_ones(threshold: float, answerable: float) -> None:
    preds, golds, odds = made(300, 7, answerable)
    metric = AnswerScores(True, threshold)
    scored(preds, golds, odds, metric)
    expected, found = official(preds, golds, odds, threshold), metric.compute()
    for theirs, ours in OUR_NAMES.items():
        if theirs in expected:
            assert float(found[ours]) == pytest.approx(expected[theirs], abs=1e-4), theirs
        else:
            assert torch.isnan(found[ours])
    assert set(found) == {*NAMES_WITH_NULL, "threshold"}


def test_without_missing_answers_it_is_squad_1() -> None:
    preds, golds, odds = made(200, 3, 1.0)
    golds = {qid: [text if normal_form(text) else "x" for text in texts] for qid, texts in golds.items()}
    metric, theirs = AnswerScores(False), SQuAD()
    scored(preds, golds, odds, metric)
    theirs.update(
        [{"prediction_text": preds[qid], "id": qid} for qid in preds],
        [{"id": qid, "answers": {"text": texts, "answer_start": [0] * len(texts)}} for qid, texts in golds.items()],
    )
    expected, found = theirs.compute(), metric.compute()
    assert set(found) == set(NAMES)
    for name in NAMES:
        assert float(found[name]) == pytest.approx(float(expected[name]), abs=1e-3)


def test_the_threshold_of_the_best_f1_gives_it() -> None:
    preds, golds, odds = made(300, 11, 0.5)
    # the official search takes an answer like "the" for a wrong one even where it is scored as none
    preds = {qid: text if normal_form(text) else "something" for qid, text in preds.items()}
    metric = AnswerScores(True, None)
    scored(preds, golds, odds, metric)
    found = metric.compute()
    assert float(found["f1"]) == pytest.approx(float(found["best_f1"]), abs=1e-4)
    at = official(preds, golds, odds, float(found["threshold"]))
    assert at["f1"] == pytest.approx(float(found["best_f1"]), abs=1e-3)
    for other in (-3.0, -0.5, 0.0, 1.0, 4.0):
        assert official(preds, golds, odds, other)["f1"] <= at["f1"] + 1e-6


def test_where_never_answering_is_best_the_threshold_lies_below_all_odds() -> None:
    metric = AnswerScores(True, None)
    metric.update(["x", "y", "z"], [[], [], ["a"]], [1.0, -2.0, 3.0])
    found = metric.compute()
    assert float(found["threshold"]) < -2
    assert float(found["best_f1"]) == float(found["f1"]) == pytest.approx(200 / 3)
    assert float(found["best_f1_thresh"]) == 0  # as the official script says


def test_equal_odds_go_together() -> None:
    metric = AnswerScores(True, None)
    metric.update(["a", "b", "x"], [["a"], [], ["y"]], [1.0, 1.0, 2.0])
    found = metric.compute()
    # no threshold gives the first an answer and the second none
    assert float(found["best_f1"]) == pytest.approx(100 / 3)
    assert float(found["f1"]) == pytest.approx(100 / 3)


def test_several_processes_and_no_rows() -> None:
    preds, golds, odds = made(60, 5, 0.6)
    whole, parts = AnswerScores(True), [AnswerScores(True), AnswerScores(True)]
    scored(preds, golds, odds, whole)
    for number, part in enumerate(parts):
        own = [qid for at, qid in enumerate(preds) if at % 2 == number]
        scored(*({qid: each[qid] for qid in own} for each in (preds, golds, odds)), part)  # type: ignore[misc]
    parts[0].rows = [torch.cat([*parts[0].rows, *parts[1].rows])]  # what gathering makes of two processes' states
    for name, value in whole.compute().items():
        torch.testing.assert_close(parts[0].compute()[name], value)
    for null in (True, False):
        assert all(torch.isnan(value) for value in AnswerScores(null).compute().values())


def test_what_answers_lack_by_hand() -> None:
    assert lack("in the old town", ["old town hall"]) == pytest.approx(1 - 2 * 2 / (3 + 3))
    assert lack("the old town", ["Old town!", "hall"]) == 0
    assert (lack("", []), lack("town", [])) == (0, 1)
    assert math.isnan(lack("town", None))
