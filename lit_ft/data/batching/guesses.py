"""How the tokens to guess are chosen, by the options: masked, or permuted as in XLNet; and texts that ask for some."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from lit_ft.data.batching.collators import Feature
from lit_ft.data.batching.masking import Masking
from lit_ft.data.batching.permutation import Permutation
from lit_ft.data.features.ragged import Ragged
from lit_ft.data.ordering.samplers import Key
from lit_ft.data.reading.raw import Split
from lit_ft.data.tokenizing.texts import Encoded
from lit_ft.data.tokenizing.word_starts import WordStarts
from lit_ft.errors import RowError, UserError

EVALUATION = (42, -1)
"""Seed and epoch, for what depends on chance, of every evaluation: numbers of all runs are comparable."""
OF_BOTH = {"max_span_length", "seed"}


def _options_of(way: type[Masking] | type[Permutation]) -> dict[str, Any]:
    return {each.name: each.default for each in fields(way) if each.default is not MISSING and each.name not in OF_BOTH}


OF_MASKS, OF_PERMUTATIONS = _options_of(Masking), _options_of(Permutation)
"""Options of one of the two ways of guessing, with their defaults."""
OPTIONS = {*OF_MASKS, *OF_PERMUTATIONS, "max_span_length"}


def check_way(options: Mapping[str, Any], permuted: bool) -> None:
    """Makes sure that the options are those of the model's way of guessing.

    Raises:
        UserError: one is of the other way.
    """
    kind, others = ("an XLNet", OF_MASKS) if permuted else ("no XLNet", OF_PERMUTATIONS)
    for option, default in others.items():
        if options[option] != default:
            raise UserError(f"{option} does not go with this model, which is {kind}: leave it out")


def way_of_guessing(
    options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, permuted: bool, seed: int | None
) -> Masking | Permutation:
    """Returns what chooses the tokens to guess.

    Args:
        options: of the data module.
        tokenizer: has a mask token.
        permuted: permutations, not masks.
        seed: the same seed chooses the same tokens; `None` = that of every evaluation.

    Raises:
        UserError: an option is out of its range.
    """
    own = {name: options[name] for name in (OF_PERMUTATIONS if permuted else OF_MASKS)}
    own["seed"] = EVALUATION[0] if seed is None else seed
    if options["max_span_length"] is not None:  # of either way, the usual one is another
        own["max_span_length"] = options["max_span_length"]
    mask, special = tokenizer.mask_token_id, tokenizer.all_special_ids
    if permuted:
        return Permutation(mask, tokenizer.pad_token_id, special, **own)
    return Masking(mask, len(tokenizer), special, **own)


def chances(keys: list[Key], split: Split) -> list[Key]:
    """Returns what chance depends on: epoch and row in training, the row alone in evaluation."""
    return keys if split == "train" else [(EVALUATION[1], index) for _, index in keys]


def with_words(features: Sequence[Feature], word_starts: WordStarts) -> list[Feature]:
    """Returns features with `word_starts`, which whole words and spans of them are masked by."""
    starts = word_starts(Ragged.of([feature["input_ids"] for feature in features]))
    return [{**feature, "word_starts": each} for feature, each in zip(features, starts, strict=True)]


def check_asked(encoded: Encoded, rows: int, tokenizer: PreTrainedTokenizerBase, longest: int) -> None:
    """Makes sure that every text has a mask token to be filled in.

    Args:
        encoded: the texts, without windows.
        rows: how many there are.
        tokenizer: has a mask token.
        longest: tokens at which texts were cut.

    Raises:
        RowError: a text has none, or it was cut off.
    """
    masks = encoded.input_ids.sums(encoded.input_ids.values == tokenizer.mask_token_id)
    found = np.bincount(encoded.row, masks, rows)
    if not found.all():
        row, token = int(found.argmin()), tokenizer.mask_token
        if encoded.tokens_cut[row]:
            raise RowError(row, f"no {token!r} in its first {longest} tokens: raise max_seq_length")
        raise RowError(row, f"no {token!r} to fill in")
