"""How near the vectors of texts are that belong together: among all others of their set."""

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric, PearsonCorrCoef

from lit_ft.data.labels import IGNORED
from lit_ft.data.likeness.columns import Kind
from lit_ft.metrics.binned import Spearman
from lit_ft.metrics.starting_afresh import reset
from lit_ft.metrics.uneven_rows import UnevenRows

ROWS = 1024
"""Texts that are compared with all others at a time."""
BEST = 10
"""How many of the nearest are looked at."""


class VectorRetrieval(UnevenRows):
    """Keeps the vectors of a set: a million of 384 numbers are 1.5 GB.

    Args:
        kwargs: of torchmetrics' `Metric`.

    Attributes:
        names: what `compute` returns.
    """

    full_state_update = False
    higher_is_better = True
    names: ClassVar[list[str]]
    states: ClassVar[tuple[str, ...]]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in self.states:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def compute(self) -> dict[str, Tensor]:
        """Returns the means over all texts that something belongs to; NaN where there are none."""
        states = [self.held(name) for name in self.states]
        if not len(states[0]):
            return {name: torch.tensor(torch.nan, device=self.device) for name in self.names}
        parts = [*self._parts(*states)]
        values = [torch.cat(each).float().mean() for each in zip(*parts, strict=True)]
        return dict(zip(self.names, values, strict=True))

    def _parts(self, *states: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Gives the values of a part of the texts, `[texts]` of each name."""
        raise NotImplementedError


class PairRetrieval(VectorRetrieval):
    """Whether an anchor's positive is the nearest of all positives of a set."""

    names: ClassVar[list[str]] = ["accuracy_at_1", "recall_at_10", "mrr_at_10", "ndcg_at_10"]
    states = ("anchors", "positives")
    anchors: list[Tensor]
    positives: list[Tensor]

    def update(self, anchors: Tensor, positives: Tensor) -> None:
        """Adds vectors, `[n, size]` each."""
        self.anchors.append(F.normalize(anchors.float(), dim=-1))
        self.positives.append(F.normalize(positives.float(), dim=-1))

    def _parts(self, *states: Tensor) -> Iterator[tuple[Tensor, ...]]:
        anchors, positives = states
        for start in range(0, len(anchors), ROWS):
            part = anchors[start : start + ROWS]
            own = (part * positives[start : start + ROWS]).sum(-1, keepdim=True)
            # the same vector comes from the same text, which is as right
            rank = ((part @ positives.T > own + 1e-6).sum(1) + 1).float()
            within = rank <= BEST
            yield rank == 1, within, within / rank, within / torch.log2(1 + rank)


class LabelRetrieval(VectorRetrieval):
    """Whether the nearest of all other texts of a set have the same label; of texts whose label another one has."""

    names: ClassVar[list[str]] = ["accuracy_at_1", "precision_at_10", "mrr_at_10", "ndcg_at_10"]
    states = ("texts", "labels")
    texts: list[Tensor]
    labels: list[Tensor]

    def update(self, texts: Tensor, labels: Tensor) -> None:
        """Adds vectors, `[n, size]`, and a number for the label of each, `[n]`."""
        self.texts.append(F.normalize(texts.float(), dim=-1))
        self.labels.append(labels)

    def _parts(self, *states: Tensor) -> Iterator[tuple[Tensor, ...]]:
        texts, labels = states
        places = torch.arange(1, 1 + min(BEST, max(len(texts) - 1, 1)), device=texts.device)
        gains = 1 / torch.log2(1 + places)
        for start in range(0, len(texts), ROWS):
            part, own = texts[start : start + ROWS], labels[start : start + ROWS]
            scores = part @ texts.T
            scores[torch.arange(len(part)), start + torch.arange(len(part))] = -torch.inf
            mates = (labels[None, :] == own[:, None]).sum(1) - 1
            right = (labels[scores.topk(len(places)).indices] == own[:, None])[mates > 0]
            ideal = gains.cumsum(0)[mates[mates > 0].clamp(max=len(places)) - 1]
            first = torch.where(right.any(1), 1 / (right.int().argmax(1) + 1), 0)
            yield right[:, 0], right.sum(1) / BEST, first, (right * gains).sum(1) / ideal


class EmbeddingScores:
    """What a set of rows is scored by: ranks among all others, or correlations with scores.

    Args:
        kind: what rows are.
        device: where the metrics live.
    """

    def __init__(self, kind: Kind, device: torch.device) -> None:
        self.kind, made = kind, dict[str, Metric]()
        if kind == "scored":
            made = {"spearman": Spearman(num_outputs=1), "pearson": PearsonCorrCoef(num_outputs=1)}
        else:
            made = {"retrieval": LabelRetrieval() if kind == "labelled" else PairRetrieval()}
        self.metrics = {name: metric.to(device) for name, metric in made.items()}

    @staticmethod
    def names(kind: Kind) -> list[str]:
        """Returns the names of the scalars."""
        return {"pairs": PairRetrieval.names, "scored": ["spearman", "pearson"], "labelled": LabelRetrieval.names}[kind]

    def reset(self) -> None:
        """Starts afresh."""
        reset(self.metrics)

    def update(self, vectors: Tensor, labels: Tensor | None = None) -> None:
        """Adds rows, of which those without a label count nowhere.

        Args:
            vectors: of each row's texts, `[n, k, size]`.
            labels: scores, or numbers for labels, `[n]`; pairs are their own.
        """
        if self.kind == "pairs":
            known = vectors[:, 0], vectors[:, 1]
        elif self.kind == "labelled":
            assert labels is not None
            there = labels != IGNORED
            known = vectors[there, 0], labels[there]
        else:
            assert labels is not None
            there = ~labels.isnan()
            known = F.cosine_similarity(vectors[there, 0], vectors[there, 1]), labels[there]
        for metric in self.metrics.values() if len(known[0]) else ():
            metric.update(*known)

    def compute(self) -> dict[str, Tensor]:
        """Returns the scalars by name; every process calls it."""
        found = {name: metric.compute() for name, metric in self.metrics.items()}
        return found if self.kind == "scored" else found["retrieval"]
