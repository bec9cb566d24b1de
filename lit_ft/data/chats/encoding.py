"""Conversations -> token ids, and which of them are learned; the chat templates that come with lit_ft."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from lit_ft.data.chats.formats import Conversation
from lit_ft.data.chats.rendering import ChatRenderer, Span, TrainOn
from lit_ft.data.features.ragged import Array, Ragged
from lit_ft.data.reading.sources import resolve_path
from lit_ft.data.tokenizing.texts import TruncationSide, own_backend, part_of
from lit_ft.errors import RowError, UserError, did_you_mean

TEMPLATES = Path(__file__).parent / "templates"

MARKS = re.compile(r"<\|[^|<>\s]+\|>|<(?:start|end)_of_turn>")
"""What templates put between turns."""


def read_template(name: str | None) -> str | None:
    """Returns a chat template: of a file, by the name of one that comes with lit_ft, or as it is written.

    Args:
        name: a path, one of `chatml`, `llama3`, `gemma`, `mistral`, `alpaca`, or Jinja; `None` = the tokenizer's own.

    Raises:
        UserError: it is none of these.
    """
    if name is None:
        return None
    if "{%" in name or "{{" in name:
        return name
    for path in (TEMPLATES / f"{name}.jinja", Path(resolve_path(name))):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    known = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
    raise UserError(f"chat_template {name!r} is no file, and none of {', '.join(known)}{did_you_mean(name, known)}")


def check_tokens(tokenizer: PreTrainedTokenizerBase, renderer: ChatRenderer) -> list[str]:
    """Returns the marks of a chat template, such as `<|im_end|>`, that are no tokens of their own."""
    marks = set(MARKS.findall(str(renderer.template or tokenizer.chat_template)))
    return sorted(mark for mark in marks if len(tokenizer.encode(mark, add_special_tokens=False)) != 1)


class ChatEncoder:
    """Encodes conversations as their template writes them.

    Args:
        tokenizer: a fast one, which knows the characters of each token.
        renderer: writes conversations.

    Raises:
        UserError: the tokenizer is slow.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, renderer: ChatRenderer) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                f"{type(tokenizer).__name__} does not know the characters of its tokens: use a fast tokenizer"
            )
        self.tokenizer, self.renderer, self.backend = tokenizer, renderer, own_backend(tokenizer)

    def __call__(
        self, conversations: Sequence[Conversation], train_on: TrainOn = "assistant"
    ) -> tuple[list[Array], list[Array]]:
        """Encodes conversations to learn from.

        Args:
            conversations: a batch of them.
            train_on: see `ChatRenderer.learned`.

        Returns:
            Token ids of each, and which of them are learned, `[seq]` each.

        Raises:
            RowError: the template cannot render one.
        """
        rendered = []
        for number, conversation in enumerate(conversations):
            try:
                rendered.append(self.renderer.learned(conversation, train_on))
            except UserError as error:
                raise RowError(number, str(error)) from None
        ends = [conversation.text is not None for conversation in conversations]
        encodings = self.backend.encode_batch([text for text, _ in rendered], add_special_tokens=False)
        ids, learned = [], []
        for encoding, (_, spans), plain in zip(encodings, rendered, ends, strict=True):
            mine, marks = list(encoding.ids), within(np.array(encoding.offsets, np.int64).reshape(-1, 2), spans)
            if plain:  # no template ends it
                mine, marks = self._ended(mine, marks)
            ids.append(np.array(mine, np.int64))
            learned.append(marks)
        return ids, learned

    def prompts(self, conversations: Sequence[Conversation]) -> list[Array]:
        """Encodes conversations with the words that ask for a reply, `[seq]` each."""
        texts = [self.renderer.prompt(conversation) for conversation in conversations]
        return [np.array(each.ids, np.int64) for each in self.backend.encode_batch(texts, add_special_tokens=False)]

    def end_of_reply(self) -> int | None:
        """Returns the special token that the template ends replies with, if it does."""
        end = self.renderer.end_of_reply()
        ids = self.backend.encode(end, add_special_tokens=False).ids if end else []
        return ids[0] if len(ids) == 1 else None

    def _ended(self, ids: list[int], marks: Array) -> tuple[list[int], Array]:
        begin, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        if begin is not None and ids[:1] != [begin] and begin != end:
            ids, marks = [begin, *ids], np.concatenate([[False], marks])
        return ([*ids, end], np.concatenate([marks, [True]])) if end is not None else (ids, marks)


def cut_to(
    most: int, side: TruncationSide, ids: Sequence[Array], learned: Sequence[Array] = ()
) -> tuple[list[Array], list[Array], Array]:
    """Cuts conversations that are longer than a row may be.

    Args:
        most: tokens of a row.
        side: what is kept: the `first` tokens, the `last`, or `head_and_tail`, half of each.
        ids: tokens of each conversation.
        learned: which of them are learned.

    Returns:
        The tokens that are left, which of them are learned (0 or 1), and how many each conversation lost.
    """
    places = [part_of(np.arange(len(each)), most, side) for each in ids]
    kept = [each[part] for each, part in zip(ids, places, strict=True)]
    marks = [each[part].astype(int) for each, part in zip(learned, places, strict=False)]
    return kept, marks, np.array([len(whole) - len(rest) for whole, rest in zip(ids, kept, strict=True)], np.int64)


def end_to_end(parts: Sequence[Array], size: int = 1) -> Ragged:
    """Lays what belongs to the conversations of a row, so many each, one after the other."""
    return Ragged.of([np.concatenate(parts[at : at + size]).tolist() for at in range(0, len(parts), size)])


def within(offsets: Array, spans: Sequence[Span]) -> Array:
    """Returns which tokens have a character within a span, `[seq]`.

    Args:
        offsets: where each token begins and ends, `[seq, 2]`.
        spans: in order, without overlap.
    """
    starts, stops = (np.array([span[side] for span in spans], np.int64) for side in (0, 1))
    # the first span that ends behind the token's beginning
    place = np.searchsorted(stops, offsets[:, 0], side="right")
    there = place < len(spans)
    first = np.append(starts, np.iinfo(np.int64).max)[place]
    return there & (offsets[:, 1] > first) & (offsets[:, 1] > offsets[:, 0])  # type: ignore[no-any-return]
