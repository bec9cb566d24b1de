"""Scores of a whole corpus by sacrebleu's own code, from its statistics of each row."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import sacrebleu.metrics

from lit_ft.metrics.text_sums import TextMetric


class SacreBleuMetric(TextMetric):
    """A metric of sacrebleu, from 0 to 100; what it counts in each row is added up over batches and processes.

    A child says `kind`, sacrebleu's class, and is named by `names`.

    Args:
        size: how many numbers sacrebleu counts in a row.
        unit: as of `TextMetric`.
        options: of sacrebleu's class.
    """

    kind: str

    def __init__(self, size: int, unit: int = 1, **options: Any) -> None:
        super().__init__(size, unit)
        self.scorer: Any = getattr(sacrebleu.metrics, self.kind)(**options)

    def facts(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], lengths: Sequence[int] | None
    ) -> Sequence[Any]:
        """Returns sacrebleu's statistics of each row."""
        # the first reference of each row, then the second of those that have one, and so on
        streams = [list(texts) for texts in zip_longest(*references)]
        rows: list[list[float]] = self.scorer._extract_corpus_statistics(list(predictions), streams)
        return rows

    def scores(self, sums: list[Any], rows: int) -> list[float]:
        """Returns sacrebleu's score of the sums."""
        return [float(self.scorer._compute_score_from_stats(sums).score)]
