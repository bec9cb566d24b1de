"""What metrics of generated texts share: sums over rows as whole numbers, so that they add up the same in any order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

FRACTION = 2**30
"""Sums of numbers that are not whole count in parts of this size: exact to 1e-9, and no device lacks whole numbers."""


class TextMetric(Metric):
    """Adds up some numbers of each row, and makes scores of their sums.

    A child says `names`, the numbers of each row (`facts`) and what becomes of their sums (`scores`).

    Args:
        size: how many numbers a row has.
        unit: of what the sums count in; 1 where all of them are whole.
    """

    higher_is_better: bool | None = True
    is_differentiable = False
    full_state_update = False
    names: tuple[str, ...]
    """What the scores are called."""

    rows: Tensor
    sums: Tensor

    def __init__(self, size: int, unit: int = FRACTION) -> None:
        super().__init__()
        self.unit = unit
        self.add_state("rows", default=torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("sums", default=torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], lengths: Sequence[int] | None = None
    ) -> None:
        """Adds rows.

        Args:
            predictions: the text generated for each.
            references: the texts it is compared with, one or more; their number may differ from row to row.
            lengths: of how many tokens each was generated; only `GeneratedLength` asks for it.

        Raises:
            ValueError: a row has no reference, or a text in place of a list of them.
        """
        for row, texts in enumerate(references):
            if isinstance(texts, str) or not len(texts):
                raise ValueError(f"row {row + 1}: references are a list of texts, at least one; got {texts!r}")
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions, but references of {len(references)} rows")
        if not len(predictions):
            return
        facts = np.asarray(self.facts(predictions, references, lengths), dtype=np.float64)
        self.rows += len(predictions)
        self.sums += torch.from_numpy(np.rint(facts * self.unit).astype(np.int64).sum(0)).to(self.sums.device)

    def compute(self) -> dict[str, Tensor]:
        """Returns the scores by name; NaN where there was no row."""
        rows, sums = int(self.rows), self.sums.tolist()
        if self.unit > 1:
            sums = [value / self.unit for value in sums]
        values = self.scores(sums, rows) if rows else [torch.nan] * len(self.names)
        return {name: torch.tensor(value, device=self.device) for name, value in zip(self.names, values, strict=True)}

    def facts(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], lengths: Sequence[int] | None
    ) -> Sequence[Any]:
        """Returns the numbers of each row, `[rows, size]`."""
        raise NotImplementedError

    def scores(self, sums: list[Any], rows: int) -> list[float]:
        """Returns the values of `names`."""
        raise NotImplementedError
