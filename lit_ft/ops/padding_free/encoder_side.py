"""The encoder of an encoder-decoder on one flat row: its positions are those of the padded batch.

What BART and its kin add to the states for places (`embed_positions`) is made of the shape of the input.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lit_ft.ops.padding_free.flat_parts import restore_forward
from lit_ft.ops.padding_free.layout import Layout, current_layout

POSITIONS = "embed_positions"
"""What the part is called that makes positions."""


class EncoderPositions:
    """Lets the positions of an encoder be those of the padded batch while a layout is current."""

    def __init__(self, encoder: nn.Module) -> None:
        self.modules = [module for name, module in encoder.named_modules() if name.endswith(POSITIONS)]
        self._before: list[Any] = []

    def install(self) -> None:
        """Begins."""
        self._before = [vars(module).get("forward") for module in self.modules]
        for module in self.modules:
            module.forward = _PaddedPositions(module.forward, getattr(module, "padding_idx", None) or 0)

    def remove(self) -> None:
        """Makes the encoder what it was."""
        for module, forward in zip(self.modules, self._before, strict=False):
            restore_forward(module, forward)
        self._before = []


class _PaddedPositions:
    """A part's forward; an object and no function, so that a copy of the model has a copy of it."""

    def __init__(self, forward: Callable[..., Tensor], padding: int) -> None:
        self.forward, self.padding = forward, padding

    def _call(self, *args: Any, **kwargs: Any) -> Tensor:
        layout = current_layout()
        if layout is None:
            return self.forward(*args, **kwargs)
        padded = {name: self._padded(value, layout) for name, value in kwargs.items()}
        found = self.forward(*(self._padded(value, layout) for value in args), **padded)
        batch = found if found.dim() == 3 else found[None]
        return layout.flatten(batch.expand(layout.shape[0], -1, -1))

    def _padded(self, value: Any, layout: Layout) -> Any:
        flat = (1, layout.sequences.total)
        if isinstance(value, torch.Size | tuple) and tuple(value[:2]) == flat:
            return torch.Size((*layout.shape, *value[2:]))
        if isinstance(value, Tensor) and value.shape == flat:  # token ids, or something of their shape
            return layout.pad(value - self.padding) + self.padding
        return value

    __call__: Any = torch.compiler.disable(_call, recursive=False)
