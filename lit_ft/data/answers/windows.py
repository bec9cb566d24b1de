"""Questions and contexts -> windows of tokens that overlap within the context, with the characters of each token."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from lit_ft.data.features.ragged import Array, Ragged, rows_at, taken
from lit_ft.data.tokenizing.pair_frame import Frame, filled
from lit_ft.data.tokenizing.texts import own_backend
from lit_ft.errors import UserError


@dataclass(frozen=True)
class Windows:
    """Windows of a batch of rows, in the order of the rows.

    Attributes:
        input_ids: token ids of each window, int32.
        token_type_ids: segment of each token, uint8.
        char_starts: first character of each token in its context, int32; -1 where a token is not of the context.
        char_ends: end of each token in its context, likewise.
        cls_index: place of the token that stands for no answer, `[windows]`.
        row: index, within the batch, of the row each window belongs to, `[windows]`.
        first: which token of the context each window begins with, `[windows]`.
        size: how many tokens of the context it holds, `[windows]`.
        place: where in the window they begin, `[windows]`.
        question_cut: tokens that each row's question lost, `[rows]`.
        contexts: the characters of all tokens of each row's context.
    """

    input_ids: Ragged
    token_type_ids: Ragged
    char_starts: Ragged
    char_ends: Ragged
    cls_index: Array
    row: Array
    first: Array
    size: Array
    place: Array
    question_cut: Array
    contexts: "Characters"

    @property
    def begins(self) -> Array:
        """Which windows are the first of their row, `[windows]`."""
        return np.diff(self.row, prepend=-1) > 0

    @property
    def tokens_cut(self) -> Array:
        """Tokens of the question that were lost, at the first window of each row, `[windows]`."""
        return np.where(self.begins, self.question_cut[self.row], 0)

    def only(self, windows: Array) -> "Windows":
        """Returns some of the windows, by a mask `[windows]`."""
        chosen = np.flatnonzero(windows)
        of_rows = ("question_cut", "contexts")
        columns: dict[str, Any] = {
            field.name: taken(getattr(self, field.name), chosen) for field in fields(self) if field.name not in of_rows
        }
        return replace(self, **columns)


@dataclass(frozen=True)
class Characters:
    """First character and end of each token of each row's context."""

    starts: Ragged
    ends: Ragged

    def tokens_of(self, start: Array, end: Array) -> tuple[Array, Array]:
        """Returns the first and the last token that hold characters `start` to `end`, of each row.

        The last lies before the first where no token holds any of them. A character that is cut into several tokens
        (bytes) is held by all of them.
        """
        first, last = np.zeros(len(start), np.int64), np.zeros(len(start), np.int64)
        for row, (starts, ends) in enumerate(zip(self.starts, self.ends, strict=True)):
            first[row] = np.searchsorted(np.maximum.accumulate(ends), start[row], "right")
            last[row] = np.searchsorted(np.maximum.accumulate(starts), end[row], "left") - 1
        return first, last


class ContextWindows:
    """Lays each question beside windows of its context, as transformers' scripts do.

    Only the context is cut: windows begin every `room - doc_stride` tokens, where `room` is what the question and the
    special tokens leave. Where the tokenizer pads on the left, the context comes first. A question that would leave no
    more room than `doc_stride` is cut, and so is one that is longer than half of a window; what it loses is counted.

    Args:
        tokenizer: a fast tokenizer; truncation and padding baked into its file never apply.
        max_seq_length: most tokens of a window, special tokens included; `None` = no limit.
        doc_stride: tokens of the context that a window has in common with the one before.

    Raises:
        UserError: the tokenizer is a slow one, or `doc_stride` leaves no room for the question.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_seq_length: int | None, doc_stride: int) -> None:
        if not tokenizer.is_fast:
            raise UserError("question answering needs the characters of each token: a fast tokenizer; this one is slow")
        self.backend: Tokenizer = own_backend(tokenizer)
        self.context_first = tokenizer.padding_side == "left"
        self.doc_stride = doc_stride
        self.frame = Frame.of(self.backend)
        self.null_ids = [i for i in (tokenizer.cls_token_id, tokenizer.bos_token_id) if i is not None]
        self.budget: int | None = None
        self.longest_question: int | None = None
        if max_seq_length is not None:
            self.budget = max_seq_length - len(self.frame)
            most = self.budget - max(1, self.budget // 4)
            if not 0 <= doc_stride < most:
                raise UserError(
                    f"doc_stride {doc_stride} must be from 0 to {most - 1}: max_seq_length {max_seq_length} leaves "
                    f"{self.budget} tokens, a quarter of them for the question"
                )
            self.longest_question = min(self.budget // 2, self.budget - doc_stride - 1)

    def __call__(self, questions: Sequence[str], contexts: Sequence[str]) -> Windows:
        """Makes the windows of a batch of rows; every row has one at least."""
        asked = Ragged.of([encoding.ids for encoding in self._encoded([text.lstrip() for text in questions])])
        ids, characters = self._contexts(contexts)
        lost = np.zeros(len(asked), np.int64)
        if self.longest_question is not None:
            lost = np.maximum(0, asked.lengths - self.longest_question)
            asked = rows_at(asked.values, asked.offsets[:-1], asked.lengths - lost)
        room = ids.lengths if self.budget is None else self.budget - asked.lengths
        step = np.maximum(1, room - self.doc_stride)
        count = 1 + np.maximum(0, -((room - ids.lengths) // step))  # ceil((length - room) / step) more
        row = np.repeat(np.arange(len(asked)), count)
        number = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        first = number * step[row]
        size = np.minimum(room[row], ids.lengths[row] - first)
        question = taken(asked, row)
        assert isinstance(question, Ragged)
        columns = (ids, characters.starts, characters.ends)
        tokens, *sides = (rows_at(each.values, each.offsets[row] + first, size) for each in columns)
        input_ids, place = self.frame.around(question, tokens, self.context_first)
        types, _ = self.frame.types(question, tokens, self.context_first)
        nowhere = filled(question, -1)
        starts, ends = (self.frame.around(nowhere, each, self.context_first, -1)[0] for each in sides)
        return Windows(
            input_ids, types, starts, ends, self._null_places(input_ids), row, first, size, place,
            lost, characters,
        )  # fmt: skip

    def _encoded(self, texts: list[str]) -> list[Encoding]:
        return self.backend.encode_batch(texts, add_special_tokens=False)  # type: ignore[no-any-return]

    def _contexts(self, contexts: Sequence[str]) -> tuple[Ragged, Characters]:
        """Encodes each different context once: SQuAD asks five questions of one."""
        different = {text: number for number, text in enumerate(dict.fromkeys(contexts))}
        encodings = self._encoded(list(different))
        whose = np.array([different[text] for text in contexts], np.int64)
        ids = Ragged.of([encoding.ids for encoding in encodings])
        flat = np.fromiter(
            chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings)),
            np.int32,
            2 * len(ids.values),
        )
        sides = (Ragged(np.ascontiguousarray(flat[side::2]), ids.offsets) for side in (0, 1))
        columns = [taken(each, whose) for each in (ids, *sides)]
        assert all(isinstance(each, Ragged) for each in columns)
        return columns[0], Characters(*columns[1:])  # type: ignore[return-value,arg-type]

    def _null_places(self, ids: Ragged) -> Array:
        """Returns the place of each window's first CLS token, else of its first BOS token, else 0."""
        found = np.zeros(len(ids), np.int64)
        for null in reversed(self.null_ids):
            places = np.flatnonzero(ids.values == null)
            nearest = np.append(places, len(ids.values))[np.searchsorted(places, ids.offsets[:-1])]
            found = np.where(nearest < ids.offsets[1:], nearest - ids.offsets[:-1], found)
        return found
