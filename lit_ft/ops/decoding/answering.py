"""Best spans of the windows of a document -> its answer, the best others, and how likely there is none."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category

import numpy as np
from torch import Tensor

from lit_ft.data.features.ragged import Array
from lit_ft.ops.decoding.spans import best_spans

KEYS_OF_WINDOWS = ("cls_index", "char_starts", "char_ends")
"""What a batch knows of its tokens, for evaluation; the model itself never sees it."""


def _with_marks(context: str, end: int) -> int:
    """Takes in the marks behind a letter: tokenizers that strip them leave them out of the token's characters."""
    while end < len(context) and category(context[end])[0] == "M":
        end += 1
    return end


@dataclass(frozen=True)
class Candidates:
    """What is kept of a window, or of a document.

    Attributes:
        scores: of each span, start plus end logit, best first `[n]`.
        starts: its first character in the context `[n]`.
        ends: its end `[n]`.
        null: score of there being no answer.
    """

    scores: Array
    starts: Array
    ends: Array
    null: float

    @classmethod
    def of(cls, scores: Array, starts: Array, ends: Array, null: Array) -> "Candidates":
        """Takes what `best_spans` found in a window, without the spans that cannot be."""
        possible = np.isfinite(scores)
        return cls(scores[possible], starts[possible], ends[possible], float(null))

    @classmethod
    def merged(cls, windows: Sequence["Candidates"], context: str, size: int) -> "Candidates":
        """Returns the best spans of all windows of a document, without white space around them.

        A span that several windows hold counts once, with its best score; there is no answer if no window has one, so
        the least null score counts.
        """
        scores, starts, ends = (
            np.concatenate([getattr(window, name) for window in windows]) for name in ("scores", "starts", "ends")
        )
        best: dict[tuple[int, int], float] = {}
        for at in np.argsort(-scores, kind="stable").tolist():
            text = context[starts[at] : _with_marks(context, int(ends[at]))]
            start = int(starts[at]) + len(text) - len(text.lstrip())
            if text.strip():
                best.setdefault((start, start + len(text.strip())), float(scores[at]))
            if len(best) == size:
                break
        spans = np.array(list(best), np.int64).reshape(-1, 2)
        return cls(np.array(list(best.values())), spans[:, 0], spans[:, 1], min(window.null for window in windows))

    @property
    def null_odds(self) -> float:
        """How much the null score is above that of the best span; infinite where there is no span."""
        # in the precision of the metric, whose thresholds are odds of some row
        return float(np.float32(self.null - float(self.scores[0]))) if len(self.scores) else math.inf

    def best_text(self, context: str) -> str:
        """Returns the best answer, whether or not there is one."""
        return context[self.starts[0] : self.ends[0]] if len(self.scores) else ""

    def prediction(self, context: str, size: int, threshold: float | None) -> dict[str, Any]:
        """Returns what is written of a document, as plain values.

        Args:
            context: its text.
            size: how many answers.
            threshold: null odds above which there is no answer; `None` = there always is.
        """
        ranked = self if threshold is None else self.with_null(max(size, 2))  # null, and the best that is something
        columns = (ranked.probabilities(), ranked.starts, ranked.ends)
        n_best = [
            {"text": context[start:end], "score": score, "start": start, "end": end}
            for score, start, end in zip(*(column.tolist() for column in columns), strict=True)
        ]
        nothing = {"text": "", "score": 0.0, "start": 0, "end": 0}
        null = next((each for each in n_best if not each["text"]), nothing)
        best = next((each for each in n_best if each["text"]), nothing)
        if threshold is None:
            return {"answer": best["text"], **_without_text(best), "n_best": n_best}
        chosen = null if self.null_odds > threshold else best
        null_odds = self.null_odds if math.isfinite(self.null_odds) else None  # JSON has no infinity
        odds = {"no_answer_probability": null["score"], "null_odds": null_odds}
        written = n_best if size > 1 else [chosen]
        return {"answer": chosen["text"], **_without_text(chosen), "n_best": written, **odds}

    def with_null(self, size: int) -> "Candidates":
        """Returns the best of spans and null, the latter in any case, as a span from 0 to 0."""
        scores = np.append(self.scores, self.null)
        order = np.argsort(-scores, kind="stable")
        chosen = order[:size] if len(self.scores) in order[:size] else np.append(order[:size], len(self.scores))
        starts, ends = (np.append(each, 0)[chosen] for each in (self.starts, self.ends))
        return Candidates(scores[chosen], starts, ends, self.null)

    def probabilities(self) -> Array:
        """Softmax over the candidates `[n]`."""
        if not len(self.scores):
            return self.scores
        weights = np.exp(self.scores - self.scores.max())
        return np.asarray(weights / weights.sum())


def _without_text(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "text"}


def candidates_of(
    start_logits: Tensor, end_logits: Tensor, batch: Mapping[str, Any], size: int, longest: int
) -> list[Candidates]:
    """Returns the best spans of each window of a batch, in characters.

    Args:
        start_logits: `[batch, seq]`.
        end_logits: `[batch, seq]`.
        batch: has the characters of tokens and the place of no answer, as `KEYS_OF_WINDOWS` names them.
        size: how many spans.
        longest: most tokens of a span.
    """
    start, end = start_logits.float(), end_logits.float()
    null, starts, ends = batch["cls_index"][:, None], batch["char_starts"], batch["char_ends"]
    scores, first, last = best_spans(start, end, starts >= 0, size, longest)
    columns = (scores, starts.gather(1, first), ends.gather(1, last), (start + end).gather(1, null)[:, 0])
    return [Candidates.of(*row) for row in zip(*(column.cpu().numpy() for column in columns), strict=True)]
