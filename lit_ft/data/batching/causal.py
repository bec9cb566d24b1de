"""Blocks, or conversations, as batches to learn from: each token is predicted from those before it in its document."""

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from lit_ft.data.batching.collators import Batch, Feature, pad
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.samplers import Key, fillers


def causal_batch(
    features: list[Feature],
    keys: list[Key],
    tokenizer: PreTrainedTokenizerBase,
    static_length: int | None,
    multiple: int | None,
    prompts: bool = False,
) -> Batch:
    """Pads on the right; makes labels, and positions where a feature has several documents. Prompts are padded alone.

    Args:
        features: with `input_ids`; maybe `learned` (which of them are to be predicted), `context` (how many at the
            beginning are not) and `documents` (lengths of the documents in it).
        keys: (epoch, index) of each.
        tokenizer: says what padding is.
        static_length: pad to this.
        multiple: pad to a multiple of this.
        prompts: the features are to be gone on from: padding goes before them, and no further than the longest.

    Returns:
        `input_ids`, `labels` (-100 = nothing is to be predicted) and `attention_mask`, or `position_ids` instead of it;
        `[batch, seq]` each.
    """
    if prompts:
        return pad(features, tokenizer, None, multiple, "left")
    batch = pad(features, tokenizer, static_length, multiple, "right")
    real = batch["attention_mask"].bool()
    labels = torch.where(real, batch["input_ids"], IGNORED)
    for row, feature in enumerate(features):
        if "learned" in feature:
            labels[row, : len(feature["learned"])][torch.from_numpy(feature["learned"] == 0)] = IGNORED
        labels[row, : feature.get("context", 0)] = IGNORED
    labels[fillers(keys)] = IGNORED
    batch["labels"] = labels
    if "documents" in features[0]:
        batch.pop("attention_mask")
        batch["position_ids"] = positions([feature["documents"] for feature in features], real.shape[1])
        labels[batch["position_ids"] == 0] = IGNORED
    return batch


def positions(documents: list[np.ndarray], width: int) -> torch.Tensor:
    """Returns position ids that begin anew at every document, `[batch, width]`; 0 at padding.

    Args:
        documents: lengths of the documents of each block, `[n]`.
        width: length that the blocks are padded to.
    """
    made = np.zeros((len(documents), width), np.int64)
    for row, lengths in zip(made, documents, strict=True):
        size = int(lengths.sum())
        row[:size] = np.arange(size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return torch.from_numpy(made)
