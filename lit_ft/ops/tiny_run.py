"""Forward passes that find out what an architecture can do, and leave no trace."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode, no gradients, no autocast, random numbers and modes put back; yields the model's device."""
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
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


def no_cache(model: nn.Module) -> dict[str, bool]:
    """Returns the keyword that spares a forward pass the cache of keys and values, where the model has it."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
