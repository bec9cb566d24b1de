"""Attention within sequences of a flat row as one call of the FlashAttention that torch brings, on a GPU."""

from functools import cache

import torch
from torch import Tensor

from lit_ft.ops.padding_free.sequences import Sequences

LARGEST_HEAD = 256
"""Most numbers of a head that its kernels are made for, in steps of `HEAD_STEP`."""

HEAD_STEP = 8

OLDEST = (8, 0)
"""Compute capability of the oldest GPUs that it runs on (Ampere)."""


def half_type(query: Tensor) -> torch.dtype | None:
    """Returns the type that attention of this query is computed in; `None` = none that the kernels know."""
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype
    return dtype if dtype in (torch.bfloat16, torch.float16) else None


def runs_as_one(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Says whether `attention_as_one` can be called with these states `[1, heads, total, size]`."""
    size = query.shape[-1]
    return (
        query.is_cuda
        and size <= LARGEST_HEAD
        and size % HEAD_STEP == 0
        and key.shape[-1] == value.shape[-1] == size
        and half_type(query) is not None
        and _is_there(query.device.index)
    )


@cache
def _is_there(device: int) -> bool:
    available = torch.backends.cuda.is_flash_attention_available()
    return available and torch.cuda.get_device_capability(device) >= OLDEST


def attention_as_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sequences: Sequences,
    causal: bool,
    window: int | None,
    scale: float,
    dropout: float,
) -> Tensor:
    """Attends within each sequence: no padding, no mask, one kernel whatever the lengths.

    `torch.nn.attention.varlen` calls the same operator, but knows no dropout.

    Args:
        query: `[1, heads, total, size]`.
        key: `[1, key heads, total, size]`; heads are a multiple of key heads.
        value: `[1, key heads, total, size]`.
        sequences: what lies in the flat row.
        causal: tokens see only those before them.
        window: tokens see only those at a smaller distance.
        scale: of the products.
        dropout: probability.

    Returns:
        `[1, total, heads, size]`.
    """
    states = [state[0].transpose(0, 1).to(half_type(query)) for state in (query, key, value)]
    bounds, longest = sequences.bounds(query.device), max(sequences.lengths)
    reach = None if window is None else window - 1
    attended: Tensor = torch.ops.aten._flash_attention_forward(
        *states, bounds, bounds, longest, longest, dropout, causal, False,
        scale=scale, window_size_left=reach, window_size_right=0 if causal and reach is not None else reach,
    )[0]  # fmt: skip
    return attended[None]
