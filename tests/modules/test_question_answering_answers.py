"""Answers that QuestionAnsweringModule picks: as run_qa does, of few tokens, of none; the threshold between them."""

import collections
import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from lit_ft import QuestionAnsweringModule
from lit_ft.errors import UserError
from tests.data.test_context_windows import cls_last
from tests.modules.test_question_answering import Fit, data_of, predicted
from tests.questions import Rows, question_rows


def postprocess(
    row: dict[str, Any], windows: list[dict[str, Any]], v2: bool, n_best_size: int, longest: int, threshold: float,
    first_choice: int | None = None,
) -> tuple[str, Rows, float]:  # fmt: skip
    """`postprocess_qa_predictions` of run_qa.py for one example, with the null score where the labels have it.

    Two things are otherwise, if `first_choice` is given: that many starts and ends are paired, and a span that two
    windows hold counts once.
    """
    null, prelim = None, []
    for window in windows:
        start_logits, end_logits, offsets, cls = (window[name] for name in ("start", "end", "offsets", "cls"))
        score = start_logits[cls] + end_logits[cls]
        if null is None or null["score"] > score:
            null = {"offsets": (0, 0), "score": score}
        pairs = first_choice or n_best_size
        for start_index in np.argsort(start_logits)[-1 : -pairs - 1 : -1].tolist():
            for end_index in np.argsort(end_logits)[-1 : -pairs - 1 : -1].tolist():
                if offsets[start_index] is None or offsets[end_index] is None:
                    continue
                if end_index < start_index or end_index - start_index + 1 > longest:
                    continue
                span = (offsets[start_index][0], offsets[end_index][1])
                prelim.append({"offsets": span, "score": start_logits[start_index] + end_logits[end_index]})
    if first_choice:
        prelim.sort(key=lambda x: x["score"], reverse=True)
        prelim = list({pred["offsets"]: pred for pred in reversed(prelim)}.values())
    assert null is not None
    if v2:
        prelim.append(null)
    predictions = sorted(prelim, key=lambda x: x["score"], reverse=True)[:n_best_size]
    if v2 and not any(p["offsets"] == (0, 0) for p in predictions):
        predictions.append(null)
    scores = np.array([pred["score"] for pred in predictions])
    probs = np.exp(scores - scores.max())
    n_best = [
        {
            "text": row["context"][slice(*pred["offsets"])],
            "score": prob,
            "start": pred["offsets"][0],
            "end": pred["offsets"][1],
        }
        for pred, prob in zip(predictions, probs / probs.sum(), strict=True)
    ]
    best = next(pred for pred in predictions if pred["offsets"] != (0, 0))
    odds = float(null["score"] - best["score"])
    text = "" if v2 and odds > threshold else row["context"][slice(*best["offsets"])]
    return text, n_best, odds


@pytest.mark.parametrize("v2", [False, True])
def test_answers_are_those_that_run_qa_picks(v2: bool, asked: Callable[[str], str], tiny: Any, trainer: Fit) -> None:
    folder = asked("bert")
    rows = question_rows(12) + question_rows(12, start=30, messages=3)
    module = QuestionAnsweringModule(
        model_name_or_path=folder, version_2_with_negative=v2, n_best_size=8, max_answer_length=7,
        null_score_diff_threshold=-12.0,
    )  # fmt: skip
    data = data_of(folder, {"predict": rows}, predict_split_name="predict", batch_size=5)
    generator = torch.Generator().manual_seed(0)
    windows: dict[int, list[dict[str, Any]]] = collections.defaultdict(list)

    class Scored(QuestionAnsweringModule):
        """Its scores are by chance, and noted."""

        def outputs(self, batch: Any) -> Any:
            shape = batch["input_ids"].shape
            start, end = (torch.randn(shape, generator=generator) * 3 for _ in range(2))
            for at, row in enumerate(batch["row"].tolist()):
                edges = zip(batch["char_starts"][at].tolist(), batch["char_ends"][at].tolist(), strict=True)
                windows[row].append(
                    {"start": start[at].numpy(), "end": end[at].numpy(), "cls": int(batch["cls_index"][at]),
                     "offsets": [edge if edge[0] >= 0 else None for edge in edges]}
                )  # fmt: skip
            return SimpleNamespace(start_logits=start, end_logits=end)

    module.__class__ = Scored
    found = [row for batch in trainer().predict(module, data) or [] for row in batch]
    assert len(found) == len(rows)
    assert max(map(len, windows.values())) > 2
    nulls = 0
    for number, row in enumerate(found):
        text, n_best, odds = postprocess(row, windows[number], v2, 8, 7, -12.0, first_choice=48)
        assert row["answer"] == text
        assert [each["text"] for each in row["n_best"]] == [each["text"] for each in n_best]
        assert [each["start"] for each in row["n_best"]] == [each["start"] for each in n_best]
        np.testing.assert_allclose([e["score"] for e in row["n_best"]], [e["score"] for e in n_best], atol=1e-5)
        if v2:
            assert row["null_odds"] == pytest.approx(odds, abs=1e-5)
            nulls += text == ""
        # run_qa to the letter finds the same answer, unless it left the best pair out beforehand
        theirs, _, their_odds = postprocess(row, windows[number], v2, 20, 7, -12.0)
        assert theirs == text or their_odds > odds + 1e-6
    assert not v2 or 0 < nulls < len(found)


def test_null_scores_are_read_where_labels_say_null(asked: Callable[[str], str], trainer: Fit, tmp_path: Any) -> None:
    """A tokenizer with CLS at the end and padding on the left, as XLNet's."""
    folder = asked("bert")
    tokenizer = cls_last()
    tokenizer.save_pretrained(tmp_path)
    data = data_of(
        folder,
        {"validation": question_rows(6, unanswerable=True)},
        tokenizer_name=str(tmp_path),
        tokenizer_kwargs={"padding_side": "left"},
    )
    data.setup("validate")
    seen = 0
    for batch in data.val_dataloader()[0]:
        ids = batch["input_ids"].gather(1, batch["cls_index"][:, None])[:, 0]
        assert (ids == tokenizer.cls_token_id).all()
        null = [not info["answers"]["text"] for info in batch["info"]]
        assert (batch["start_positions"][null] == batch["cls_index"][null]).all()
        seen += sum(null)
        assert (batch["attention_mask"][:, -1] == 1).all()
    assert seen >= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_best_size": 0}, "n_best_size is 0; it must be at least 1"),
        ({"max_answer_length": 0}, "max_answer_length is 0"),
        ({"null_score_diff_threshold": "best"}, "null_score_diff_threshold is 'best'; it must be a number or auto"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        QuestionAnsweringModule(**options)


def test_the_threshold_of_a_pretrained_model_stays(asked: Callable[[str], str], tmp_path: Any) -> None:
    model = AutoModelForQuestionAnswering.from_pretrained(asked("bert"))
    model.config.null_score_diff_threshold, model.config.version_2_with_negative = -2.5, True
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(asked("bert")).save_pretrained(tmp_path)
    for option, expected in ((None, -2.5), (1.0, 1.0), ("auto", -2.5)):
        module = QuestionAnsweringModule(model_name_or_path=str(tmp_path), null_score_diff_threshold=option)
        built = copy.copy(module.build().config)
        assert built.null_score_diff_threshold == module.threshold == expected
        assert built.version_2_with_negative
        assert len(module.metric_names({})) == 10
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    module = QuestionAnsweringModule(model_name_or_path=str(tmp_path), null_score_diff_threshold=3.0)
    module.restore(checkpoint["lit_ft"])
    assert module.build().config.null_score_diff_threshold == module.threshold == 3.0  # of the folder to be exported


def test_contexts_of_few_tokens_are_answered(asked: Callable[[str], str], trainer: Fit) -> None:
    module = QuestionAnsweringModule(model_name_or_path=asked("bert"), version_2_with_negative=False)
    texts = [("who", ""), ("", "the new card"), ("who", "card")]  # more spans are wanted than there are
    rows = [{"question": question, "context": context} for question, context in texts]
    found = predicted(trainer(), module, asked("bert"), rows)
    assert found[0] == {**rows[0], "answer": "", "score": 0.0, "start": 0, "end": 0, "n_best": []}
    assert found[1]["answer"] in "the new card"
    assert {each["text"] for each in found[1]["n_best"]} == {
        "the", "new", "card", "the new", "new card", "the new card",
    }  # fmt: skip
    assert [each["text"] for each in found[2]["n_best"]] == ["card"]
    rows = [{"question": "who", "context": text} for text in ("card", "the")]
    assert [row["answer"] for row in predicted(trainer(), module, asked("bert"), rows)] == ["card", "the"]


def test_numbers_are_read_as_they_are_written(asked: Callable[[str], str], trainer: Fit) -> None:
    rows = [{"question": number, "context": 5000 + number, "answers": "5"} for number in range(4)]
    module, run = QuestionAnsweringModule(model_name_or_path=asked("bert")), trainer()
    run.validate(module, data_of(asked("bert"), {"validation": rows}), verbose=False)
    for row in predicted(run, module, asked("bert"), rows):
        assert str(row["context"])[row["start"] : row["end"]] == row["answer"] != ""
