"""Areas under curves and calibration from histograms: sums, so memory stays constant and processes may hold no row."""

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric, SpearmanCorrCoef

from lit_ft.metrics.uneven_rows import UnevenRows


def _edges() -> Tensor:
    # even steps of log-odds, coarser where only losers of a softmax fall; float32 knows no probabilities beyond these
    odds = torch.cat([torch.arange(-104, -16, 0.1), torch.arange(-16, 17, 0.01)]).double()
    edges: Tensor = torch.unique(torch.cat([odds.sigmoid().float(), torch.ones(1)]))
    return edges


class RankingArea(Metric):
    """Mean over labels of the area under the ROC curve or of average precision, each label against the rest.

    Scores are binned by their log-odds, so that the crowd of a confident model near 0 and 1 stays told apart; scores
    within 0.01 of each other are taken to be in random order. Memory is 70 kB per label, whatever the number of rows.
    Labels whose area is not defined (no row has it, or for ROC every row has it) are left out.

    Args:
        num_labels: labels or classes.
        kind: `auroc` or `average_precision`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    positives: Tensor
    negatives: Tensor
    edges: Tensor

    def __init__(self, num_labels: int, kind: Literal["auroc", "average_precision"], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind
        self.register_buffer("edges", _edges(), persistent=False)
        for name in ("positives", "negatives"):
            size = (num_labels, len(self.edges) + 1)
            self.add_state(name, torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Counts a batch: probabilities `[batch, labels]`, and class ids `[batch]` or 0/1 `[batch, labels]`."""
        if target.dim() == 1:
            target = torch.nn.functional.one_hot(target, preds.shape[1])
        labels, bins = self.positives.shape
        cells = torch.bucketize(preds.float().contiguous(), self.edges, right=True)
        cells = cells + torch.arange(labels, device=cells.device) * bins
        hit = target.bool()
        self.positives += torch.bincount(cells[hit], minlength=labels * bins).view(labels, bins)
        self.negatives += torch.bincount(cells[~hit], minlength=labels * bins).view(labels, bins)

    def compute(self) -> Tensor:
        """Returns the mean area; NaN when it is defined for no label."""
        positives, negatives = self.positives.cpu().double(), self.negatives.cpu().double()
        actual, others = positives.sum(1), negatives.sum(1)
        if self.kind == "auroc":
            below = negatives.cumsum(1) - negatives / 2  # ties count half
            defined = (actual > 0) & (others > 0)
            areas = (positives * below).sum(1) / (actual * others).clamp(min=1)
        else:
            defined = actual > 0
            above = positives.flip(1).cumsum(1).flip(1) - positives, negatives.flip(1).cumsum(1).flip(1) - negatives
            # what a positive of a bin finds at or above itself, on average over the bin's orders
            hits, misses = above[0] + (positives + 1) / 2, above[1] + negatives / 2
            # bins of a single number (0, 1 and what float32 knows just below 1) hold ties: all of it counts for each
            edges = self.edges.cpu()
            alone = torch.nextafter(edges[:-1], torch.ones(1)) == edges[1:]
            tied = torch.cat([torch.ones(1).bool(), alone, torch.ones(1).bool()])
            hits, misses = (
                torch.where(tied, before + block, mixed)
                for before, block, mixed in zip(above, (positives, negatives), (hits, misses), strict=True)
            )
            areas = (positives * hits / (hits + misses).clamp(min=1)).sum(1) / actual.clamp(min=1)
        area = areas[defined].mean() if bool(defined.any()) else areas.new_tensor(torch.nan)
        return area.float().to(self.positives.device)


class CalibrationError(Metric):
    """Mean distance between the confidence of the predicted class and how often it is right, over equal bins.

    Args:
        bins: number of bins.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    confidence: Tensor
    right: Tensor
    rows: Tensor

    def __init__(self, bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bins = bins
        for name in ("confidence", "right", "rows"):
            self.add_state(name, torch.zeros(bins), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Counts a batch: probabilities `[batch, classes]`, class ids `[batch]`."""
        confidence, predicted = preds.float().max(-1)
        at = (confidence * self.bins).long().clamp(0, self.bins - 1)  # NaN, too: the error will be NaN
        self.confidence.index_add_(0, at, confidence)
        self.right.index_add_(0, at, (predicted == target).float())
        self.rows.index_add_(0, at, torch.ones_like(confidence))

    def compute(self) -> Tensor:
        """Returns the error."""
        return (self.confidence - self.right).abs().sum() / self.rows.sum().clamp(min=1)

    def reliability(self) -> list[list[float]]:
        """Returns of each bin that has rows its mean confidence, the share that is right, and the number of rows."""
        columns = zip(self.confidence.tolist(), self.right.tolist(), self.rows.tolist(), strict=True)
        return [[sure / rows, right / rows, rows] for sure, right, rows in columns if rows]


class Spearman(UnevenRows, SpearmanCorrCoef):
    """torchmetrics' rank correlation, where a process (or all of them) may hold no labelled row."""

    def compute(self) -> Tensor:
        """Returns the correlation of each target; NaN without two rows."""
        if len(self.held("preds")) < 2:
            return torch.full((self.num_outputs,), torch.nan, device=self.device).squeeze()
        return super().compute()
