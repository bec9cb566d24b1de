"""Forward passes that find out what an architecture can do, and leave no trace."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode, no gradients, no autocast, random numbers and modes put back; yields the model's device."""
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    # BigBird gives up its sparse attention for good when it meets a short row
    sparse: list[Any] = [module for module in model.modules() if hasattr(module, "set_attention_type")]
    kinds = {module: module.attention_type for module in sparse}
    model.eval()
    try:
        with (
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            yield device
    finally:
        for module, mode in modes.items():
            module.training = mode
        for module, kind in kinds.items():
            if module.attention_type != kind:
                module.set_attention_type(kind)


def no_cache(model: nn.Module) -> dict[str, bool]:
    """Returns the keyword that spares a forward pass the cache of keys and values, where the model has it."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
