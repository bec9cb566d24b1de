"""Scores of starts and ends of answers: their loss, and the best spans of each window, all pairs at once."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_ft.data.labels import IGNORED


def real_only(logits: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Takes padding out of the running: float32 logits `[batch, seq]`, the least of all at padding."""
    logits = logits.float()
    if attention_mask is None:
        return logits
    return logits.masked_fill(attention_mask == 0, torch.finfo(torch.float32).min)


def span_loss(
    start_logits: Tensor,
    end_logits: Tensor,
    start_positions: Tensor,
    end_positions: Tensor,
    attention_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums the mean of the two cross-entropies of each row; sum / count is what transformers' heads return.

    transformers lets padding take part, so that its loss depends on how far a row happens to be padded. Here padding
    has no share: the loss of a row is that of the row alone.

    Args:
        start_logits: `[batch, seq]`.
        end_logits: `[batch, seq]`.
        start_positions: token at which each answer starts `[batch]`; rows where one of both is -100 or lies outside of
            the row count nowhere.
        end_positions: its last token, likewise.
        attention_mask: 0 at padding `[batch, seq]`; `None` = there is none.
    """
    width = start_logits.shape[1]
    labels = torch.stack([start_positions, end_positions])
    inside = ((labels >= 0) & (labels < width)).all(0)
    if attention_mask is not None:
        real = attention_mask.gather(1, labels.clamp(0, width - 1).T) > 0
        inside = inside & real.all(1)
    labels = torch.where(inside, labels, IGNORED)
    losses = [
        F.cross_entropy(real_only(logits, attention_mask), label, ignore_index=IGNORED, reduction="sum")
        for logits, label in zip((start_logits, end_logits), labels, strict=True)
    ]
    return (losses[0] + losses[1]) / 2, inside.sum().float()


def best_spans(
    start_logits: Tensor, end_logits: Tensor, allowed: Tensor, size: int, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the best spans of each row, best first: scores `[batch, size]`, first and last token, likewise.

    All pairs of allowed tokens are looked at, where transformers' scripts take the best starts and ends first. A span
    that cannot be has the score minus infinity.

    Args:
        start_logits: `[batch, seq]`.
        end_logits: `[batch, seq]`.
        allowed: tokens that an answer may hold `[batch, seq]`.
        size: how many spans.
        longest: most tokens of a span.
    """
    width = start_logits.shape[1]
    longest = min(longest, width)
    start, end = (logits.float().masked_fill(~allowed, -torch.inf) for logits in (start_logits, end_logits))
    # [batch, start, how many tokens behind it]: only the band above the diagonal is ever made
    ends = F.pad(end, (0, longest - 1), value=-torch.inf).unfold(1, longest, 1)
    scores, places = (start[:, :, None] + ends).flatten(1).topk(min(size, width * longest))
    first = places.div(longest, rounding_mode="floor")
    return scores, first, (first + places % longest).clamp(max=width - 1)  # those that cannot be lie beyond
