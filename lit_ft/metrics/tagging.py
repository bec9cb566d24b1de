"""Metrics of tagged words: entities and accuracy, or what classification has where tags are plain."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from lit_ft.data.features.ragged import Ragged
from lit_ft.data.labels import IGNORED
from lit_ft.data.tags.schemes import TagScheme
from lit_ft.metrics import entities
from lit_ft.metrics.classification import NAMES, ClassificationScores


class TagMetrics:
    """Scores of words, whatever tokens they have.

    Args:
        labels: the tags by id.
        scheme: that they are in; `None` for plain tags.
        device: where the metrics live.
    """

    def __init__(self, labels: list[str], scheme: TagScheme | None, device: torch.device) -> None:
        self.entities = entities.EntityScores(labels, scheme).to(device) if scheme is not None else None
        self.accuracy = MulticlassAccuracy(len(labels), average="micro").to(device)
        self.plain = ClassificationScores("single_label", labels, device)

    @staticmethod
    def names(scheme: TagScheme | None) -> list[str]:
        """Returns the names of the scalars."""
        return NAMES["single_label"] if scheme is None else [*entities.NAMES, "accuracy"]

    def reset(self) -> None:
        """Starts afresh."""
        for metrics in (self.entities, self.accuracy, self.plain):
            if metrics is not None:
                metrics.reset()

    def update(self, logits: Sequence[Tensor], predicted: Sequence[Tensor], gold: Sequence[Tensor]) -> None:
        """Scores rows; words without a tag (-100) count nowhere.

        Args:
            logits: of each row, `[words, tags]`.
            predicted: ids of the tags that were chosen, of each row `[words]`.
            gold: the same as they should be.
        """
        tagged = [row != IGNORED for row in gold]
        wanted, found, scores = (
            torch.cat([row[mask] for row, mask in zip(rows, tagged, strict=True)]) for rows in (gold, predicted, logits)
        )
        if not len(wanted):
            return
        if self.entities is None:
            self.plain.update(scores.float().softmax(-1), wanted)
            return
        self.accuracy.update(found, wanted)
        lengths = torch.stack([mask.sum() for mask in tagged]).tolist()
        offsets = torch.tensor([0, *lengths]).cumsum(0).numpy()
        self.entities.update(*(Ragged(ids.cpu().numpy(), offsets) for ids in (found, wanted)))

    def compute(self) -> dict[str, Tensor]:
        """Returns the scalars by name; every process calls it."""
        if self.entities is None:
            return self.plain.compute()
        return {**self.entities.compute(), "accuracy": self.accuracy.compute()}

    def table(self) -> list[dict[str, Any]]:
        """Returns precision, recall, F1 and support of each type of entities, or of each plain tag."""
        return self.plain.table() if self.entities is None else self.entities.table_of_types()
