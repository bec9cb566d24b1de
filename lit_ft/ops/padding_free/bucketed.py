"""States of a flat row in padded buckets and back; and attention with dropout on a CPU as few batched products.

SDPA's fast kernel for CPUs takes no dropout; its slow one stores every intermediate of a whole padded batch.
"""

from typing import Any

import torch
from torch import Tensor

from lit_ft.ops.dropout import drop_bits
from lit_ft.ops.padding_free.sequences import Bucket, Sequences

CHUNK = 1 << 18
"""Scores that are worked on at a time: a megabyte, which stays in a core's cache."""

MASKED = -1e30
"""Added to a score to mask it; a sequence has a real key for each of its queries, so no row is masked whole."""


class _Regroup(torch.autograd.Function):
    """(flat rows `[n, size]`, rows of one or more buckets, place of each flat row in them) -> `[padded, size]`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, rows: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return states.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (inverse,) = ctx.saved_tensors
        # padding is a copy of a first token, but no query's gradient comes from it: its keys are masked
        return gradients[0].index_select(0, inverse), None, None


class _Ungroup(torch.autograd.Function):
    """(padded rows `[padded, size]`, place of each flat row in them) -> `[n, size]`."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.padded = len(states)
        return states.index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (inverse,) = ctx.saved_tensors
        padded = gradients[0].new_zeros(ctx.padded, gradients[0].shape[1])
        return padded.index_copy_(0, inverse, gradients[0]), None


def regrouped(states: Tensor, sequences: Sequences) -> list[Tensor]:
    """Brings states into buckets.

    Args:
        states: `[1, heads, total, size]`.
        sequences: what lies in the flat row.

    Returns:
        For each bucket `[count, heads, length, size]`.
    """
    _, heads, _, size = states.shape
    if sequences.uniform:
        return [states[0].unflatten(1, (len(sequences.lengths), -1)).transpose(0, 1)]
    rows, inverse = sequences.places(heads, states.device)
    padded = _Regroup.apply(_by_token(states), torch.cat(rows), inverse)
    parts = padded.split([len(each) for each in rows])
    return [
        part.view(bucket.count, heads, bucket.length, size)
        for part, bucket in zip(parts, sequences.buckets, strict=True)
    ]


def ungrouped(parts: list[Tensor], sequences: Sequences) -> Tensor:
    """Brings what attention made of buckets, `[count, length, heads, size]` each, back to `[1, total, heads, size]`."""
    heads, size = parts[0].shape[2:]
    if sequences.uniform:
        return parts[0].reshape(1, sequences.total, heads, size)
    _, inverse = sequences.places(1, parts[0].device)
    flat = _Ungroup.apply(torch.cat([part.reshape(-1, heads * size) for part in parts]), inverse)
    return flat.view(1, sequences.total, heads, size)  # type: ignore[no-any-return]


def _by_token(states: Tensor) -> Tensor:
    """`[1, heads, total, size]` -> `[total * heads, size]`, without a copy where a token's heads lie side by side."""
    return states[0].transpose(0, 1).reshape(-1, states.shape[-1])


def bucketed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sequences: Sequences,
    causal: bool,
    window: int | None,
    scale: float,
    dropout: float,
) -> Tensor:
    """Attends within each sequence, with dropout of the attention's weights.

    Args:
        query: `[1, heads, total, size]`.
        key: `[1, key heads, total, size]`; heads are a multiple of key heads.
        value: `[1, key heads, total, value size]`.
        sequences: what lies in the flat row.
        causal: tokens see only those before them.
        window: tokens see only those at a smaller distance.
        scale: of the products.
        dropout: probability.

    Returns:
        `[1, total, heads, value size]`.
    """
    heads, key_heads = query.shape[1], key.shape[1]
    # rotary positions may have made float32 of queries and keys; SDPA, too, runs in autocast's dtype
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    flat = [_by_token(state).to(dtype) for state in (query, key, value)]
    with torch.autocast("cpu", enabled=False):
        attended = _BucketedAttention.apply(*flat, sequences, (heads, key_heads), (causal, window), scale, dropout)
    return attended.view(1, sequences.total, heads, -1)  # type: ignore[no-any-return]


class _BucketedAttention(torch.autograd.Function):
    """(query, key, value `[total * heads, size]`, ...) -> `[total * heads, value size]`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sequences: Sequences,
        heads: tuple[int, int],
        sight: tuple[bool, int | None],
        scale: float,
        dropout: float,
    ) -> Tensor:
        (of_query, inverse), (of_key, inverse_key) = (sequences.places(each, query.device) for each in heads)
        per_key, upscale = heads[0] // heads[1], 1 / (1 - dropout)
        results, kept = [], []
        for bucket, rows, key_rows in zip(sequences.buckets, of_query, of_key, strict=True):
            batch, length = bucket.count * heads[1], bucket.length
            q, k, v = _batched((query, key, value), (rows, key_rows, key_rows), batch)
            masks = _additive_mask(bucket, heads[1], per_key, *sight, dtype=query.dtype)
            result = q.new_empty(batch, per_key * length, v.shape[-1])
            for part in _chunks(batch, per_key * length * length):
                scores = torch.bmm(q[part], k[part].transpose(1, 2)).mul_(scale)
                if masks is not None:
                    scores.view(len(scores), per_key, length, length).add_(masks[part])
                weights = torch.softmax(scores, -1)
                keep = drop_bits(weights.shape, dropout)
                torch.bmm(scores.copy_(keep).mul_(weights), v[part], out=result[part])
                kept.append((weights, keep))
            results.append(result.mul_(upscale).view(-1, v.shape[-1]))
        ctx.save_for_backward(query, key, value, *(each for pair in kept for each in pair))
        ctx.work = sequences, heads, scale, upscale, inverse, inverse_key
        return torch.cat(results).index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        sequences, heads, scale, upscale, inverse, inverse_key = ctx.work
        (of_query, _), (of_key, _) = (sequences.places(each, query.device) for each in heads)
        per_key = heads[0] // heads[1]
        padded = gradients[0].new_zeros(sum(map(len, of_query)), gradients[0].shape[1])
        padded.index_copy_(0, inverse, gradients[0])
        of_bucket = padded.split([len(rows) for rows in of_query])
        found: list[list[Tensor]] = [[], [], []]
        numbers = iter(range(0, len(kept), 2))
        for bucket, rows, key_rows, outer in zip(sequences.buckets, of_query, of_key, of_bucket, strict=True):
            batch, length = bucket.count * heads[1], bucket.length
            q, k, v = _batched((query, key, value), (rows, key_rows, key_rows), batch)
            outer = outer.view(batch, per_key * length, -1)
            slopes = [torch.empty_like(state) for state in (q, k, v)]
            for part in _chunks(batch, per_key * length * length):
                number = next(numbers)
                weights, keep = kept[number], kept[number + 1]
                given = keep.to(weights.dtype)
                inner = torch.bmm(outer[part], v[part].transpose(1, 2)).mul_(given)
                torch.bmm(given.mul_(weights).transpose(1, 2), outer[part], out=slopes[2][part])
                scores = torch._softmax_backward_data(inner, weights, -1, weights.dtype)
                torch.bmm(scores, k[part], out=slopes[0][part])
                torch.bmm(scores.transpose(1, 2), q[part], out=slopes[1][part])
            for slope, factor, all_slopes in zip(
                slopes, (scale * upscale, scale * upscale, upscale), found, strict=True
            ):
                all_slopes.append(slope.mul_(factor).view(-1, slope.shape[-1]))
        query_slope = torch.cat(found[0]).index_select(0, inverse)
        key_slope, value_slope = (torch.cat(each).index_select(0, inverse_key) for each in found[1:])
        return query_slope, key_slope, value_slope, None, None, None, None, None


def _batched(states: tuple[Tensor, ...], rows: tuple[Tensor, ...], batch: int) -> list[Tensor]:
    """Returns a bucket's states, `[count * key heads, tokens, size]`; queries of one key are one behind another."""
    return [
        state.index_select(0, each).view(batch, -1, state.shape[-1]) for state, each in zip(states, rows, strict=True)
    ]


def _chunks(batch: int, scores: int) -> list[slice]:
    size = max(1, CHUNK // scores)
    return [slice(start, start + size) for start in range(0, batch, size)]


def _additive_mask(
    bucket: Bucket, key_heads: int, per_key: int, causal: bool, window: int | None, dtype: torch.dtype
) -> Tensor | None:
    """Returns what is added to a bucket's scores, `[count * key heads or 1, 1, 1 or length, length]`, if anything."""
    if not causal and window is None and bucket.even:
        return None
    key = (key_heads, causal, window, dtype)
    if key not in bucket.masks:
        distance = torch.arange(bucket.length)[:, None] - torch.arange(bucket.length)
        hidden = torch.zeros(1, 1, 1, bucket.length, dtype=torch.bool)
        if causal:
            hidden = hidden | (distance < 0)
        elif not bucket.even:
            hidden = ~bucket.real(hidden.device)[:, None, None].repeat_interleave(key_heads, 0)
        if window is not None and window < bucket.length:
            hidden = hidden | (distance.abs() >= window)
        lowest = max(MASKED, torch.finfo(dtype).min / 2)  # float16 ends early, and a sum must not overflow
        mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill_(hidden, lowest)
        bucket.masks[key] = mask.expand(bucket.count * key_heads, -1, -1, -1)
    return bucket.masks[key]
