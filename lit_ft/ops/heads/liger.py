"""The fused head and loss of liger-kernel, where it is installed and a GPU is there."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from lit_ft.ops.heads.logits_only import LogitsOnly
from lit_ft.ops.heads.split_model import SplitModel


@cache
def _fused_loss(softcap: float | None) -> Any:
    """Returns Liger's module for this soft cap, or `None` where there is none, or one too old or without its triton."""
    try:
        from liger_kernel.transformers import (  # type: ignore[import-not-found]
            LigerFusedLinearCrossEntropyLoss,
        )

        # in float32, for its gradient of the weight is a sum over chunks
        return LigerFusedLinearCrossEntropyLoss(reduction="sum", softcap=softcap, accum_dtype=torch.float32)
    except (ImportError, RuntimeError, TypeError):
        return None


def liger_loss(split: SplitModel | LogitsOnly, hidden: Tensor, targets: Tensor) -> Tensor | None:
    """Sums the cross-entropy over `hidden` `[n, hidden]` with Liger's kernel; `None` where it does not apply."""
    if split.linear is None or not hidden.is_cuda:
        return None
    fused = _fused_loss(split.linear.softcap)
    if fused is None:
        return None
    weight: Tensor = split.model.get_parameter(split.linear.weight)
    bias: Tensor | None = None if split.linear.bias is None else split.model.get_parameter(split.linear.bias)
    if torch.is_autocast_enabled("cuda"):  # its kernel knows no autocast: what a linear layer would have been given
        dtype = torch.get_autocast_dtype("cuda")
        hidden, weight, bias = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    total: Tensor = fused(weight, hidden, targets, bias)
    return total.float()
