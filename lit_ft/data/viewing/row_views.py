"""Rows as the model sees them, for people: pieces of text, each with what it is for, and what is to be predicted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase

from lit_ft.data.batching.collators import padding_before
from lit_ft.data.labels import IGNORED
from lit_ft.data.reading.formats.common import shorten

Role = Literal["plain", "special", "learned", "masked", "answer", "ignored"]
"""`special` was put there by the tokenizer, `learned` is to be predicted, `masked` to be guessed, `answer` is the span
that is looked for, `ignored` is read and not predicted, where others are."""

BEFORE = 6
"""Tokens that are decoded with each one: what it looks like depends on those before it."""
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Token:
    """One token.

    Attributes:
        text: what it adds to the text.
        role: what it is for.
        label: what is predicted there, where that is not the token itself.
    """

    text: str
    role: Role = "plain"
    label: str | None = None


@dataclass(frozen=True)
class SequenceView:
    """Tokens that the model reads as one sequence.

    Attributes:
        tokens: in their order.
        title: what sets it apart from other parts of the row, such as `choice 2`.
        right: whether it is the one to be chosen.
    """

    tokens: tuple[Token, ...]
    title: str | None = None
    right: bool = False

    @property
    def text(self) -> str:
        """What the tokens say."""
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True)
class RowView:
    """One row, or window of a row.

    Attributes:
        parts: what the model reads.
        label: what is to be predicted of the whole.
        title: which row it is.
        lost: tokens that were cut off.
    """

    parts: tuple[SequenceView, ...]
    label: str | None = None
    title: str | None = None
    lost: int = 0

    @property
    def text(self) -> str:
        """What the parts say, special tokens left out."""
        runs = (run for part in self.parts for run in groupby(part.tokens, key=lambda token: token.role == "special"))
        texts = ("".join(token.text for token in run).strip() for special, run in runs if not special)
        return " | ".join(text for text in texts if text)

    def plain(self, most: int = 300) -> str:
        """Returns the row in one line of at most about so many characters a part."""
        said = []
        for part in self.parts:
            title = f"{part.title}{' (right)' if part.right else ''}: " if part.title else ""
            said.append(f"{title}{shorten(part.text, most)}{_learned(part, most)}")
        return ", ".join(said) + (f" -> {self.label}" if self.label is not None else "")


def _learned(part: SequenceView, most: int) -> str:
    """Says what is to be predicted, where that is some of the tokens only."""
    labels = [f"{token.text.strip()}/{token.label}" for token in part.tokens if token.label is not None]
    if labels:
        return f", labels {' '.join(labels)[:most]}"
    if all(token.role != "ignored" for token in part.tokens):
        return ""
    runs = groupby(part.tokens, key=lambda token: token.role == "learned")
    texts = ["".join(token.text for token in run) for learned, run in runs if learned]
    return f", of which is learned: {shorten(' ... '.join(texts), most)}"


def sequence(
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    roles: Sequence[Role] | None = None,
    labels: Sequence[str | None] | None = None,
    title: str | None = None,
    right: bool = False,
) -> SequenceView:
    """Makes a part of token ids.

    Args:
        tokenizer: decodes them.
        ids: without padding, `[seq]`.
        roles: of each; `None` = plain. Plain and ignored ones are `special` where the tokenizer says so, but for words
            that it does not know.
        labels: of each.
        title: see `SequenceView`.
        right: see `SequenceView`.
    """
    specials = {*tokenizer.all_special_ids}
    if tokenizer.unk_token != tokenizer.eos_token:  # GPT-2 has one for both
        specials.discard(tokenizer.unk_token_id)
    each = roles or ["plain"] * len(ids)
    found: list[Role] = [
        "special" if number in specials and role in ("plain", "ignored") else role
        for number, role in zip(ids, each, strict=True)
    ]
    texts = pieces(tokenizer, ids)
    tokens = zip(texts, found, labels or [None] * len(ids), strict=True)
    return SequenceView(tuple(Token(*each) for each in tokens), title, right)


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Returns what each token adds to the text; together they are the text.

    A character of several tokens goes to the last of them.
    """

    def text_of(some: Sequence[int]) -> str:
        text: Any = tokenizer.decode(list(some), clean_up_tokenization_spaces=False)
        return str(text).rstrip(UNFINISHED)

    made: list[str] = []
    for at in range(len(ids)):
        first = max(at - BEFORE, 0)
        while first and not made[first - 1]:  # within a character
            first -= 1
        before, now = text_of(ids[first:at]), text_of(ids[first : at + 1])
        made.append(now[_shared(before, now) :])
    return made


def _shared(one: str, other: str) -> int:
    """Returns how many characters two texts begin with alike."""
    size = min(len(one), len(other))
    return next((at for at in range(size) if one[at] != other[at]), size)


def one_row(batch: Mapping[str, Any], at: int) -> dict[str, Any]:
    """Takes one row out of a batch, with all that belongs to it; a batch may hold several sequences of each row.

    Args:
        batch: with `row` `[rows]`; its tensors are of as many rows, or of all first sequences and then all second ones.
        at: which row.
    """
    rows, sequences = len(batch["row"]), len(batch["input_ids"])
    places = list(range(at, sequences, rows))
    made = {}
    for name, value in batch.items():
        if isinstance(value, torch.Tensor) and value.dim():
            made[name] = value[places if len(value) == sequences else [at]].cpu()
    return made


def several_parts(
    tokenizer: PreTrainedTokenizerBase, batch: Mapping[str, Any], titles: Sequence[str], right: int = -1
) -> list[SequenceView]:
    """Takes a batch of one row of several sequences apart; those that are missing are left out.

    Args:
        tokenizer: decodes.
        batch: `input_ids` and `attention_mask`, `[1, sequences, seq]`.
        titles: of the sequences.
        right: which one is to be chosen.
    """
    masks = batch["attention_mask"][0].bool()
    each = zip(titles, batch["input_ids"][0], masks, strict=False)
    return [
        sequence(tokenizer, ids[mask].tolist(), title=title, right=at == right)
        for at, (title, ids, mask) in enumerate(each)
        if mask.any()
    ]


def labelled_part(
    tokenizer: PreTrainedTokenizerBase,
    batch: Mapping[str, Any],
    labels: torch.Tensor,
    roles: tuple[Role, Role],
    said: Callable[[int], str | None] | None = None,
) -> SequenceView:
    """Makes a part of a batch of one row, each token with its label.

    Args:
        tokenizer: decodes.
        batch: `input_ids` and `attention_mask` `[1, seq]`.
        labels: `[1, seq]`; -100 = none.
        roles: of tokens without a label, and with one.
        said: what is shown of a label; `None` = labels are tokens.
    """
    real = batch["attention_mask"][0].bool()
    ids, known = batch["input_ids"][0][real].tolist(), labels[0][real].tolist()
    each = [roles[label != IGNORED] for label in known]
    shown = said or (lambda label: str(tokenizer.decode([label])))
    return sequence(tokenizer, ids, each, [None if label == IGNORED else shown(label) for label in known])


def target_part(tokenizer: PreTrainedTokenizerBase, labels: torch.Tensor) -> SequenceView:
    """Makes a part of what a decoder is to write, `[1, target seq]`; -100 = nothing."""
    ids = labels[labels != IGNORED].tolist()
    return sequence(tokenizer, ids, ["learned"] * len(ids), title="target")


def tokens_and_answer(tokenizer: PreTrainedTokenizerBase, batch: Mapping[str, Any]) -> tuple[list[int], slice]:
    """Takes a batch of one window apart: its tokens without padding, and where the answer is; an empty slice = nowhere.

    Args:
        tokenizer: says which tokens are special: these are no answer.
        batch: `input_ids` and `attention_mask` `[1, seq]`; maybe `start_positions` and `end_positions` `[1]`.
    """
    ids = batch["input_ids"][0]
    tokens, start = ids[batch["attention_mask"][0].bool()].tolist(), int(batch.get("start_positions", [-1])[0])
    if start < 0 or ids[start] in tokenizer.all_special_ids:
        return tokens, slice(0)
    before = int(padding_before(batch["attention_mask"])[0])
    return tokens, slice(start - before, int(batch["end_positions"][0]) + 1 - before)


def token_parts(tokenizer: PreTrainedTokenizerBase, batch: Mapping[str, Any]) -> list[SequenceView]:
    """Takes a batch of one row apart: one sequence, or the documents that share it.

    Args:
        tokenizer: decodes.
        batch: `input_ids` `[1, seq]`; maybe `attention_mask`, `position_ids` that begin anew with each document, and
            `labels` of each token: where they are -100 a token is ignored, elsewhere learned.
    """
    ids, labels = batch["input_ids"][0], batch.get("labels")
    learned = torch.ones_like(ids, dtype=torch.bool)
    if labels is not None and labels.shape == batch["input_ids"].shape:
        learned = labels[0] != IGNORED
    positions = batch.get("position_ids")
    if positions is None:
        real = (
            batch["attention_mask"][0].bool() if batch.get("attention_mask") is not None else torch.ones_like(learned)
        )
        ids, learned, starts = ids[real], learned[real], [0]
    else:  # padding begins anew at each token, too
        text = (positions[0] > 0) | (ids != tokenizer.pad_token_id)
        size = int(text.nonzero().max()) + 1
        ids, learned = ids[:size], learned[:size] | (positions[0, :size] == 0)
        starts = (positions[0, :size] == 0).nonzero()[:, 0].tolist()
    names: list[Role] = ["learned" if each else "ignored" for each in learned.tolist()]
    made = []
    for number, (start, stop) in enumerate(pairwise([*starts, len(ids)])):
        roles = names[start:stop]
        title = f"document {number + 1} of {len(starts)}" if len(starts) > 1 else None
        made.append(sequence(tokenizer, ids[start:stop].tolist(), roles if "ignored" in roles else None, title=title))
    return made
