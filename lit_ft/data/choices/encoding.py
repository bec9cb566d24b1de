"""Choices -> token ids: what comes before is encoded once a row, cut to make room, and laid before each choice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from lit_ft.data.choices.texts import ChoiceTexts
from lit_ft.data.features.ragged import Array, Ragged, concatenate, offsets_of, rows_at
from lit_ft.data.tokenizing.pair_frame import Frame
from lit_ft.data.tokenizing.texts import TruncationSide, own_backend, part_of
from lit_ft.errors import UserError

LEAST_ROOM = 2


@dataclass(frozen=True)
class EncodedChoices:
    """Features of a batch of rows; `[total]` are the tokens of all choices end to end.

    Attributes:
        input_ids: token ids, `[rows, total of the row]`.
        token_type_ids: segments, likewise.
        lengths: tokens of each choice, `[rows, choices of the row]`.
        tokens_cut: tokens that a row lost: of its context once, however many choices lack them, `[rows]`.
    """

    input_ids: Ragged
    token_type_ids: Ragged
    lengths: Ragged
    tokens_cut: Array

    @property
    def row(self) -> Array:
        """Index of the row each feature belongs to: a row is one, `[rows]`."""
        return np.arange(len(self.lengths))


class ChoiceEncoder:
    """Encodes choices with a tokenizer; what is too long loses tokens of its context, then of its question.

    Args:
        tokenizer: a fast transformers tokenizer; truncation and padding baked into it never apply.
        max_seq_length: most tokens of a choice with all that comes before it; `None` = no limit.
        truncation_side: the part of a longer context (or question) that is kept.

    Raises:
        UserError: `max_seq_length` leaves no room, or the tokenizer is a slow one.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_seq_length: int | None,
        truncation_side: TruncationSide = "first",
    ) -> None:
        if not tokenizer.is_fast:
            raise UserError("multiple choice needs a fast (Rust) tokenizer, and this model has none")
        self.max_seq_length, self.side = max_seq_length, truncation_side
        self.backend = own_backend(tokenizer)
        self.pair, self.single = Frame.of(self.backend), Frame.of_single(self.backend)
        fillers = (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id, 0)
        self.filler: int = next(token for token in fillers if token is not None)
        if max_seq_length is not None and max_seq_length - len(self.pair) < LEAST_ROOM:
            raise UserError(f"max_seq_length {max_seq_length} leaves no room beside the special tokens")

    def __call__(self, texts: ChoiceTexts) -> EncodedChoices:
        """Encodes a batch; see `EncodedChoices`."""
        row = np.repeat(np.arange(len(texts.counts)), texts.counts)
        alone = np.array([text is None for text in texts.firsts], bool)[row]
        first = Ragged.of(self._ids([text or "" for text in texts.firsts]))
        second, lost = self._seconds(texts, np.where(alone, len(self.single), len(self.pair)))
        room = first.lengths[row]
        if self.max_seq_length is not None:
            room = np.minimum(room, self.max_seq_length - len(self.pair) - second.lengths)
        kept = np.where(alone, 0, np.maximum(room, 0))
        ids, types = self._framed(first, row, kept, second, alone)
        unseen = np.where(alone, 0, first.lengths[row] - kept)
        return _by_row(ids, types, texts.counts, _most(unseen, texts.counts) + _sums(lost, texts.counts))

    def _ids(self, texts: Sequence[str]) -> list[Sequence[int]]:
        return [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _seconds(self, texts: ChoiceTexts, specials: Array) -> tuple[Ragged, Array]:
        """Encodes the text of each choice, within the room there is, and counts what does not fit."""
        ids = self._ids(texts.seconds)
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        lost = np.zeros(len(ids), np.int64)
        for at in np.flatnonzero(lengths == 0).tolist():
            ids[at] = [self.filler]  # a choice without a token would look like a missing one
        if self.max_seq_length is not None:
            long = np.flatnonzero(lengths > self.max_seq_length - specials).tolist()
            whole = self.backend.encode_batch([texts.seconds[at] for at in long], add_special_tokens=False)
            for at, encoding in zip(long, whole, strict=True):
                places = self._fitting(encoding, texts.spans[at], self.max_seq_length - int(specials[at]))
                ids[at], lost[at] = np.asarray(encoding.ids)[places].tolist(), lengths[at] - len(places)
        return Ragged.of(ids), lost

    def _fitting(self, encoding: Encoding, span: Array, room: int) -> Array:
        """Returns the places that stay: those of the choice, as many as fit, and what then fits of the question."""
        starts, ends = np.array(encoding.offsets).T
        of_choice = (ends > span[0]) & (starts < span[1])
        choice, question = np.flatnonzero(of_choice)[:room], np.flatnonzero(~of_choice)
        return np.sort(np.concatenate([choice, part_of(question, room - len(choice), self.side)]))

    def _framed(self, first: Ragged, row: Array, kept: Array, second: Ragged, alone: Array) -> tuple[Ragged, Ragged]:
        """Lays special tokens, what is kept of the first text, and the second one end to end, for each choice."""
        specials = [part for frame in (self.pair, self.single) for part in frame.specials]
        pool = concatenate([first, second, Ragged.of(specials)])
        assert isinstance(pool, Ragged)
        of_texts = np.repeat(np.array(self.pair.text_types, np.uint8), [len(first.values), len(second.values)])
        of_texts[len(first.values) :][np.repeat(alone, second.lengths)] = self.single.text_types[0]
        of_specials = [
            type_id for frame in (self.pair, self.single) for part in frame.special_types for type_id in part
        ]
        types = np.concatenate([of_texts, np.array(of_specials, np.uint8)])
        # segments of the pool, in the order of a choice: special, head and tail of the first, special, second, special
        start, size = pool.offsets[:-1], pool.lengths
        frame = len(first) + len(second) + np.where(alone, 3, 0)
        own = len(first) + np.arange(len(second))
        head, tail = self._head_and_tail(kept)
        head_start = start[row] + (size[row] - head if self.side == "last" else 0)
        tail_start = start[row] + size[row] - tail
        starts = [start[frame], head_start, tail_start, start[frame + 1], start[own], start[frame + 2]]
        sizes = [size[frame], head, tail, size[frame + 1], size[own], size[frame + 2]]
        segments = np.stack(starts, 1).ravel(), np.stack(sizes, 1).ravel()
        ids = rows_at(pool.values, *segments)
        offsets = ids.offsets[:: len(starts)]
        return Ragged(ids.values, offsets), Ragged(rows_at(types, *segments).values, offsets)

    def _head_and_tail(self, kept: Array) -> tuple[Array, Array]:
        tail = kept // 2 if self.side == "head_and_tail" else np.zeros_like(kept)
        return kept - tail, tail


def _by_row(ids: Ragged, types: Ragged, counts: Array, tokens_cut: Array) -> EncodedChoices:
    of_rows = offsets_of(counts)
    offsets = ids.offsets[of_rows]
    lengths = Ragged(ids.lengths.astype(np.int32), of_rows)
    return EncodedChoices(Ragged(ids.values, offsets), Ragged(types.values, offsets), lengths, tokens_cut)


def _most(values: Array, counts: Array) -> npt.NDArray[np.int64]:
    """Returns the largest value of each row's choices, `[rows]`."""
    return np.maximum.reduceat(values, offsets_of(counts)[:-1])


def _sums(values: Array, counts: Array) -> npt.NDArray[np.int64]:
    return np.add.reduceat(values, offsets_of(counts)[:-1])
