"""Features -> padded tensors, by transformers' names."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from lit_ft.data.features.ragged import Array
from lit_ft.data.labels import IGNORED

Feature = dict[str, Any]
"""One feature: numbers, and arrays for what has a length."""
Batch = dict[str, Any]


def pad(
    features: Sequence[Feature],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
    pad_to_multiple_of: int | None = None,
    padding_side: Literal["left", "right"] | None = None,
) -> Batch:
    """Pads token columns to the longest feature, as `DataCollatorWithPadding` does.

    Args:
        features: dicts with `input_ids` and, where the model takes them, `token_type_ids`.
        tokenizer: gives the padding values and the side.
        max_length: pad to this length instead (static shapes).
        pad_to_multiple_of: round the length up to a multiple of this.
        padding_side: where padding goes, instead of the tokenizer's side.

    Returns:
        `input_ids`, `attention_mask` and, where given, `token_type_ids`, each `[batch, seq]` int64.
    """
    lengths = np.array([len(feature["input_ids"]) for feature in features])
    width = _rounded_up(max_length or int(lengths.max()), pad_to_multiple_of)
    places = np.arange(width)
    left = (padding_side or tokenizer.padding_side) == "left"
    real = places >= (width - lengths)[:, None] if left else places < lengths[:, None]
    values = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    batch = {
        name: _spread([feature[name] for feature in features], real, value)
        for name, value in values.items()
        if name in features[0]
    }
    return {**batch, "attention_mask": torch.from_numpy(real.astype(np.int64))}


def pad_sequences(
    features: Sequence[Feature],
    tokenizer: PreTrainedTokenizerBase,
    most: int = 0,
    max_length: int | None = None,
    pad_to_multiple_of: int | None = None,
    padding_side: Literal["left", "right"] | None = None,
) -> Batch:
    """Pads features that hold several sequences each, laid end to end, as `DataCollatorForMultipleChoice` does.

    Args:
        features: as of `pad`, and `sequences`: the lengths of each feature's sequences.
        tokenizer: gives the padding values and the side.
        most: room for at least this many sequences a feature.
        max_length: as of `pad`.
        pad_to_multiple_of: as of `pad`.
        padding_side: as of `pad`.

    Returns:
        What `pad` returns, `[batch, sequences, seq]`; the attention mask of a missing sequence is all zeros.
    """
    most = max(most, *(len(feature["sequences"]) for feature in features))
    parts: list[Feature] = []
    for feature in features:
        lengths = np.zeros(most, np.int64)  # missing ones are empty
        lengths[: len(feature["sequences"])] = feature["sequences"]
        columns = {
            name: np.split(feature[name], np.cumsum(lengths)[:-1])
            for name in ("input_ids", "token_type_ids")
            if name in feature
        }
        parts += [{name: values[at] for name, values in columns.items()} for at in range(most)]
    flat = pad(parts, tokenizer, max_length, pad_to_multiple_of, padding_side)
    return {name: value.view(len(features), most, -1) for name, value in flat.items()}


def _rounded_up(width: int, multiple: int | None) -> int:
    return -(-width // multiple) * multiple if multiple else width


def _spread(rows: Sequence[Array], real: Array, value: int) -> torch.Tensor:
    """Fills the places that are `real`, `[batch, seq]`, with the rows, and all others with a value."""
    array = np.full(real.shape, value, dtype=np.int64)
    array[real] = np.concatenate(rows)
    return torch.from_numpy(array)


def stack(values: Sequence[Any]) -> torch.Tensor:
    """Stacks numbers, or arrays of one length, into a tensor, `[batch]` or `[batch, n]`."""
    return torch.from_numpy(np.stack([np.asarray(value) for value in values]))


def stack_labels(batch: Batch, features: Sequence[Feature]) -> Batch:
    """Adds the labels of rows, one or as many for each, to a batch; there are none to predict."""
    return batch | ({"labels": stack([each["labels"] for each in features])} if "labels" in features[0] else {})


def pad_labels(attention_mask: torch.Tensor, labels: Sequence[Array]) -> torch.Tensor:
    """Lays labels, one per token, where the tokens are, `[batch, seq]`; -100 at padding.

    Args:
        attention_mask: 1 where there is a token, `[batch, seq]`.
        labels: of each feature, `[tokens]`.
    """
    return _spread(labels, attention_mask.numpy().astype(bool), IGNORED)


def padding_before(attention_mask: torch.Tensor) -> torch.Tensor:
    """Returns how much padding stands before the tokens of each row, `[batch]`."""
    return (attention_mask.cumsum(1) == 0).sum(1)


def place_spans(batch: Batch, features: Sequence[Feature]) -> Batch:
    """Adds what is known of the tokens of windows to a padded batch, wherever padding is.

    Args:
        batch: what `pad` made of the features.
        features: each with `labels`, a first and a last token, or with `cls_index`, `char_starts` and `char_ends`, or
            both.

    Returns:
        The batch with `start_positions` and `end_positions`, `cls_index` `[batch]`, `char_starts` and `char_ends`
        `[batch, seq]`.
    """
    mask = batch["attention_mask"]
    before = padding_before(mask)
    if "labels" in features[0]:
        labels = stack([feature["labels"] for feature in features]).long()
        labels = torch.where(labels == IGNORED, IGNORED, labels + before[:, None])
        batch = {**batch, "start_positions": labels[:, 0], "end_positions": labels[:, 1]}
    if "cls_index" in features[0]:
        sides = {name: pad_labels(mask, [each[name] for each in features]) for name in ("char_starts", "char_ends")}
        batch = {**batch, **sides, "cls_index": stack([each["cls_index"] for each in features]) + before}
    return batch


def pad_targets(
    targets: Sequence[Array],
    padding: int = IGNORED,
    max_length: int | None = None,
    pad_to_multiple_of: int | None = None,
) -> torch.Tensor:
    """Pads the targets of a decoder on the right, as `DataCollatorForSeq2Seq` does on the side of the tokenizer.

    Args:
        targets: token ids of each row, `[tokens]`; an empty one is padding alone, and that is always -100.
        padding: what stands behind a target; -100 = nothing is to be predicted there.
        max_length: pad to this length instead of the longest (static shapes).
        pad_to_multiple_of: round the length up to a multiple of this.

    Returns:
        Labels, `[batch, target seq]` int64.
    """
    lengths = np.array([len(target) for target in targets])
    width = _rounded_up(max(max_length or int(lengths.max()), 1), pad_to_multiple_of)
    labels = _spread(targets, np.arange(width) < lengths[:, None], padding)
    labels[torch.from_numpy(lengths == 0)] = IGNORED
    return labels
