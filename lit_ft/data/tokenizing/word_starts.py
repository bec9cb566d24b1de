"""Which tokens begin a word, from the token ids alone, for any fast tokenizer.

The encoder's own word ids do not say it: its fast batch call has none, and they mean something else in each family (to
SentencePiece "end." is one word, a Llama tokenizer takes a whole text for one, others split 2024 into four). The tokens
themselves do: their strings are read once into tables over the vocabulary.

A word is what a reader would call one: letters and digits up to the next space or other sign; a token that begins with
another sign (punctuation, a symbol) begins a word; where words are not spaced (Chinese, Japanese, Thai, ...) each token
is one. WordPiece says itself what continues a word.
"""

import unicodedata
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lit_ft.data.features.ragged import Ragged
from lit_ft.errors import UserError

SPACE_MARK = "▁"
UNSPACED = {"CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"}
"""First words of the Unicode names of characters in scripts without spaces between words."""

_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
_LATER_BYTES = bytes(range(0x80, 0xC0))
_SOME_LATER_BYTE = b"\xa0"  # with most first bytes it gives a character that is typical of them


class Look(IntFlag):
    """What a token's string says about the words around it."""

    OPENS = 1
    """Begins a word wherever it stands."""
    APART = 2
    """Begins a word, except behind a lone space."""
    CLOSES = 4
    """What follows begins a word."""
    CONTINUES = 8
    """Never begins a word."""
    SPACE = 16
    """A lone space, which belongs to the word behind it."""
    PARTIAL = 32
    """Only later bytes of a character; what it is shows in the token that has its first byte."""


class WordStarts:
    """Says which tokens begin a word.

    Args:
        tokenizer: a fast tokenizer; its added tokens are words by themselves.

    Raises:
        UserError: the tokenizer is a slow one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                "whole words need a fast (Rust) tokenizer, and this model's is a slow one: "
                "set use_fast_tokenizer: true, or mask single tokens"
            )
        self._looks = _looks_by_id(tokenizer)

    def __call__(self, ids: Ragged) -> Ragged:
        """Returns 1 for each token that begins a word, else 0, uint8; the first token of a row always does.

        Args:
            ids: rows of token ids, in the order in which they stand in the text.
        """
        looks = self._looks[ids.values]
        shown_at = np.where(looks & Look.PARTIAL, 0, np.arange(len(looks)))
        before = np.roll(looks[np.maximum.accumulate(shown_at)], 1)
        begins = (looks & Look.APART) | (before & Look.CLOSES)
        kept_out = (looks & Look.CONTINUES) | (before & Look.SPACE)
        starts = ((looks & Look.OPENS) > 0) | ((begins > 0) & (kept_out == 0))
        starts[ids.offsets[:-1][ids.lengths > 0]] = True
        return Ragged(starts.astype(np.uint8), ids.offsets)


def _looks_by_id(tokenizer: PreTrainedTokenizerBase) -> npt.NDArray[np.uint8]:
    """Returns how each token looks, `[vocabulary]`."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    looks = np.zeros(max(vocabulary.values()) + 1, np.uint8)
    read = _Reader.of(tokenizer.backend_tokenizer).look
    looks[list(vocabulary.values())] = [read(token) for token in vocabulary]
    for number, added in tokenizer.added_tokens_decoder.items():
        looks[number] = Look.OPENS | (Look.CLOSES if added.special else _look_of(added.content) & Look.CLOSES)
    return looks


@dataclass(frozen=True)
class _Reader:
    """Reads token strings as a family of tokenizers writes them.

    Attributes:
        continuing: prefix of a token that continues a word (WordPiece), where all others begin one.
        ending: suffix of a token that ends a word (`</w>` of GPT-1 and CLIP).
        bytes_as_letters: each byte is written as a character (GPT-2).
        byte_tokens: rare characters are tokens such as `<0xE4>`, one for each byte (Llama).
        whole: a token is a word.
    """

    continuing: str
    ending: str
    bytes_as_letters: bool
    byte_tokens: bool
    whole: bool

    @classmethod
    def of(cls, backend: Tokenizer) -> "_Reader":
        model = backend.model
        stages = (backend.normalizer, backend.pre_tokenizer, backend.decoder)
        return cls(
            continuing=getattr(model, "continuing_subword_prefix", None) or "",
            ending=getattr(model, "end_of_word_suffix", None) or "",
            bytes_as_letters=any(b'"ByteLevel"' in stage.__getstate__() for stage in stages if stage is not None),
            byte_tokens=bool(getattr(model, "byte_fallback", False)),
            whole=isinstance(model, models.WordLevel),
        )

    def look(self, token: str) -> int:
        """Returns the look of a token that was not added by hand."""
        if self.whole:
            return Look.OPENS
        if self.continuing:
            return Look.CONTINUES if token.startswith(self.continuing) else Look.OPENS
        if self.ending and token.endswith(self.ending):
            return self.look_of_text(token.removesuffix(self.ending)) | Look.CLOSES
        return self.look_of_text(token)

    def look_of_text(self, token: str) -> int:
        """Returns the look of a token whose string is nothing but text."""
        if self.byte_tokens and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return _look_of_bytes(bytes.fromhex(token[3:5]))
        if self.bytes_as_letters and all(character in _BYTES for character in token):
            return _look_of_bytes(bytes(_BYTES[character] for character in token))
        return _look_of(token.replace(SPACE_MARK, " "))


def _look_of(text: str) -> int:
    if not text:
        return 0
    if text == " ":
        return Look.OPENS | Look.SPACE
    first, last = text[0], text[-1]
    look = Look.CLOSES if last.isspace() or _stands_apart(last) else Look(0)
    if first.isspace():
        return look | Look.OPENS
    if unicodedata.category(first).startswith("M"):
        return look | Look.CONTINUES
    return look | Look.APART if _stands_apart(first) else look


def _look_of_bytes(content: bytes) -> int:
    whole = content.lstrip(_LATER_BYTES)
    if not whole:
        return Look.PARTIAL | Look.CONTINUES
    look = _look_of(_completed(whole))
    return look & Look.CLOSES | Look.CONTINUES if len(whole) < len(content) else look


def _completed(content: bytes) -> str:
    """Reads bytes as text; a last character that lacks bytes is read as a typical one of those it can be."""
    for missing in range(4):
        try:
            return (content + missing * _SOME_LATER_BYTE).decode()
        except UnicodeDecodeError:
            continue
    return content.decode(errors="replace")


def _stands_apart(character: str) -> bool:
    """Says if a character is no part of a longer word: punctuation, symbols, scripts without spaces."""
    if character.isascii():
        return not character.isalnum()
    return unicodedata.category(character)[0] not in "LNM" or unicodedata.name(character, "").split(" ")[0] in UNSPACED
