"""Multi-label metrics at every threshold of a grid at once: the best threshold without keeping a single score."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class MultilabelThresholdSweep(Metric):
    """F1, precision, recall and subset accuracy at the threshold of best micro F1.

    With one threshold it scores at that threshold. Memory is `thresholds x labels`, whatever the number of rows.

    Args:
        num_labels: labels.
        thresholds: probabilities at and above which a label counts as predicted.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    true_positives: Tensor
    false_positives: Tensor
    false_negatives: Tensor
    exact: Tensor
    rows: Tensor
    thresholds: Tensor

    def __init__(self, num_labels: int, thresholds: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("thresholds", torch.tensor(list(thresholds), dtype=torch.float32), persistent=False)
        size = (len(thresholds), num_labels)
        for name in ("true_positives", "false_positives", "false_negatives"):
            self.add_state(name, torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("exact", torch.zeros(len(thresholds), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("rows", torch.tensor(0), dist_reduce_fx="sum")
        self._per_label: dict[str, Tensor] = {}

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Counts a batch: `preds` are probabilities `[batch, labels]`, `target` 0/1 `[batch, labels]`."""
        predicted = preds.unsqueeze(0) >= self.thresholds.view(-1, 1, 1)
        actual = target.bool().unsqueeze(0)
        self.true_positives += (predicted & actual).sum(1)
        self.false_positives += (predicted & ~actual).sum(1)
        self.false_negatives += (~predicted & actual).sum(1)
        self.exact += (predicted == actual).all(-1).sum(1)
        self.rows += len(preds)

    def compute(self) -> dict[str, Tensor]:
        """Returns `threshold` and the metrics there; macro F1 leaves out labels that never occur nor are predicted."""
        hit, false, missed = self.true_positives.sum(1), self.false_positives.sum(1), self.false_negatives.sum(1)
        f1 = _ratio(2 * hit, 2 * hit + false + missed)
        # of equally good thresholds the middle one: the edge of a plateau does not generalise
        best = torch.nonzero(f1 == f1.max()).flatten()
        best = best[len(best) // 2]
        # kept here because only inside `compute` do the states hold the counts of all processes
        hits, falses, misses = self.true_positives[best], self.false_positives[best], self.false_negatives[best]
        self._per_label = {
            "precision": _ratio(hits, hits + falses),
            "recall": _ratio(hits, hits + misses),
            "f1": _ratio(2 * hits, 2 * hits + falses + misses),
            "support": hits + misses,
        }
        occurring = hits + falses + misses > 0
        macro = self._per_label["f1"]
        return {
            "threshold": self.thresholds[best],
            "f1_micro": f1[best],
            "f1_macro": macro[occurring].mean() if bool(occurring.any()) else macro.sum(),
            "precision_micro": _ratio(hit[best], hit[best] + false[best]),
            "recall_micro": _ratio(hit[best], hit[best] + missed[best]),
            "subset_accuracy": _ratio(self.exact[best], self.rows),
        }

    def per_label(self) -> dict[str, Tensor]:
        """Returns precision, recall, F1 and support of each label `[labels]` at the threshold of best micro F1."""
        self.compute()
        return self._per_label


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1), torch.zeros_like(part, dtype=torch.float32))
