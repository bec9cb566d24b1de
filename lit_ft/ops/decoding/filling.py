"""Likely tokens in the place of a mask, as transformers' pipeline `fill-mask` describes them."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase


def fillings(
    tokenizer: PreTrainedTokenizerBase, ids: Tensor, place: int, tokens: Tensor, scores: Tensor
) -> list[dict[str, Any]]:
    """Returns what is written of each token that may stand in a place.

    Args:
        tokenizer: knows the mask.
        ids: of the text without padding, `[seq]`.
        place: of a mask in it.
        tokens: ids, the likeliest first, `[n]`.
        scores: their probabilities, `[n]`.
    """
    alone = int((ids == tokenizer.mask_token_id).sum()) == 1
    made = []
    for token, score in zip(tokens.tolist(), scores.tolist(), strict=True):
        filled = ids.clone()
        filled[place] = token
        text = tokenizer.decode(filled, skip_special_tokens=alone)
        made.append({"score": score, "token": token, "token_str": tokenizer.decode([token]), "sequence": text})
    return made
