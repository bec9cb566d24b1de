"""Rows of extractive question answering made of the sample's messages, and SQuAD's official evaluation (v2.0)."""

import collections
import re
import string
from typing import Any

from tests.tiny import texts

Rows = list[dict[str, Any]]
QUESTIONS = {
    "question_answering/squad": "bert",
    "question_answering/squad_v2": "roberta",
    "question_answering/files": "distilbert",
}
"""The architecture of each YAML's model."""


def question_rows(count: int, start: int = 0, unanswerable: bool = False, messages: int = 1) -> Rows:
    """Asks for what stands behind a word; every third question has no answer, if asked for.

    Args:
        count: how many.
        start: number of the first message.
        unanswerable: whether some have no answer.
        messages: how many messages make a context.
    """
    found, rows = [text for text in texts() if len(text) > 40], []
    for number in range(count):
        context = " ".join(found[(start + number * messages + at) % len(found)] for at in range(messages))
        words = [match.span() for match in re.finditer(r"\w+", context)]
        first = (5 * number) % (len(words) - 3)
        begin, end = words[first + 1][0], words[first + 1 + number % 2][1]
        asked = context[slice(*words[first])]
        answers = {"text": [context[begin:end], context[begin : words[first + 2][1]]], "answer_start": [begin, begin]}
        if unanswerable and number % 3 == 2:
            asked, answers = "nothing", {"text": [], "answer_start": []}
        rows.append(
            {"id": f"q{start + number}", "question": f"what follows {asked}", "context": context, "answers": answers}
        )
    return rows


def nested(rows: Rows, version: str = "v2.0") -> dict[str, Any]:
    """The same rows as a file of SQuAD's."""
    paragraphs = []
    for row in rows:
        pairs = zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True)
        question = {"question": row["question"], "id": row["id"]}
        question["answers"] = [{"text": text, "answer_start": start} for text, start in pairs]
        question["is_impossible"] = not question["answers"]
        paragraphs.append({"context": row["context"], "qas": [question]})
    return {"version": version, "data": [{"title": "Messages", "paragraphs": paragraphs}]}


# What follows is evaluate-v2.0.py as SQuAD publishes it, but for its command line and plots


def normalize_answer(s: str) -> str:
    def remove_articles(text: str) -> str:
        regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
        return re.sub(regex, " ", text)

    def white_space_fix(text: str) -> str:
        return " ".join(text.split())

    def remove_punc(text: str) -> str:
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return white_space_fix(remove_articles(remove_punc(s.lower())))


def compute_exact(a_gold: str, a_pred: str) -> int:
    return int(normalize_answer(a_gold) == normalize_answer(a_pred))


def compute_f1(a_gold: str, a_pred: str) -> float:
    gold_toks, pred_toks = normalize_answer(a_gold).split(), normalize_answer(a_pred).split()
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


def find_best_thresh(preds: Any, scores: Any, na_probs: Any, qid_to_has_ans: Any) -> tuple[float, float]:
    cur_score = best_score = sum(1 for k in qid_to_has_ans if not qid_to_has_ans[k])
    best_thresh = 0.0
    for qid in sorted(na_probs, key=lambda k: na_probs[k]):
        if qid not in scores:
            continue
        diff = scores[qid] if qid_to_has_ans[qid] else (-1 if preds[qid] else 0)
        cur_score += diff
        if cur_score > best_score:
            best_score, best_thresh = cur_score, na_probs[qid]
    return 100.0 * best_score / len(scores), best_thresh


def official(
    preds: dict[str, str], golds: dict[str, list[str]], na_probs: dict[str, float], na_prob_thresh: float
) -> dict[str, float]:
    """What evaluate-v2.0.py prints, given the texts of the gold answers of each question."""
    has_ans = {qid: bool(texts) for qid, texts in golds.items()}
    raw: dict[str, dict[str, float]] = {"exact": {}, "f1": {}}
    for qid, answers in golds.items():
        gold_answers = [text for text in answers if normalize_answer(text)] or [""]
        raw["exact"][qid] = max(compute_exact(a, preds[qid]) for a in gold_answers)
        raw["f1"][qid] = max(compute_f1(a, preds[qid]) for a in gold_answers)
    out: dict[str, float] = {}
    for name, scores in raw.items():
        new = {q: float(not has_ans[q]) if na_probs[q] > na_prob_thresh else scores[q] for q in scores}
        out[name] = 100.0 * sum(new.values()) / len(new)
        for prefix, kind in (("HasAns", True), ("NoAns", False)):
            of_kind = [new[q] for q in new if has_ans[q] is kind]
            if of_kind:
                out[f"{prefix}_{name}"] = 100.0 * sum(of_kind) / len(of_kind)
        best, thresh = find_best_thresh(preds, scores, na_probs, has_ans)
        out[f"best_{name}"], out[f"best_{name}_thresh"] = best, thresh
    return out


OUR_NAMES = {
    "exact": "exact_match", "f1": "f1", "HasAns_exact": "has_ans_exact", "HasAns_f1": "has_ans_f1",
    "NoAns_exact": "no_ans_exact", "NoAns_f1": "no_ans_f1", "best_exact": "best_exact",
    "best_exact_thresh": "best_exact_thresh", "best_f1": "best_f1", "best_f1_thresh": "best_f1_thresh",
}  # fmt: skip
