"""Exact match and F1 of answers, as SQuAD's official evaluation counts them, and the threshold of no answer."""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_ft.metrics.question_types import table_of_types
from lit_ft.metrics.uneven_rows import UnevenRows

NAMES = ["exact_match", "f1"]
NAMES_WITH_NULL = [
    *NAMES, "has_ans_exact", "has_ans_f1", "no_ans_exact", "no_ans_f1",
    "best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh",
]  # fmt: skip
"""Names of the scalars, without and with questions that cannot be answered."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal_form(text: str) -> str:
    """Returns a text in lower case, without punctuation, articles and superfluous white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(answer: str, gold: str) -> float:
    """Returns the F1 of the words that two normal forms have in common; of an empty one, whether both are."""
    ours, theirs = answer.split(), gold.split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def answer_scores(answer: str, golds: Sequence[str]) -> tuple[float, float]:
    """Returns exact match and F1 of an answer with the gold answer it is nearest to, from 0 to 1.

    Args:
        answer: a text; empty = there is none.
        golds: the gold answers; those of which nothing is left in normal form do not count. None = no answer.
    """
    ours = normal_form(answer)
    theirs = [form for form in map(normal_form, golds) if form] or [""]
    return float(ours in theirs), max(token_f1(ours, gold) for gold in theirs)


def lack(answer: str, golds: Sequence[str] | None) -> float:
    """Returns how much an answer lacks to a token F1 of 1; NaN where the gold answers are not known."""
    return math.nan if golds is None else 1 - answer_scores(answer, golds)[1]


class AnswerScores(UnevenRows):
    """Exact match and F1 in percent; with `null`, also those of questions with and without an answer.

    A handful of numbers per question is kept, and its type, not its text: the best thresholds need the questions in the
    order of their odds, and by the threshold found each type is scored.

    Args:
        null: questions may have no answer.
        threshold: odds above which there is none; `None` = those of the best F1.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False

    rows: list[Tensor]

    def __init__(self, null: bool, threshold: float | None = 0.0) -> None:
        super().__init__()
        self.null, self.threshold = null, threshold
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forgets all questions."""
        super().reset()
        self.types: list[str] = []

    def update(
        self,
        answers: Sequence[str],
        golds: Sequence[Sequence[str]],
        odds: Sequence[float],
        types: Sequence[str] | None = None,
    ) -> None:
        """Scores some questions.

        Args:
            answers: the best answer to each, whether or not there is one.
            golds: its gold answers; none = it cannot be answered.
            odds: how much likelier it is that there is no answer; of any unit.
            types: of the questions, for a table of them.
        """
        scores = [answer_scores(answer, gold) for answer, gold in zip(answers, golds, strict=True)]
        self.types += [""] * len(answers) if types is None else types
        facts = [
            (*score, float(len(gold) > 0), float(answer != ""), odd)
            for score, gold, answer, odd in zip(scores, golds, answers, odds, strict=True)
        ]
        self.rows.append(torch.tensor(facts, dtype=torch.float32, device=self.device).reshape(-1, 5))

    def compute(self) -> dict[str, Tensor]:
        """Returns the scores by name, NaN where no question is of a kind; with `null` also the `threshold` used."""
        rows = self._rows()
        if not self.null:
            return {name: 100 * scores.mean() for name, scores in zip(NAMES, rows.T, strict=False)}
        if not len(rows):
            return dict.fromkeys([*NAMES_WITH_NULL, "threshold"], torch.tensor(torch.nan))
        exact, f1, answerable, answered, odds = rows.T
        best_exact, exact_threshold, _ = best_threshold(exact, answerable, answered, odds)
        best_f1, f1_threshold, used = best_threshold(f1, answerable, answered, odds)
        threshold = used if self.threshold is None else self.threshold
        exact, f1 = _with_threshold(rows, float(threshold))
        has, none = answerable > 0, answerable == 0
        return {
            "exact_match": 100 * exact.mean(), "f1": 100 * f1.mean(),
            "has_ans_exact": 100 * exact[has].mean(), "has_ans_f1": 100 * f1[has].mean(),
            "no_ans_exact": 100 * exact[none].mean(), "no_ans_f1": 100 * f1[none].mean(),
            "best_exact": best_exact, "best_exact_thresh": exact_threshold,
            "best_f1": best_f1, "best_f1_thresh": f1_threshold, "threshold": torch.as_tensor(threshold),
        }  # fmt: skip

    def threshold_to_keep(self) -> float:
        """Returns the threshold that the scores are by: the one given, or that of the best F1; NaN of no rows."""
        return float(self.compute()["threshold"])

    def table(self) -> list[dict[str, Any]]:
        """Returns count, exact match and F1 of each type of question; every process calls it."""
        threshold = self.threshold_to_keep() if self.null else math.inf
        rows = self._rows()
        facts = torch.stack([rows[:, 2], *_with_threshold(rows, threshold)], 1)
        return table_of_types(self.types, facts.tolist())

    def _rows(self) -> Tensor:
        return self.held("rows").reshape(-1, 5).cpu().double()  # sums of many questions; not every device has doubles


def _with_threshold(rows: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Returns exact match and F1 of each question where no answer is given above some odds."""
    exact, f1, answerable, _, odds = rows.T
    return torch.where(odds > threshold, 1 - answerable, exact), torch.where(odds > threshold, 1 - answerable, f1)


def best_threshold(scores: Tensor, answerable: Tensor, answered: Tensor, odds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the odds up to which answers are best given.

    Args:
        scores: of the answers `[questions]`.
        answerable: 1 where there is an answer `[questions]`.
        answered: 1 where one is given, were it asked for `[questions]`.
        odds: of there being none `[questions]`.

    Returns:
        The mean score then, in percent, and the threshold as the official evaluation has it (0 where it is best to
        never answer), and one with which that score is reached.
    """
    gain = torch.where(answerable > 0, scores, -answered)
    order = odds.argsort(stable=True)
    totals = (1 - answerable).sum() + gain[order].cumsum(0)
    ranked = odds[order]
    last = torch.cat([ranked[1:] != ranked[:-1], ranked.new_ones(1, dtype=torch.bool)])  # equal odds go together
    totals = torch.where(last, totals, -torch.inf)
    at = totals.argmax()
    if totals[at] > (1 - answerable).sum():
        return 100 * totals[at] / len(odds), ranked[at], ranked[at]
    return 100 * (1 - answerable).mean(), odds.new_zeros(()), ranked[0] - 1
