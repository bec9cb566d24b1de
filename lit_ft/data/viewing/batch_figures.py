"""What a choice of batches makes of a step: rows, tokens and padding, counted from the lengths of the rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lit_ft.data.features.ragged import Array
from lit_ft.data.ordering.orders import TokenBatches


@dataclass(frozen=True)
class BatchFigures:
    """What the optimizer steps of an epoch hold, of all processes and micro-batches together, each `[steps]`.

    Attributes:
        rows: rows (features).
        tokens: tokens without padding.
        padded: tokens with padding.
    """

    rows: Array
    tokens: Array
    padded: Array

    @classmethod
    def of(
        cls,
        batches: TokenBatches,
        lengths: Array,
        padded: Callable[[Array], Array],
        per_step: int,
        widths: Sequence[Array] = (),
    ) -> "BatchFigures":
        """Counts the batches of an epoch.

        Args:
            batches: the rows and batches of an epoch, as a sampler's `spans` gives them.
            lengths: tokens of each row.
            padded: places of a row in batches whose widest row is so wide.
            per_step: batches of an optimizer step.
            widths: of each row, where that is not the number of its tokens; several where a row has several sides that
                are padded by themselves.
        """
        order, spans = batches
        sorted_spans = np.argsort(spans[:, 0])
        starts, place = spans[sorted_spans, 0], np.argsort(sorted_spans)  # together, the batches are all rows
        in_turn = lengths[order].astype(np.int64)
        rows = np.diff(spans, axis=1)[:, 0]
        tokens = np.add.reduceat(in_turn, starts)[place]
        sides = [side[order].astype(np.int64) for side in widths] or [in_turn]
        places = sum(padded(np.maximum.reduceat(side, starts)[place]) for side in sides)
        steps = np.arange(0, len(spans), per_step)
        return cls(*(np.add.reduceat(each, steps) for each in (rows, tokens, rows * places)))

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return len(self.rows)

    @property
    def padding(self) -> float:
        """Share of the tokens that are padding."""
        return 1 - float(self.tokens.sum()) / max(float(self.padded.sum()), 1.0)

    def __str__(self) -> str:
        return (
            f"{_spread(self.rows)} rows a step, {self.steps:,} steps an epoch, {_spread(self.tokens)} real tokens a "
            f"step, {self.padding:.1%} padding"
        )


def _spread(values: Array) -> str:
    mean, least, most = values.mean(), int(values.min()), int(values.max())
    shown = f"{mean:,.1f}" if mean < 100 and mean % 1 else f"{mean:,.0f}"
    return shown if least == most else f"{shown} ({least:,}-{most:,})"
