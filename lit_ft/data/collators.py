"""Features -> padded tensors, by transformers' names."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

Feature = dict[str, Any]
Batch = dict[str, Any]


def pad(
    features: Sequence[Feature],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    pad_to_multiple_of: int | None = None,
) -> Batch:
    """Pads token columns to the longest feature, as `DataCollatorWithPadding` does.

    Args:
        features: dicts with `input_ids` and, where the model takes them, `token_type_ids`.
        tokenizer: gives the padding values and the side.
        max_length: pad to this length instead (static shapes).
        pad_to_multiple_of: round the length up to a multiple of this.

    Returns:
        `input_ids`, `attention_mask` and, where given, `token_type_ids`, each `[batch, seq]` int64.
    """
    lengths = [len(feature["input_ids"]) for feature in features]
    width = max_length or max(lengths)
    if pad_to_multiple_of:
        width = -(-width // pad_to_multiple_of) * pad_to_multiple_of
    left = tokenizer.padding_side == "left"

    def fill(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        array = np.full((len(rows), width), value, dtype=np.int64)
        for line, row in zip(array, rows, strict=True):
            line[width - len(row) if left else 0 : width if left else len(row)] = row
        return torch.from_numpy(array)

    pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    batch = {"input_ids": fill([feature["input_ids"] for feature in features], pad_token_id)}
    if "token_type_ids" in features[0]:
        batch["token_type_ids"] = fill([feature["token_type_ids"] for feature in features], tokenizer.pad_token_type_id)
    batch["attention_mask"] = fill([[1] * length for length in lengths], 0)
    return batch
