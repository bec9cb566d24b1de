"""Texts -> token ids of whole documents: no special tokens, nothing cut, flat."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from lit_ft.data.features.ragged import Ragged, concatenate, taken
from lit_ft.data.tokenizing.texts import own_backend

AT_ONCE = 256
"""Texts that the encoder is given at a time: of more short ones, what it makes does not fit the processor's cache."""


class DocumentEncoder:
    """Encodes texts as they stand; the tokenizer itself is left untouched.

    Args:
        tokenizer: a transformers tokenizer.

    Attributes:
        prefix: ids that the tokenizer puts before a text.
        suffix: ids that it puts behind a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.backend = own_backend(tokenizer) if tokenizer.is_fast else None
        whole = list(tokenizer("a", truncation=False)["input_ids"])
        bare = list(tokenizer("a", truncation=False, add_special_tokens=False)["input_ids"])
        begin = next((at for at in range(len(whole)) if bare and whole[at : at + len(bare)] == bare), len(whole))
        self.prefix: list[int] = whole[:begin]
        self.suffix: list[int] = whole[begin + len(bare) :]

    def __call__(self, texts: Sequence[str]) -> Ragged:
        """Encodes a batch of texts."""
        if self.backend is None:
            encoded = self.tokenizer(list(texts), add_special_tokens=False, truncation=False) if texts else {}
            return Ragged.of(encoded.get("input_ids", []))
        different = list(dict.fromkeys(texts))  # among lines, empty ones and names come again and again
        parts = [Ragged.of([])]
        for start in range(0, len(different), AT_ONCE):
            encodings = self.backend.encode_batch_fast(different[start : start + AT_ONCE], add_special_tokens=False)
            # laid flat at once: many lists that stay make Python look for garbage
            parts.append(Ragged.of([each.ids for each in encodings]))
        places = {text: place for place, text in enumerate(different)}
        ids = taken(concatenate(parts), np.fromiter(map(places.__getitem__, texts), np.int64, len(texts)))
        assert isinstance(ids, Ragged)
        return ids

    def prompts(self, texts: Sequence[str]) -> Ragged:
        """Encodes texts to go on from: the tokenizer's own tokens before each, nothing behind, at least one token."""
        specials = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        first = self.prefix or [next((token for token in specials if token is not None), 0)]
        return Ragged.of([self.prefix + row.tolist() if len(row) else first for row in self(texts)])

    def ends(self, prompts: Ragged, most: int) -> Ragged:
        """Cuts prompts at their beginning, behind the tokenizer's own tokens, to so many tokens."""
        first = len(self.prefix)
        stops = np.maximum(prompts.lengths - (most - first), first)
        return Ragged.of([np.delete(row, slice(first, at)).tolist() for row, at in zip(prompts, stops, strict=True)])
