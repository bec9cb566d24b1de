"""How near the vectors of texts are that belong together: among all, or as people say."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

NAMES = ("accuracy_at_1", "recall_at_10", "mrr_at_10", "ndcg_at_10")
ROWS = 1024
"""Anchors that are compared with all others at a time."""


class PairRetrieval(Metric):
    """Whether an anchor's positive is the nearest of all positives of a set.

    It keeps the vectors of the set, half of them in each column: a million of 384 numbers are 3 GB.

    Args:
        kwargs: of torchmetrics' `Metric`.
    """

    full_state_update = False
    higher_is_better = True
    anchors: list[Tensor]
    positives: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("anchors", "positives"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, anchors: Tensor, positives: Tensor) -> None:
        """Adds vectors, `[n, size]` each."""
        self.anchors.append(F.normalize(anchors.float(), dim=-1))
        self.positives.append(F.normalize(positives.float(), dim=-1))

    def compute(self) -> dict[str, Tensor]:
        """Returns the means over all anchors; NaN where there are none."""
        if not len(self.anchors):
            return {name: torch.tensor(torch.nan, device=self.device) for name in NAMES}
        anchors, positives = dim_zero_cat(self.anchors), dim_zero_cat(self.positives)
        ranks = []
        for start in range(0, len(anchors), ROWS):
            part = anchors[start : start + ROWS]
            scores = part @ positives.T
            own = (part * positives[start : start + ROWS]).sum(-1, keepdim=True)
            # the same vector comes from the same text, which is as right
            ranks.append((scores > own + 1e-6).sum(1) + 1)
        rank = torch.cat(ranks).float()
        within = rank <= 10
        values = (rank == 1, within, within / rank, within / torch.log2(1 + rank))
        return {name: value.float().mean() for name, value in zip(NAMES, values, strict=True)}
