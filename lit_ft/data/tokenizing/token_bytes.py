"""How many bytes of text each token stands for: what bits per byte are computed from."""

import json
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""What SentencePiece writes for a space."""


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> npt.NDArray[np.int32]:
    """Counts the UTF-8 bytes of text that each token stands for; special tokens (an unknown one too) stand for none.

    - Byte-level BPE (GPT-2, Llama 3, Qwen, ...): exact, each symbol of a token is a byte.
    - SentencePiece (BPE and Unigram): a word's mark is the space before it, a `<0x0A>` is one byte. Exact up to the one
      space that these tokenizers put before a text, where the tokenizer changes no character (T5's and XLNet's do).
    - WordPiece: `##ing` is 3 bytes; a piece that begins a word has the space before it as well, although there may be
      another number of spaces. Lower-casing and stripping of accents make it an approximation, as do unknown words.
    - Others (`</w>` at a word's end): the token with one space; without a Rust tokenizer: what the token decodes to.

    Added tokens count their text.

    Returns:
        `[vocabulary]`, by token id.
    """
    vocabulary = tokenizer.get_vocab()
    counts = np.zeros(max(vocabulary.values()) + 1, np.int32)
    backend = json.loads(tokenizer.backend_tokenizer.to_str()) if tokenizer.is_fast else None
    kinds = _kinds(backend and [backend[part] for part in ("normalizer", "pre_tokenizer", "decoder")])
    for token, number in vocabulary.items():
        if backend is not None:
            counts[number] = _in_rust(token, backend["model"], kinds)
        else:
            counts[number] = _length(tokenizer.decode([number], clean_up_tokenization_spaces=False))
    for number, added in tokenizer.added_tokens_decoder.items():
        text = added.content
        if added.normalized and backend is not None and backend["normalizer"] is not None and "ByteLevel" not in kinds:
            # Llama's gets the space before it
            text = tokenizer.backend_tokenizer.normalizer.normalize_str(text).replace(SPACE, " ")
        counts[number] = 0 if added.special else _length(text)
    counts[tokenizer.all_special_ids] = 0
    return counts


def _in_rust(token: str, model: dict[str, Any], kinds: set[str]) -> int:
    suffix = model.get("end_of_word_suffix") or ""
    ends = bool(suffix) and token.endswith(suffix)
    token = token.removesuffix(suffix)
    if "ByteLevel" in kinds:
        return len(token) + ends
    if model["type"] in ("WordPiece", "WordLevel"):
        prefix = model.get("continuing_subword_prefix") or ""
        inside = bool(prefix) and token.startswith(prefix)
        return _length(token.removeprefix(prefix)) if inside else _length(token) + 1
    if BYTE.fullmatch(token) and ("ByteFallback" in kinds or model.get("byte_fallback")):
        return 1
    return _length(token.replace(SPACE, " ")) + ends


def _kinds(parts: Any) -> set[str]:
    """Returns the types of a tokenizer's parts and of those that they are made of."""
    if isinstance(parts, list):
        return set().union(*map(_kinds, parts))
    if not isinstance(parts, dict):
        return set()
    return {parts["type"]}.union(*(_kinds(part) for part in parts.values())) if "type" in parts else set()


def _length(text: str) -> int:
    return len(text.encode())
