"""Texts -> token ids of at most `max_seq_length`, cut or windowed by our own rule; every token lost is counted."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lit_ft.data.features.ragged import Array, Ragged
from lit_ft.data.reading.sources import resolve_path, why_not_loaded
from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")


def _without_threads() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


if hasattr(os, "register_at_fork"):
    # a forked process has none of the encoder's threads, and with TOKENIZERS_PARALLELISM=true it would wait for them
    os.register_at_fork(after_in_child=_without_threads)

TruncationSide = Literal["first", "last", "head_and_tail"]
PairRule = Literal["longest_first", "only_first"]
"""Which text of a pair is cut, as transformers names it."""


def load_tokenizer(
    name: str,
    revision: str = "main",
    use_fast: bool = True,
    trust_remote_code: bool = False,
    gguf_file: str | None = None,
    cache_dir: str | None = None,
    **kwargs: Any,
) -> PreTrainedTokenizerBase:
    """Loads a tokenizer from the hub, a folder or `package://...`.

    Raises:
        UserError: nothing there that is a tokenizer.
    """
    if gguf_file is not None:
        kwargs["gguf_file"] = gguf_file
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            resolve_path(name),
            revision=revision,
            use_fast=use_fast,
            trust_remote_code=trust_remote_code,
            cache_dir=cache_dir,
            **kwargs,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{name!r} holds no tokenizer that can be loaded: {why_not_loaded(name, error)}") from None
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(f"{name!r} holds no tokenizer: there is a configuration, but no vocabulary beside it")
    if tokenizer.pad_token is None:  # GPT-2, Llama: padding is masked, so any known token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        log.info(f"{name}: no padding token; padding is {tokenizer.pad_token!r}, which the attention mask hides")
    if not tokenizer.is_fast:
        log.info(
            f"{name}: no fast (Rust) tokenizer; its Python one takes many times as long (use_fast_tokenizer: true?)"
        )
    return tokenizer


def add_tokens_to(tokenizer: PreTrainedTokenizerBase, tokens: list[str] | None) -> PreTrainedTokenizerBase:
    """Adds words to a tokenizer's vocabulary, those that it does not have yet."""
    tokenizer.add_tokens(tokens or [])
    return tokenizer


def own_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Copies a fast tokenizer's Rust encoder, without the truncation and padding that may be baked into its file."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.backend_tokenizer.encode_special_tokens
    return backend


@dataclass(frozen=True)
class Encoded:
    """Features of a batch of rows; with windows, several features can belong to one row.

    Attributes:
        input_ids: token ids of each feature, int32.
        token_type_ids: segment of each token, uint8.
        row: index, within the batch, of the row each feature belongs to, `[features]`.
        tokens_cut: tokens that were lost in a row, at its first feature, `[features]`.
    """

    input_ids: Ragged
    token_type_ids: Ragged
    row: npt.NDArray[np.int64]
    tokens_cut: npt.NDArray[np.int32]

    def together(self, size: int, names: Sequence[str]) -> dict[str, Any]:
        """Lays features end to end, so many for each row.

        Args:
            size: features of a row; none of them is a window.
            names: what the model takes.

        Returns:
            `input_ids` and, where the model takes them, `token_type_ids`, and the lengths of each row's `sequences`.
        """
        lengths = self.input_ids.lengths.reshape(-1, size)
        columns = {"input_ids": self.input_ids, "token_type_ids": self.token_type_ids}
        made = {name: Ragged(each.values, each.offsets[::size]) for name, each in columns.items() if name in names}
        return {**made, "sequences": Ragged.of(lengths.tolist())}


def token_columns(encoded: Any, names: Sequence[str]) -> dict[str, Any]:
    """Returns the columns that all features of tokens have.

    Args:
        encoded: what an encoder of texts, words, choices or contexts returned.
        names: what the model takes; without `token_type_ids` among them segments are left out.
    """
    types = {"token_type_ids": encoded.token_type_ids} if "token_type_ids" in names else {}
    return {"input_ids": encoded.input_ids, "row": encoded.row, "tokens_cut": encoded.tokens_cut, **types}


class TextEncoder:
    """Encodes single texts or pairs with a tokenizer, then cuts or windows them.

    The tokenizer itself is left untouched: truncation and padding baked into a `tokenizer.json` never apply.

    Args:
        tokenizer: a transformers tokenizer; a slow one can only cut at the start or the end.
        max_seq_length: most tokens of a feature, special tokens included; `None` = no limit.
        truncation_side: the part of a long text that is kept.
        stride: instead of cutting, make windows that overlap by this many tokens (of a pair, over its longer text).
        option: what messages call `max_seq_length`.
        paired: texts may be pairs.
        pair_rule: which text of a pair is cut: the longer one first, or only the first one; then the second is to
            leave room for it.

    Raises:
        UserError: `max_seq_length` or `stride` leave no room, or a slow tokenizer cannot do it.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_seq_length: int | None,
        truncation_side: TruncationSide = "first",
        stride: int | None = None,
        option: str = "max_seq_length",
        paired: bool = True,
        pair_rule: PairRule = "longest_first",
    ) -> None:
        self.tokenizer, self.max_seq_length, self.side, self.stride = tokenizer, max_seq_length, truncation_side, stride
        self.pair_rule = pair_rule
        self.backend: Tokenizer | None = None
        fillers = (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id, 0)
        self.filler: int = next(token for token in fillers if token is not None)
        if tokenizer.is_fast:
            self.backend = own_backend(tokenizer)
            # XLNet's special tokens have segments of their own
            probe = self.backend.encode("a")
            self.typed = any(probe.type_ids)
            own = [place for place, owner in enumerate(probe.sequence_ids) if owner is not None] or [0]
            self.around = own[0], len(probe.ids) - own[-1] - 1
        elif stride is not None or truncation_side == "head_and_tail":
            raise UserError(
                "stride and truncation_side: head_and_tail need a fast tokenizer; this model has a slow one"
            )
        if max_seq_length is not None:
            room = max_seq_length - tokenizer.num_special_tokens_to_add(pair=paired)
            if room < (2 if paired else 1):
                raise UserError(f"{option} {max_seq_length} leaves no room beside the special tokens")
            if stride is not None and not 0 <= stride < room // 2:
                raise UserError(
                    f"stride {stride} must be below half of max_seq_length without special tokens ({room // 2})"
                )

    def __call__(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encoded:
        """Encodes a batch; see `Encoded`."""
        if self.backend is None:
            return self._encode_slow(texts, pairs)
        rows = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self.backend.encode_batch_fast(rows)  # does not track characters, which nobody needs here
        ids: list[Sequence[int]] = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        # an empty text where there are no special tokens: a model needs something to attend to
        for row in np.flatnonzero(lengths == 0).tolist():
            ids[row] = [self.filler]
        types: list[Sequence[int]] | None = None
        if pairs is not None or self.typed:
            types = [encoding.type_ids or [0] for encoding in encodings]
        limit = self.max_seq_length or int(lengths.max(initial=0))
        return _assembled(
            ids,
            types,
            {row: self._fit(encodings[row], pairs is not None) for row in np.flatnonzero(lengths > limit).tolist()},
        )

    def _fit(self, encoding: Encoding, paired: bool) -> "Fitted":
        if not paired and self.stride is None and self.side != "head_and_tail":
            return self._shortened(encoding)
        ids, types = np.asarray(encoding.ids, np.int32), np.asarray(encoding.type_ids, np.uint8)
        owners = np.array([-1 if owner is None else owner for owner in encoding.sequence_ids])
        first, second = np.flatnonzero(owners == 0), np.flatnonzero(owners == 1)
        budget = (self.max_seq_length or 0) - int((owners < 0).sum())
        kept = (
            [_keep(first, second, _SIZES[self.pair_rule](first.size, second.size, budget), self.side)]
            if self.stride is None
            else _windows(first, second, budget, self.stride, self.side)
        )
        specials = np.flatnonzero(owners < 0)
        chosen = [np.sort(np.concatenate([specials, positions])) for positions in kept]
        seen = np.unique(np.concatenate(kept)).size
        return Fitted(
            [ids[places] for places in chosen], [types[places] for places in chosen], first.size + second.size - seen
        )

    def _shortened(self, encoding: Encoding) -> "Fitted":
        """Cuts a single text at one end; much faster than to ask which text each of its tokens is of."""
        before, behind = self.around
        limit, size = self.max_seq_length or 0, len(encoding.ids)
        room = limit - before - behind
        start = before if self.side == "first" else size - behind - room
        places = np.r_[0:before, start : start + room, size - behind : size]
        ids, types = np.asarray(encoding.ids, np.int32), np.asarray(encoding.type_ids, np.uint8)
        return Fitted([ids[places]], [types[places]], size - limit)

    def _encode_slow(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Encoded:
        before = self.tokenizer.truncation_side
        self.tokenizer.truncation_side = "right" if self.side == "first" else "left"
        try:
            return self._call_slow(texts, pairs)
        finally:
            self.tokenizer.truncation_side = before

    def _call_slow(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Encoded:
        ids, types, cut = [], [], np.zeros(len(texts), np.int32)
        rule = True if pairs is None else self.pair_rule
        for number, text in enumerate(texts):
            pair = None if pairs is None else pairs[number]
            whole = self.tokenizer(text, pair, truncation=False)
            short = whole
            if self.max_seq_length is not None and len(whole["input_ids"]) > self.max_seq_length:
                short = self.tokenizer(text, pair, truncation=rule, max_length=self.max_seq_length)
            ids.append(list(short["input_ids"]) or [self.filler])
            types.append(list(short.get("token_type_ids", [])) or [0] * len(ids[-1]))
            cut[number] = len(whole["input_ids"]) - len(short["input_ids"])
        return Encoded(Ragged.of(ids), Ragged.of(types, np.uint8), np.arange(len(texts)), cut)


@dataclass(frozen=True)
class Fitted:
    """A text that was too long: ids and types of its features, and how many tokens are in none of them."""

    ids: list[Array]
    types: list[Array]
    tokens_cut: int


def _assembled(ids: list[Sequence[int]], types: list[Sequence[int]] | None, long: dict[int, Fitted]) -> Encoded:
    """Lays the features of all rows end to end, those of `long` rows in place of the row itself."""

    def laid(rows: list[Sequence[int]], part: str, dtype: npt.DTypeLike) -> Ragged:
        if not long:
            return Ragged.of(rows, dtype)
        pieces = (getattr(long[row], part) if row in long else [whole] for row, whole in enumerate(rows))
        return Ragged.of([piece for row in pieces for piece in row], dtype)

    input_ids = laid(ids, "ids", np.int32)
    zeros = Ragged(np.zeros(len(input_ids.values), np.uint8), input_ids.offsets)
    features = np.ones(len(ids), np.int64)
    for row, fitted in long.items():
        features[row] = len(fitted.ids)
    tokens_cut = np.zeros(len(input_ids), np.int32)
    first = np.cumsum(features) - features
    for row, fitted in long.items():
        tokens_cut[first[row]] = fitted.tokens_cut
    segments = zeros if types is None else laid(types, "types", np.uint8)
    return Encoded(input_ids, segments, np.repeat(np.arange(len(ids)), features), tokens_cut)


def longest_first(first: int, second: int, budget: int) -> tuple[int, int]:
    """Returns how many tokens of each text of a pair stay, by the rule of tokenizers' `longest_first`."""
    if first + second <= budget:
        return first, second
    short, long = min(first, second), max(first, second)
    long = short if short > budget else max(short, budget - short)
    if short + long > budget:
        short, long = budget // 2, budget // 2 + budget % 2
    return (short, long) if first <= second else (long, short)


def only_first(first: int, second: int, budget: int) -> tuple[int, int]:
    """Returns how many tokens of each text of a pair stay where the second stays whole."""
    return min(first, max(0, budget - second)), second


_SIZES = {"longest_first": longest_first, "only_first": only_first}


def part_of(positions: np.ndarray, size: int, side: TruncationSide) -> np.ndarray:
    """Returns those of a text's positions that stay when it is cut to `size` of them."""
    if size >= positions.size:
        return positions
    if side == "first":
        return positions[:size]
    if side == "last":
        return positions[positions.size - size :]
    tail = size // 2
    return np.concatenate([positions[: size - tail], positions[positions.size - tail :]])


def _keep(first: np.ndarray, second: np.ndarray, sizes: tuple[int, int], side: TruncationSide) -> np.ndarray:
    return np.concatenate([part_of(first, sizes[0], side), part_of(second, sizes[1], side)])


def _windows(first: np.ndarray, second: np.ndarray, budget: int, stride: int, side: TruncationSide) -> list[np.ndarray]:
    long, short = (first, second) if first.size >= second.size else (second, first)
    fixed = part_of(short, budget // 2, side)
    size = budget - fixed.size
    windows = []
    for start in range(0, long.size, size - stride):
        windows.append(np.concatenate([fixed, long[start : start + size]]))
        if start + size >= long.size:
            break
    return windows
