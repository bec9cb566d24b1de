"""Scores of tokens -> scores of words, and the tags that fit them best."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lit_ft.data.labels import IGNORED
from lit_ft.data.tags.schemes import TagScheme, TagTable, transitions
from lit_ft.ops.decoding.viterbi import best_sequences


def first_labelled(labels: Tensor) -> Tensor:
    """Returns the places of the labelled tokens of each row, `[batch, most]`; -1 behind the last."""
    places = torch.arange(labels.shape[1], device=labels.device)
    found = [places[row != IGNORED] for row in labels]
    return pad_sequence(found, batch_first=True, padding_value=-1)


def at_words(values: Tensor, first_tokens: Tensor) -> list[Tensor]:
    """Takes what each word's first token has.

    Args:
        values: of the tokens, `[batch, seq]` or `[batch, seq, n]`.
        first_tokens: `[batch, words]`; -1 behind a row's last word.

    Returns:
        Of each row `[words]` or `[words, n]`.
    """
    rows = torch.arange(len(values), device=values.device)[:, None]
    words = values[rows, first_tokens.clamp(min=0)]
    counts = (first_tokens >= 0).sum(1).tolist()
    return [row[:count] for row, count in zip(words, counts, strict=True)]


def best_tags(logits: Sequence[Tensor], table: TagTable | None, scheme: TagScheme | None) -> list[Tensor]:
    """Returns the tag of each word of some rows.

    Args:
        logits: of each row, `[words, tags]`.
        table: the tags, where only sequences that their scheme allows are wanted; `None` = each word's best one.
        scheme: that the tags are in.

    Returns:
        Ids of each row, `[words]`.
    """
    lengths = [len(row) for row in logits]
    if table is None or scheme is None or not any(lengths):
        return [row.argmax(-1) for row in logits]
    scores = pad_sequence([row.float().log_softmax(-1) for row in logits], batch_first=True)
    allowed = (torch.from_numpy(part).to(scores.device) for part in transitions(table, scheme))
    found = best_sequences(scores, torch.tensor(lengths, device=scores.device), *allowed)
    return [row[:length] for row, length in zip(found, lengths, strict=True)]
