"""Replies under the prompts of other rows, which KTO asks about: how much likelier any reply has become."""

from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.labels import IGNORED

Batch = dict[str, Any]


def mismatched(batch: Batch, longest: int | None = None) -> Batch | None:
    """Puts the reply of the row before under each row's prompt, on the CPU; `None` where there is one row.

    Args:
        batch: `input_ids`, `attention_mask`, `labels`, `[rows, seq]`, padded on the right.
        longest: most tokens of a row; what is longer is cut.

    Returns:
        A batch of as many rows as have a reply.
    """
    ids, labels, real = (on_cpu(batch[name]) for name in ("input_ids", "labels", "attention_mask"))
    known = labels != IGNORED
    rows = known.any(1).nonzero()[:, 0].tolist()
    if len(rows) < 2:
        return None
    begins, ends = known.int().argmax(1).tolist(), real.sum(1).tolist()
    pairs = list(zip(rows, [rows[-1], *rows[:-1]], strict=True))
    tokens = [torch.cat([ids[one, : begins[one]], ids[other, begins[other] : ends[other]]]) for one, other in pairs]
    marks = [
        torch.cat([labels[one, : begins[one]], labels[other, begins[other] : ends[other]]]) for one, other in pairs
    ]
    made = {
        "input_ids": pad_sequence(tokens, batch_first=True),
        "labels": pad_sequence(marks, batch_first=True, padding_value=IGNORED),
        "attention_mask": pad_sequence([torch.ones_like(each) for each in tokens], batch_first=True),
    }
    return {name: value[:, :longest] for name, value in made.items()}
