"""Attention within sequences that lie end to end in one flat row: no mask over all of them, no compute on others.

Importing this file registers one implementation for each of `UNDERLYING` with transformers. Without the keyword
`sequence_lengths` each is the implementation that it is named after.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    sliding_window_causal_mask_function,
)

from lit_ft.ops.padding_free.bucketed import bucketed_attention, regrouped, ungrouped
from lit_ft.ops.padding_free.sequences import Bucket, Sequences, watching
from lit_ft.ops.padding_free.varlen import attention_as_one, runs_as_one

PREFIX = "within_sequences_"
"""What our attention implementations are called: this, then the name of the one that they call."""

UNDERLYING = ("sdpa", "eager")
"""Implementations that run per sequence."""

KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

PLAIN = frozenset({"dropout", "scaling", "is_causal", "sliding_window"})
"""Keywords of attention that is a softmax of scaled products and no more."""

ASIDE = frozenset({"position_ids", "position_embeddings", "cache_position", "use_cache", "num_items_in_batch"})
"""Keywords that pass by: what they say is in the states already, or concerns others."""


def _attention(underlying: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        sequence_lengths: Sequences | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        function = _implementation(underlying, module)
        if sequence_lengths is None:
            assert watching() is None, f"{type(module).__name__} was not handed the lengths of the sequences"
            attended: tuple[Tensor, Tensor | None] = function(module, query, key, value, attention_mask, **kwargs)
            return attended
        if query.shape[0] != 1 or query.shape[2] != sequence_lengths.total:
            # said here: places beyond the end, which a CPU refuses, end all work on a GPU
            raise IndexError(f"states {tuple(query.shape)} are not those of {sequence_lengths.total} tokens in a row")
        window, causal = kwargs.get("sliding_window"), kwargs.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        bias = kwargs.pop("position_bias", None)  # for the places of one sequence
        if (watch := watching()) is not None:
            watch.told.add(window)
        dropout, plain = kwargs.get("dropout") or 0.0, bias is None and _is_plain(kwargs)
        on_cpu = query.device.type == "cpu" and dropout > 0
        if plain and (on_cpu or (underlying == "sdpa" and runs_as_one(query, key, value))):
            attend_all = bucketed_attention if on_cpu else attention_as_one
            scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
            return attend_all(query, key, value, sequence_lengths, causal, window, scale, dropout), None
        states = [regrouped(state, sequence_lengths) for state in (query, key, value)]
        parts = []
        # cuDNN's, the first choice of new GPUs, plans for a tenth of a second at each new shape: here all are new
        with sdpa_kernel(KERNELS) if query.is_cuda else nullcontext():
            for bucket, *grouped in zip(sequence_lengths.buckets, *states, strict=True):
                mask = _bucket_mask(underlying, bucket, causal, window, query)
                more = {} if bias is None else {"position_bias": bias[..., : bucket.length, : bucket.length]}
                parts.append(function(module, *grouped, mask, **kwargs, **more)[0])
        return ungrouped(parts, sequence_lengths), None

    # lengths differ from batch to batch: compiled, each would be another program
    outside: Callable[..., tuple[Tensor, Tensor | None]] = torch.compiler.disable(attend)
    return outside


def _is_plain(kwargs: dict[str, Any]) -> bool:
    return all(value is None or value is False or name in PLAIN | ASIDE for name, value in kwargs.items())


def _implementation(underlying: str, module: nn.Module) -> Any:
    if underlying == "eager":  # each modelling file has its own
        return sys.modules[type(module).__module__].eager_attention_forward
    return AttentionInterface()[underlying]


def _bucket_mask(underlying: str, bucket: Bucket, causal: bool, window: int | None, query: Tensor) -> Tensor | None:
    """Makes the mask of a bucket as transformers makes that of a padded batch; `None` where it can do without.

    Padding is on the right, so that causal attention never sees it.
    """
    key = (underlying, causal, window, query.dtype, query.device)
    if key in bucket.masks:
        return bucket.masks[key]
    mask_function = causal_mask_function
    if window is not None:
        # "told w" means a distance below w, on one side or on both
        mask_function = sliding_window_causal_mask_function(window) if causal else _near(window, bucket, query)
    elif not causal:
        mask_function = bidirectional_mask_function
    mask: Tensor | None = AttentionMaskInterface()[underlying](
        batch_size=bucket.count,
        q_length=bucket.length,
        kv_length=bucket.length,
        mask_function=mask_function,
        attention_mask=None if causal or bucket.even else bucket.real(query.device),
        local_size=window,
        allow_is_bidirectional_skip=not causal and window is None,
        dtype=query.dtype,
        device=query.device,
    )
    bucket.masks[key] = mask
    return mask


def _near(window: int, bucket: Bucket, query: Tensor) -> Callable[..., Any]:
    lengths = bucket.lengths.to(query.device, non_blocking=True)

    def near(batch: Any, head: Any, query: Any, key: Any) -> Any:
        # padding sees every token: a query that sees none is NaN in some implementations, and so are gradients then
        return (abs(query - key) < window) | (query >= lengths[batch])

    return near


def _mask(underlying: str) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Any:
        watch = watching()
        if watch is None:
            return AttentionMaskInterface()[underlying](*args, **kwargs)
        watch.asked.add(kwargs.get("local_size"))
        return None

    outside: Callable[..., Any] = torch.compiler.disable(make)
    return outside


for _name in UNDERLYING:
    AttentionInterface.register(PREFIX + _name, _attention(_name))
    AttentionMaskInterface.register(PREFIX + _name, _mask(_name))
