"""Metrics that keep rows, where a process, or all of them, may hold none."""

from typing import Any

import torch
from torch import Tensor, distributed
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat


class UnevenRows(Metric):
    """Lists as states, which processes without a row gather, too.

    torchmetrics has such a process gather 1-d empty tensors, which do not meet the others' `[rows, size]`.
    """

    def held(self, name: str) -> Tensor:
        """Returns the rows of a state, within `compute` those of every process; `[0]` where there are none at all."""
        rows = getattr(self, name)
        return dim_zero_cat(rows) if len(rows) else torch.zeros(0, device=self.device)

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        lists = {name: rows for name in self._defaults if isinstance(rows := getattr(self, name), list)}
        own = {name: (rows[0].shape[1:], rows[0].dtype) for name, rows in lists.items() if rows}
        group = kwargs.get("process_group") or self.process_group
        every: list[Any] = [None] * distributed.get_world_size(group)
        distributed.all_gather_object(every, own, group)  # only who has rows knows their size
        known = {name: kind for each in every for name, kind in each.items()}
        for name in known.keys() - own.keys():
            size, dtype = known[name]
            setattr(self, name, [torch.zeros(0, *size, dtype=dtype, device=self.device)])
        super()._sync_dist(*args, **kwargs)
