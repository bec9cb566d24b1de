"""Text classification without training: the label whose vector is nearest to that of the text."""

from typing import Any

import torch
from torch import Tensor

from lit_ft.modules.base import Batch
from lit_ft.modules.candidate_labels import CandidateLabelModule
from lit_ft.modules.pooled import PooledModule
from lit_ft.ops.losses.embeddings import cosines
from lit_ft.ranges import POSITIVE, check_ranges


class EmbeddingZeroShotModule(PooledModule, CandidateLabelModule):
    """Sorts texts under `candidate_labels`; batches are those of `EmbeddingZeroShotDataModule`. It is never trained.

    One forward pass a text, however many labels there are; those are encoded once. The score of a label is its share
    in the softmax of `scale` times the cosines.

    Args:
        scale: of the cosines; as `SentenceEmbeddingModule` was trained with.
        kwargs: `pooling`, `normalize`, and options of every module.

    Raises:
        UserError: `scale` is not above 0.
    """

    instead = "SentenceEmbeddingModule learns from texts with labels, TextClassificationModule from any"

    def __init__(self, *, scale: float = 20.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_ranges(self.hparams, {"scale": POSITIVE})
        self._labels: tuple[list[str], Tensor] | None = None

    def outputs(self, batch: Batch) -> Tensor:
        """Returns the score of each label, `[batch, labels]`; see the base."""
        vectors = self.vectors(self.model_inputs(batch))
        scores: Tensor = cosines(vectors, self._label_vectors()).float() * self.hparams["scale"]
        return scores.softmax(-1)

    def _label_vectors(self) -> Tensor:
        """Encodes what is said with each label, once: the model is never trained."""
        said = self.description["hypotheses"]
        if self._labels is None or self._labels[0] != said or self._labels[1].device != self.device:
            assert self.tokenizer is not None
            inputs = self.tokenizer(said, padding=True, return_tensors="pt").to(self.device)
            with torch.no_grad():
                self._labels = (said, self.vectors(dict(inputs)))
        return self._labels[1]
