"""Masked language modeling: which tokens of a feature are predicted, and what stands in their place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lit_ft.data.batching.collators import Feature
from lit_ft.data.features.ragged import Array, offsets_of
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.chance import States, drawn, row_states, uniform
from lit_ft.data.ordering.samplers import Key
from lit_ft.errors import UserError

# streams of chance
_PREDICTED, _REPLACEMENT, _TOKEN, _LENGTH = range(4)
_TIME_BITS = 40  # of the 64 of a sort key; the others are for the number of the row in its batch
_NEVER = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Masking:
    """Masks features for masked language modeling; a pure function of seed, epoch and row.

    Each token (each word with `whole_word_mask`) is predicted with `mlm_probability`, and so chance may pick none of a
    short feature. With `span_mask`, spans of words are (Joshi et al. 2020, SpanBERT): a start among the feature's
    words, a length from a geometric distribution, until `mlm_probability` of the tokens are covered, at least one word.
    The last span ends with the word that reaches this, where SpanBERT's own code cuts the word.

    What is predicted becomes the mask token, a random token or stays, drawn for each token, also within a word (as in
    BERT's whole word masking), but once for a whole span. Random tokens come from the whole vocabulary, special tokens
    included, as in transformers. Special tokens are never predicted, and neither words nor spans go across them.

    Args:
        mask_token_id: what stands for a token to predict; `None` = the tokenizer has no such token, which is an error.
        vocab_size: random tokens are below this: `len(tokenizer)`, added tokens included.
        special_ids: tokens that are never predicted: `tokenizer.all_special_ids`.
        mlm_probability: share of tokens to predict.
        mask_replace_prob: share of these that become the mask token.
        random_replace_prob: share of these that become a random token; the rest stays as it is.
        whole_word_mask: predict all tokens of a word or none.
        span_mask: predict spans of whole words (`whole_word_mask` adds nothing to it).
        span_geometric_p: parameter of the geometric distribution of the spans' lengths.
        max_span_length: most words in a span; the distribution is cut there and scaled up to 1.
        seed: the same seed gives the same masks.

    Raises:
        UserError: an option is out of range, or there is no mask token.
    """

    mask_token_id: int | None
    vocab_size: int
    special_ids: Sequence[int]
    mlm_probability: float = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    whole_word_mask: bool = False
    span_mask: bool = False
    span_geometric_p: float = 0.2
    max_span_length: int = 10
    seed: int = 42

    def __post_init__(self) -> None:
        if self.mask_token_id is None:
            raise UserError(
                "the tokenizer has no mask token, so there is nothing to put in place of a token to predict: "
                "a model without one (GPT-2, Llama) is trained with causal language modeling"
            )
        if self.mlm_probability == 0:
            raise UserError("mlm_probability 0 masks nothing, so there is nothing to learn: it must be above 0")
        for name in ("mlm_probability", "mask_replace_prob", "random_replace_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)} is no probability: it must be between 0 and 1")
        if self.mask_replace_prob + self.random_replace_prob > 1 + 1e-9:
            raise UserError(
                f"mask_replace_prob {self.mask_replace_prob} and random_replace_prob {self.random_replace_prob} "
                "add up to more than 1: they are shares of the same tokens"
            )
        if not 0 < self.span_geometric_p <= 1:
            raise UserError(f"span_geometric_p {self.span_geometric_p} must be above 0 and at most 1")
        if self.max_span_length < 1:
            raise UserError(f"max_span_length {self.max_span_length} must be at least 1 word")

    def __call__(self, features: Sequence[Feature], keys: Sequence[Key]) -> list[Feature]:
        """Returns the features with masked `input_ids`, and `labels`: the token where it is predicted, else -100.

        Args:
            features: with `input_ids` `[n]`, and with `whole_word_mask` or `span_mask` also `word_starts` `[n]`, 1
                where a token begins a word.
            keys: epoch and index of each feature.
        """
        tokens = _Tokens.of(features, row_states(self.seed, keys), self.special_ids)
        if self.span_mask:
            predicted = self._in_spans(tokens, _word_firsts(tokens, features))
            units = _run_firsts(tokens, predicted)
        else:
            places = np.arange(len(tokens.ids))
            chosen_by = _word_owners(tokens, features) if self.whole_word_mask else places
            predicted = (tokens.uniform(places, _PREDICTED) < self.mlm_probability)[chosen_by] & tokens.maskable
            units = np.flatnonzero(predicted)
        labels = np.where(predicted, tokens.ids, IGNORED)
        masked = self._replaced(tokens, np.flatnonzero(predicted), units)
        spans = [slice(start, stop) for start, stop in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]
        return [
            {**feature, "input_ids": masked[row], "labels": labels[row]}
            for feature, row in zip(features, spans, strict=True)
        ]

    def _replaced(self, tokens: "_Tokens", predicted: Array, units: Array) -> Array:
        """Returns all ids, `[total]`, with those `predicted` replaced by what is drawn at the token in `units`."""
        kind = tokens.uniform(units, _REPLACEMENT)
        random = (tokens.uniform(predicted, _TOKEN) * self.vocab_size).astype(tokens.ids.dtype)
        ids = tokens.ids.copy()
        ids[predicted] = np.where(
            kind < self.mask_replace_prob,
            np.asarray(self.mask_token_id, ids.dtype),
            np.where(kind < self.mask_replace_prob + self.random_replace_prob, random, ids[predicted]),
        )
        return ids

    def _in_spans(self, tokens: "_Tokens", firsts: Array) -> npt.NDArray[np.bool_]:
        """Says which tokens are in a span, `[total]`.

        Every word starts a span, at a random time. A word is in the first of the spans that reach it, and the spans
        that come until enough is covered are used.

        Args:
            tokens: all tokens.
            firsts: the first token of each word, special tokens being words of their own, `[words]`.
        """
        sizes = np.diff(firsts, append=len(tokens.ids))
        # words on different sides of a special token, or of different rows, are in different segments
        segments = np.cumsum(~tokens.maskable | (tokens.places == 0))[firsts]
        words = np.flatnonzero(tokens.maskable[firsts])
        firsts, sizes, segments = firsts[words], sizes[words], segments[words]
        lengths = np.searchsorted(self._length_limits(), tokens.uniform(firsts, _LENGTH), side="right") + 1
        starts = tokens.drawn(firsts, _PREDICTED) >> np.uint64(64 - _TIME_BITS)
        times = starts.copy()
        for behind in range(1, min(self.max_span_length, len(words))):
            reached = (lengths[:-behind] > behind) & (segments[behind:] == segments[:-behind])
            np.minimum(times[behind:], np.where(reached, starts[:-behind], _NEVER), out=times[behind:])
        rows = tokens.rows[firsts]
        # of words of the same span the first comes first, and so a last span that is too long loses its end
        order = np.argsort((rows.astype(np.uint64) << np.uint64(_TIME_BITS)) | times, kind="stable")
        covered = np.cumsum(sizes[order]) - sizes[order]
        totals = np.bincount(rows, weights=sizes, minlength=len(tokens.states))
        covered = covered - (np.cumsum(totals) - totals)[rows[order]]
        wanted = np.ceil(totals * self.mlm_probability - 1e-9)
        used = np.zeros(len(words), np.bool_)
        used[order] = covered < wanted[rows[order]]
        predicted = np.zeros(len(tokens.ids), np.bool_)
        predicted[tokens.maskable] = np.repeat(used, sizes)
        return predicted

    def _length_limits(self) -> Array:
        """Returns what a uniform draw must reach for a length of 2, 3, ... words, `[max_span_length - 1]`."""
        shares = (1 - self.span_geometric_p) ** np.arange(self.max_span_length)
        return np.asarray(np.cumsum(shares / shares.sum())[:-1])


@dataclass(frozen=True)
class _Tokens:
    """The tokens of all features, laid end to end.

    Attributes:
        ids: `[total]`.
        offsets: where each feature begins, and the end of the last one, `[features + 1]`.
        rows: number of each token's feature, `[total]`.
        places: each token's place in its feature, `[total]`.
        maskable: tokens that are not special, `[total]`.
        states: chance of each feature, `[features]`.
    """

    ids: Array
    offsets: Array
    rows: Array
    places: Array
    maskable: npt.NDArray[np.bool_]
    states: States

    @classmethod
    def of(cls, features: Sequence[Feature], states: States, special_ids: Sequence[int]) -> "_Tokens":
        offsets = offsets_of(np.array([len(feature["input_ids"]) for feature in features]))
        ids = np.concatenate([feature["input_ids"] for feature in features])
        rows = np.repeat(np.arange(len(features)), np.diff(offsets))
        maskable = ~np.isin(ids, np.asarray(special_ids, ids.dtype))
        return cls(ids, offsets, rows, np.arange(len(ids)) - offsets[rows], maskable, states)

    def drawn(self, which: Array, stream: int) -> States:
        """Returns random bits of some tokens, by their places in all."""
        return drawn(self.states[self.rows[which]], self.places[which], stream)

    def uniform(self, which: Array, stream: int) -> npt.NDArray[np.float64]:
        """Returns a number in [0, 1) of some tokens, by their places in all."""
        return uniform(self.states[self.rows[which]], self.places[which], stream)


def _word_firsts(tokens: _Tokens, features: Sequence[Feature]) -> Array:
    """Returns the first token of each word; a special token is a word, and what follows it begins one."""
    begins = np.concatenate([feature["word_starts"] for feature in features]) > 0
    begins |= (tokens.places == 0) | ~tokens.maskable
    begins[1:] |= ~tokens.maskable[:-1]
    return np.flatnonzero(begins)


def _word_owners(tokens: _Tokens, features: Sequence[Feature]) -> Array:
    """Returns the first token of the word that each token is of, `[total]`."""
    firsts = _word_firsts(tokens, features)
    return np.repeat(firsts, np.diff(firsts, append=len(tokens.ids)))


def _run_firsts(tokens: _Tokens, predicted: npt.NDArray[np.bool_]) -> Array:
    """Returns the first token of the run that each predicted token is of, `[predicted]`; adjacent spans are one run."""
    first = predicted.copy()
    first[1:] &= ~predicted[:-1] | (tokens.places[1:] == 0)
    return np.asarray(np.flatnonzero(first)[np.cumsum(first)[predicted] - 1])
