"""Precision, recall and F1 of entities, as seqeval has them, from counts that add up over batches and processes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from lit_ft.data.features.ragged import Array, Ragged
from lit_ft.data.tags.schemes import Chunks, TagScheme, TagTable, chunks

NAMES = ["precision", "recall", "f1", "precision_macro", "recall_macro", "f1_macro", "f1_strict"]
"""Names of the scalars: over all entities, the mean over types, and of well-formed entities only."""


class EntityScores(Metric):
    """Entities that were found, against those that are there; both have to agree in words and type.

    Entities are read as conlleval and seqeval's default mode read them; `f1_strict` is seqeval's `mode="strict"`, which
    leaves out entities that the scheme does not allow (of ill-formed IOB1, seqeval's own patterns find a few more).
    Types that are in neither have no part in the means.

    Args:
        names: the tags by id.
        scheme: that they are in.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, names: list[str], scheme: TagScheme) -> None:
        super().__init__()
        self.table, self.scheme = TagTable.of(names), scheme
        size = (2, 3, len(self.table.types))
        self.add_state("counts", torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, predicted: Ragged, gold: Ragged) -> None:
        """Counts the entities of sentences.

        Args:
            predicted: ids of the tags of each sentence's words.
            gold: the same as they should be.
        """
        found, there = (chunks(tags, self.table, self.scheme) for tags in (predicted, gold))
        both = [self._count(found, there), self._count(_well_formed(found), _well_formed(there))]
        self.counts += torch.tensor(np.stack(both), device=self.device)

    def compute(self) -> dict[str, Tensor]:
        """Returns the scalars by name."""
        lenient, strict = self.counts.double()
        seen = lenient[1:].sum(0) > 0
        micro, each = _scores(lenient.sum(1)), _scores(lenient)
        macro = {name: value[seen].mean() if seen.any() else value.new_zeros(()) for name, value in each.items()}
        values = micro | {f"{name}_macro": value for name, value in macro.items()}
        values["f1_strict"] = _scores(strict.sum(1))["f1"]
        return {name: values[name].float() for name in NAMES}

    def table_of_types(self) -> list[dict[str, Any]]:
        """Returns precision, recall, F1 and support of each type; every process calls it."""
        with self.sync_context(should_sync=torch.distributed.is_available() and torch.distributed.is_initialized()):
            counts = self.counts.cpu().double()
        scores = _scores(counts[0])
        return [
            {
                "label": name,
                **{key: float(value[number]) for key, value in scores.items()},
                "support": int(counts[0, 2, number]),
            }
            for number, name in enumerate(self.table.types)
        ]

    def _count(self, found: Chunks, there: Chunks) -> Array:
        """Counts by type: entities that are right, that were found, that are there, `[3, types]`."""
        size = len(self.table.types)
        # a word begins one entity at most
        _, mine, theirs = np.intersect1d(found.start, there.start, assume_unique=True, return_indices=True)
        same = (found.end[mine] == there.end[theirs]) & (found.kind[mine] == there.kind[theirs])
        right = found.kind[mine][same]
        return np.stack([np.bincount(kinds, minlength=size) for kinds in (right, found.kind, there.kind)])


def _well_formed(found: Chunks) -> Chunks:
    keep = found.well_formed
    return Chunks(found.start[keep], found.end[keep], found.kind[keep], keep[keep])


def _scores(counts: Tensor) -> dict[str, Tensor]:
    """Counts `[3, ...]` -> precision, recall and F1 `[...]`; 0 where there is nothing to divide by."""
    right, found, there = counts
    return {
        "precision": right / found.clamp(min=1),
        "recall": right / there.clamp(min=1),
        "f1": 2 * right / (found + there).clamp(min=1),
    }
