"""Rows of words -> token ids in windows of whole words; each word is looked up once and belongs to one window."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from unicodedata import category

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from lit_ft.data.features.ragged import Array, Ragged, offsets_of, rows_at
from lit_ft.data.tokenizing.texts import own_backend
from lit_ft.errors import UserError

REMEMBERED = 500_000
"""Different words whose tokens are kept."""
_SINGLE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Signs that are words by themselves to BERT's tokenizers, too: Chinese and Japanese set no spaces."""
_MARKS = "".join(chr(code) for code in range(0x20000) if category(chr(code))[0] == "M") + "\u200c\u200d"
"""What belongs to the letter before it, such as the vowels of Devanagari."""
_WORD = re.compile(rf"[{_SINGLE}]|(?:[^\W{_SINGLE}][{_MARKS}]*)+|\S")


def split_text(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Splits a text into words and single signs; returns them, and where each begins and ends (in characters).

    A word is a run of letters and digits with their marks; signs of Chinese and Japanese are words of their own.
    """
    found = list(_WORD.finditer(text))
    return [match.group() for match in found], [match.span() for match in found]


def needs_prefix_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Says whether words would be taken for parts of one: a byte-level tokenizer writes spaces into its tokens.

    run_ner names the model types (`gpt2`, `roberta`, ...); this asks the tokenizer.
    """
    if not tokenizer.is_fast:
        return getattr(tokenizer, "add_prefix_space", True) is False
    parts = _pre_tokenizers(tokenizer)
    return any(part.get("type") == "ByteLevel" and not part.get("add_prefix_space", True) for part in parts)


def takes_prefix_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Says whether the tokenizer's own option `add_prefix_space` does what is needed.

    Where something else cuts the text first (Llama 3, Qwen2), it would put spaces within words, or do nothing.
    """
    return not tokenizer.is_fast or len(_pre_tokenizers(tokenizer)) == 1


def _pre_tokenizers(tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    found = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"] or {}
    return found.get("pretokenizers", [found])  # type: ignore[no-any-return]


@dataclass(frozen=True)
class EncodedWords:
    """Features of a batch of rows of words.

    Attributes:
        input_ids: token ids of each feature, int32.
        token_type_ids: segment of each token, uint8.
        row: index, within the batch, of the row each feature belongs to, `[features]`.
        tokens_cut: tokens lost of words that are longer than a window, at a row's first feature, `[features]`.
        word: of each token the index of its word among all words of the batch, -1 where the token is none, or the
            word belongs to another window, int64.
        first: place, within its feature, of the first token of each word that belongs to it, int32.
    """

    input_ids: Ragged
    token_type_ids: Ragged
    row: Array
    tokens_cut: Array
    word: Ragged
    first: Ragged


class WordEncoder:
    """Encodes rows of words as transformers does with `is_split_into_words`, then makes windows of whole words.

    Each word is encoded once and remembered, with a space before it where the tokenizer would take it for a part of
    the one before. A word that the tokenizer makes nothing of gets the unknown token, so that
    no label is lost. Words in two windows belong to the one where they have more words around them.

    Args:
        tokenizer: a transformers tokenizer.
        max_seq_length: most tokens of a feature, special tokens included; `None` = no limit.
        stride: most tokens by which windows overlap; `None` = a quarter of `max_seq_length`.

    Raises:
        UserError: there is no room beside the special tokens, or for the overlap.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_seq_length: int | None, stride: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.backend: Tokenizer | None = own_backend(tokenizer) if tokenizer.is_fast else None
        self.mark = " " if needs_prefix_space(tokenizer) else ""
        self.before, self.behind, self.type = _around(tokenizer, self.backend)
        self.room: int | None = None
        if max_seq_length is not None:
            self.room = max_seq_length - len(self.before.ids) - len(self.behind.ids)
            if self.room < 2:
                raise UserError(f"max_seq_length {max_seq_length} leaves no room beside the special tokens")
            if stride is not None and not 0 <= stride < max(self.room // 2, 1):
                raise UserError(
                    f"stride {stride} must be below half of max_seq_length without special tokens ({self.room // 2})"
                )
        self.stride = stride if stride is not None else (self.room or 0) // 4
        self._forget()

    def __call__(self, rows: Sequence[Sequence[str]]) -> EncodedWords:
        """Encodes a batch."""
        sizes = np.fromiter(map(len, rows), np.int64, len(rows))
        known = self._look_up(list(chain.from_iterable(rows)))
        offsets = offsets_of(sizes)
        whole = self._lengths[known]
        lengths = whole if self.room is None else np.minimum(whole, self.room)
        windows = self._windows(lengths, offsets)
        cut = np.add.reduceat(np.append(whole - lengths, 0), np.minimum(offsets[:-1], len(whole))) * (sizes > 0)
        return self._assembled(known, lengths, windows, cut)

    def _forget(self) -> None:
        self._numbers: dict[str, int] = {}
        self._pieces, self._starts, self._lengths = np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64)

    def _look_up(self, words: list[str]) -> Array:
        """Returns a number for each word, under which its tokens are kept."""
        if len(self._numbers) > REMEMBERED:
            self._forget()
        if new := [word for word in dict.fromkeys(words) if word not in self._numbers]:
            pieces = Ragged.of(self._encode(new))
            self._numbers |= {word: len(self._numbers) + number for number, word in enumerate(new)}
            self._starts = np.concatenate([self._starts, pieces.offsets[:-1] + len(self._pieces)])
            self._lengths = np.concatenate([self._lengths, pieces.lengths])
            self._pieces = np.concatenate([self._pieces, pieces.values])
        return np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))

    def _encode(self, words: list[str]) -> list[Sequence[int]]:
        if self.backend is not None:
            inputs = [[self.mark + word] for word in words]
            encodings = self.backend.encode_batch_fast(inputs, is_pretokenized=True, add_special_tokens=False)
            found: list[Sequence[int]] = [encoding.ids for encoding in encodings]
        else:
            found = [
                self.tokenizer([self.mark + word], is_split_into_words=True, add_special_tokens=False)["input_ids"]
                for word in words
            ]
        nothing = [next(t for t in (self.tokenizer.unk_token_id, self.tokenizer.pad_token_id, 0) if t is not None)]
        return [ids or nothing for ids in found]

    def _windows(self, lengths: Array, offsets: Array) -> "_Windows":
        total = np.concatenate([[0], np.cumsum(lengths)])
        tokens = total[offsets[1:]] - total[offsets[:-1]]
        long = np.flatnonzero(tokens > (self.room or tokens.max(initial=0))).tolist()
        if not long:
            return _Windows(np.arange(len(tokens)), offsets[:-1], offsets[1:], offsets[:-1], offsets[1:])
        parts, last = [], 0
        for row in [*long, len(tokens)]:
            own, start, end = np.arange(last, row), offsets[last:row], offsets[last + 1 : row + 1]
            parts.append(np.stack([own, start, end, start, end]))
            if row < len(tokens):
                first, behind = int(offsets[row]), int(offsets[row + 1])
                found = _cut_into_windows(total, first, behind, self.room or 0, self.stride)
                parts.append(np.concatenate([np.full((1, found.shape[1]), row), found]))
            last = row + 1
        return _Windows(*np.concatenate(parts, axis=1))

    def _assembled(self, known: Array, lengths: Array, windows: "_Windows", cut: Array) -> EncodedWords:
        sizes = windows.end - windows.start
        word = rows_at(np.arange(len(known)), windows.start, sizes).values  # of each place of a word in a window
        window = np.repeat(np.arange(len(sizes)), sizes)
        owned = (word >= windows.own_start[window]) & (word < windows.own_end[window])
        pieces = rows_at(self._pieces, self._starts[known[word]], lengths[word])
        before, behind = len(self.before.ids), len(self.behind.ids)
        inside = Ragged(pieces.lengths, offsets_of(sizes)).sums(pieces.lengths)
        filler = np.flatnonzero((inside == 0) & (before + behind == 0))  # a model needs something to attend to
        inside[filler] = 1
        offsets = offsets_of(inside + before + behind)
        ids = np.full(offsets[-1], self.tokenizer.pad_token_id or 0, np.int32)
        types, owner = np.full(len(ids), self.type, np.uint8), np.full(len(ids), -1, np.int64)
        shift = (before + behind) * np.arange(len(sizes)) + before + np.searchsorted(filler, np.arange(len(sizes)))
        starts = pieces.offsets[:-1] + shift[window]
        places = np.arange(len(pieces.values)) + np.repeat(shift[window], pieces.lengths)
        ids[places], owner[places] = pieces.values, np.repeat(np.where(owned, word, -1), pieces.lengths)
        for special, first in ((self.before, offsets[:-1]), (self.behind, offsets[1:] - behind)):
            around = first[:, None] + np.arange(len(special.ids))
            ids[around], types[around] = special.ids, special.types
        in_feature = (starts - offsets[:-1][window])[owned].astype(np.int32)
        own_sizes = np.bincount(window[owned], minlength=len(sizes))
        opens = np.diff(windows.row, prepend=-1) > 0
        return EncodedWords(
            Ragged(ids, offsets),
            Ragged(types, offsets),
            windows.row,
            np.where(opens, cut[windows.row], 0),
            Ragged(owner, offsets),
            Ragged(in_feature, offsets_of(own_sizes)),
        )


@dataclass(frozen=True)
class _Windows:
    """Windows of words: the row of each, its words, and those that belong to it, as numbers among all words."""

    row: Array
    start: Array
    end: Array
    own_start: Array
    own_end: Array


def _cut_into_windows(total: Array, first: int, behind: int, room: int, stride: int) -> Array:
    """Cuts words `[first, behind)` into windows of at most `room` tokens; `total` = tokens before each word.

    Returns:
        Start, end, and the start and end of what belongs to each window, `[4, windows]`.
    """
    starts, ends, start = [], [], first
    while True:
        end = min(int(np.searchsorted(total, total[start] + room, "right")) - 1, behind)
        starts.append(start)
        ends.append(end)
        if end == behind:
            break
        # as far back as the overlap and the next word allow
        start = max(
            int(np.searchsorted(total, total[end] - stride)),
            int(np.searchsorted(total, total[end + 1] - room)),
            start + 1,
        )
    begin, stop = np.array(starts), np.array(ends)
    borders = np.maximum.accumulate((begin[1:] + stop[:-1] + 1) // 2)
    return np.stack([begin, stop, np.append(first, borders), np.append(borders, behind)])


@dataclass(frozen=True)
class _Specials:
    """Tokens beside a text, and their segments."""

    ids: list[int]
    types: list[int]


def _around(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer | None) -> tuple[_Specials, _Specials, int]:
    """Returns the special tokens before and behind a text, and the text's own segment."""
    if backend is None:
        mark = tokenizer.convert_tokens_to_ids(tokenizer.tokenize("a"))[:1]
        ids = tokenizer.build_inputs_with_special_tokens(mark)
        place = ids.index(mark[0])
        return _Specials(ids[:place], [0] * place), _Specials(ids[place + 1 :], [0] * (len(ids) - place - 1)), 0
    probe = backend.encode(["a"], is_pretokenized=True)
    own = [place for place, owner in enumerate(probe.sequence_ids) if owner is not None]
    start, end, kinds = own[0], own[-1] + 1, probe.type_ids
    return _Specials(probe.ids[:start], kinds[:start]), _Specials(probe.ids[end:], kinds[end:]), kinds[start]
