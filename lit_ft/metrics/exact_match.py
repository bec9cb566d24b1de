"""Whole texts that are right, and the words in which they agree."""

from collections.abc import Sequence
from typing import Any, Literal

from lit_ft.metrics.question_answering import answer_scores
from lit_ft.metrics.text_sums import TextMetric


class ExactMatch(TextMetric):
    """How many percent of predictions are one of the references: `exact_match`.

    Args:
        normalize: `none` = only spaces around do not count; `squad` = nor do case, punctuation and English articles.
    """

    names = ("exact_match",)

    def __init__(self, normalize: Literal["none", "squad"] = "none") -> None:
        super().__init__(1, unit=1)
        self.normalize = normalize

    def facts(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], lengths: Sequence[int] | None
    ) -> Sequence[Any]:
        """Returns 1 for each row that is right."""
        rows = zip(predictions, references, strict=True)
        if self.normalize == "squad":
            return [answer_scores(prediction, texts)[:1] for prediction, texts in rows]
        return [[prediction.strip() in {text.strip() for text in texts}] for prediction, texts in rows]

    def scores(self, sums: list[Any], rows: int) -> list[float]:
        """Returns the share in percent."""
        return [100 * sums[0] / rows]


class TokenF1(TextMetric):
    """SQuAD's F1 of words with the nearest reference, mean of rows in percent: `token_f1`."""

    names = ("token_f1",)

    def __init__(self) -> None:
        super().__init__(1)

    def facts(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], lengths: Sequence[int] | None
    ) -> Sequence[Any]:
        """Returns each row's."""
        return [answer_scores(prediction, texts)[1:] for prediction, texts in zip(predictions, references, strict=True)]

    def scores(self, sums: list[Any], rows: int) -> list[float]:
        """Returns the mean in percent."""
        return [100 * sums[0] / rows]
