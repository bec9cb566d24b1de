"""Fill-in-the-middle: moves the middle of documents to their end (Bavarian et al. 2022)."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase
from xxhash import xxh3_128_digest

from lit_ft.data.features.ragged import Array, Ragged, offsets_of, rows_at
from lit_ft.errors import UserError, did_you_mean

TOKENS = ("fim_prefix_token", "fim_middle_token", "fim_suffix_token")
"""Options that name the three tokens."""


def fim_ids(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> tuple[int, int, int]:
    """Returns the ids of the tokens before prefix, middle and suffix.

    Raises:
        UserError: the tokenizer lacks one of them.
    """
    vocabulary = tokenizer.get_vocab()
    for option in TOKENS:
        if (token := options[option]) not in vocabulary:
            like = [word for word in vocabulary if "fim" in word.lower() or "mid" in word.lower()]
            raise UserError(
                f"{option}: the tokenizer has no token {token!r}{did_you_mean(token, like)}; name one that it has, "
                "or add it: model.add_tokens"
            )
    prefix, middle, suffix = (vocabulary[options[option]] for option in TOKENS)
    return prefix, middle, suffix


def fill_in_the_middle(
    documents: Ragged,
    fim_rate: float,
    fim_spm_rate: float,
    prefix_id: int,
    middle_id: int,
    suffix_id: int,
    seed: int,
) -> Ragged:
    """Splits documents at two random places and moves the middle part to the end, as transformers' `run_fim.py` does.

    Of the parts prefix, middle and suffix, which may be empty, the result is one of

    - `[prefix_id] prefix [suffix_id] suffix [middle_id] middle` (PSM),
    - `[prefix_id] [suffix_id] suffix [middle_id] prefix middle` (SPM).

    No token is lost. What becomes of a document depends on its tokens and the seed alone, so it is the same in every
    process, batch and epoch, and the same for two equal documents. Documents of fewer than 3 tokens, which do not
    have three parts, stay as they are.

    Args:
        documents: token ids, a row for each document.
        fim_rate: share of the documents that are changed, 0 to 1.
        fim_spm_rate: share of these that become SPM, 0 to 1.
        prefix_id: token before the prefix.
        middle_id: token before the middle.
        suffix_id: token before the suffix.
        seed: another seed changes other documents, at other places.

    Returns:
        The documents in the same order and with the same dtype, those changed 3 tokens longer.

    Raises:
        UserError: a rate is not between 0 and 1.
    """
    for name, rate in {"fim_rate": fim_rate, "fim_spm_rate": fim_spm_rate}.items():
        if not 0 <= rate <= 1:
            raise UserError(f"{name} is {rate}: choose a share from 0 to 1")
    lengths, draws = documents.lengths.astype(np.int64), uniform_draws(documents, seed)
    changed = (draws[:, 0] < fim_rate) & (lengths >= 3)
    cuts = np.sort((draws[:, 2:] * (lengths[:, None] + 1)).astype(np.int64), axis=1)
    # a document that stays is all prefix, without the ids
    cuts = np.where(changed[:, None], cuts, lengths[:, None])
    begins, ends = documents.offsets[:-1].astype(np.int64), documents.offsets[1:].astype(np.int64)
    first, second = begins + cuts[:, 0], begins + cuts[:, 1]

    # six stretches of each document, in the order of PSM; the three ids lie behind all documents
    with_ids = np.append(documents.values, np.array([prefix_id, suffix_id, middle_id], documents.values.dtype))
    ids = len(documents.values) + np.zeros_like(begins)
    starts = np.stack([ids, begins, ids + 1, second, ids + 2, first], axis=1)
    sizes = np.stack([changed, first - begins, changed, ends - second, changed, second - first], axis=1)
    spm = np.where((draws[:, 1] < fim_spm_rate)[:, None], [0, 2, 3, 4, 1, 5], np.arange(6))
    starts, sizes = np.take_along_axis(starts, spm, axis=1), np.take_along_axis(sizes, spm, axis=1)
    return Ragged(rows_at(with_ids, starts.ravel(), sizes.ravel()).values, offsets_of(sizes.sum(axis=1)))


def uniform_draws(documents: Ragged, seed: int) -> Array:
    """Returns four numbers from 0 to below 1 for each document, `[documents, 4]`: a hash of its tokens and the seed."""
    tokens = np.ascontiguousarray(documents.values, "<i4").view(np.uint8).data
    places = (documents.offsets.astype(np.int64) * 4).tolist()
    digests = b"".join(xxh3_128_digest(tokens[begin:end], seed % 2**64) for begin, end in pairwise(places))
    return np.frombuffer(digests, ">u4").reshape(-1, 4) / 2**32
