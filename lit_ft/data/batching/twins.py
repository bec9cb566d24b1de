"""Tensors on a device that remember what they were on the CPU: whoever asks for places in them need not wait."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def keep_twins(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Lets the tensors of a batch remember what was moved, where that was on the CPU and they are not.

    Args:
        before: the batch on the CPU.
        after: the batch on a device, under the same names.
    """
    for name, tensor in after.items():
        there = before.get(name)
        if (
            isinstance(tensor, Tensor)
            and isinstance(there, Tensor)
            and there.device.type == "cpu" != tensor.device.type
        ):
            tensor._twin = (there, _version(tensor))  # type: ignore[attr-defined]


def on_cpu(tensor: Tensor) -> Tensor:
    """Returns a tensor on the CPU; waits for a device only where nobody kept its twin."""
    twin, version = getattr(tensor, "_twin", (None, None))
    # changed in place since: the twin is none any more
    return twin if twin is not None and version == _version(tensor) else tensor.detach().cpu()


def changed(tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns a view of a tensor, such as a slice of it, which remembers what the tensor does."""
    made = change(tensor)
    twin, version = getattr(tensor, "_twin", (None, None))
    if twin is not None and version == _version(tensor):
        made._twin = (change(twin), _version(made))  # type: ignore[attr-defined]
    return made


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
