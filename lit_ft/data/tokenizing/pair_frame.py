"""What a tokenizer puts around a text or a pair of texts, and pairs laid out in it, all rows at once."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from tokenizers import Tokenizer

from lit_ft.data.features.ragged import Array, Ragged, offsets_of
from lit_ft.errors import UserError


@dataclass(frozen=True)
class Frame:
    """Special tokens around a text, or around and between the two of a pair.

    Attributes:
        specials: special tokens before, between and behind the texts (of a single one: before, nothing, behind).
        special_types: their segments.
        text_types: segments of the first and of the second text's tokens.
    """

    specials: list[list[int]]
    special_types: list[list[int]]
    text_types: list[int]

    @classmethod
    def of(cls, backend: Tokenizer) -> "Frame":
        """Reads it off a pair of one token each.

        Raises:
            UserError: the tokenizer does not lay one text behind the other.
        """
        probe = backend.encode("a", "a")
        owners = [-1 if owner is None else owner for owner in probe.sequence_ids]
        if [owner for owner, _ in groupby(owners) if owner >= 0] != [0, 1]:
            raise UserError(f"this tokenizer does not lay two texts one behind the other, but as {probe.tokens}")
        begin, between = owners.index(0), owners.index(1)
        after_first = max(place for place, owner in enumerate(owners) if owner == 0) + 1
        after_second = max(place for place, owner in enumerate(owners) if owner == 1) + 1
        gaps = [slice(0, begin), slice(after_first, between), slice(after_second, None)]
        return cls(
            [probe.ids[gap] for gap in gaps],
            [probe.type_ids[gap] for gap in gaps],
            [probe.type_ids[begin], probe.type_ids[between]],
        )

    @classmethod
    def of_single(cls, backend: Tokenizer) -> "Frame":
        """Reads it off a text of one token."""
        probe = backend.encode("a")
        own = [place for place, owner in enumerate(probe.sequence_ids) if owner == 0]
        gaps = [slice(0, own[0]), slice(0, 0), slice(own[-1] + 1, None)]
        types = probe.type_ids
        return cls([probe.ids[gap] for gap in gaps], [types[gap] for gap in gaps], [types[own[0]]] * 2)

    def __len__(self) -> int:
        return sum(map(len, self.specials))

    def around(
        self, question: Ragged, context: Ragged, context_first: bool, filler: int | None = None
    ) -> tuple[Ragged, Array]:
        """Lays windows out; returns them, and where in each the context begins `[windows]`.

        Args:
            question: tokens of each window's question.
            context: tokens of each window's context.
            context_first: their order.
            filler: stands in place of each special token; `None` = the token itself.
        """
        texts = [context, question] if context_first else [question, context]
        specials = [ids if filler is None else [filler] * len(ids) for ids in self.specials]
        return _laid(specials, texts, int(not context_first))

    def types(self, question: Ragged, context: Ragged, context_first: bool) -> tuple[Ragged, Array]:
        """Lays out the segment of each token; see `around`."""
        texts = [context, question] if context_first else [question, context]
        segments = [filled(text, kind) for text, kind in zip(texts, self.text_types, strict=True)]
        laid, place = _laid(self.special_types, segments, int(not context_first))
        return Ragged(laid.values.astype(np.uint8), laid.offsets), place


def filled(like: Ragged, value: int) -> Ragged:
    """Returns rows of the same lengths that hold nothing but a value."""
    return Ragged(np.full(len(like.values), value, np.int32), like.offsets)


def _laid(specials: list[list[int]], texts: list[Ragged], which: int) -> tuple[Ragged, Array]:
    """Lays three runs of fixed tokens around two texts; returns also where the text number `which` begins."""
    lengths = sum(map(len, specials)) + texts[0].lengths + texts[1].lengths
    offsets = offsets_of(lengths)
    values = np.empty(offsets[-1], np.int32)
    at, begins = offsets[:-1].copy(), []
    for number, fixed in enumerate(specials):
        for token in fixed:
            values[at] = token
            at += 1
        if number < len(texts):
            text = texts[number]
            begins.append(at - offsets[:-1])
            values[np.repeat(at - text.offsets[:-1], text.lengths) + np.arange(len(text.values))] = text.values
            at += text.lengths
    return Ragged(values, offsets), begins[which]
