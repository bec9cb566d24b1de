"""Scores of answers by the type of question: its first word, in any language."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from lit_ft.metrics.word_rules import unicode_words

MOST = 12
"""Types that have a row of their own."""
OTHER = "other"

Sums = dict[str, tuple[float, ...]]
"""By type: questions, those with an answer, summed exact match and F1."""


def question_type(question: str) -> str:
    """Returns the first word of a question, without case; empty = it has none."""
    return next(iter(unicode_words(question)), "")


def table_of_types(types: Sequence[str], facts: Iterable[Sequence[float]]) -> list[dict[str, Any]]:
    """Returns a row for each of the most frequent types, and one for all others; every process calls it.

    Args:
        types: of this process's questions.
        facts: of each whether it has an answer, and its exact match and F1, from 0 to 1.
    """
    own: Sums = {}
    for kind, each in zip(types, facts, strict=True):
        own[kind] = _added(own.get(kind), (1, *each))
    every: list[Any] = [own]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        every = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(every, own)
    total: Sums = {}
    for sums in every:
        for kind, each in sums.items():
            total[kind] = _added(total.get(kind), each)
    named = sorted(filter(None, total), key=lambda kind: (-total[kind][0], kind))[:MOST]
    rows = [_row(kind, total[kind]) for kind in named]
    rest: tuple[float, ...] | None = None
    for kind in total.keys() - {*named}:
        rest = _added(rest, total[kind])
    return rows if rest is None else [*rows, _row(OTHER, rest)]


def _added(before: tuple[float, ...] | None, more: tuple[float, ...]) -> tuple[float, ...]:
    return more if before is None else tuple(one + other for one, other in zip(before, more, strict=True))


def _row(kind: str, sums: tuple[float, ...]) -> dict[str, Any]:
    count, answerable, exact, f1 = sums
    return {
        "question_type": kind,
        "count": int(count),
        "answerable": int(answerable),
        "exact_match": 100 * exact / count,
        "f1": 100 * f1 / count,
    }
