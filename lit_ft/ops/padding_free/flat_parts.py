"""Parts of a model that treat each token by itself, on the real tokens of a padded batch alone.

For models whose attention cannot be told of rows (DeBERTa, MPNet, XLNet): attention stays padded, but most of a
transformer's arithmetic is in its linear layers. Which parts these are is found by trying, outermost first.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lit_ft.ops.padding_free.isolation import close
from lit_ft.ops.padding_free.layout import Layout, current_layout
from lit_ft.ops.padding_free.probe import Probe


class FlatParts:
    """Parts of a model that leave out padding while a layout is current (`lit_ft.ops.padding_free.layout`).

    Attributes:
        parts: paths of the parts; whether they are given `[seq, batch, size]`, as XLNet's are.
    """

    def __init__(self, model: nn.Module, parts: dict[str, bool]) -> None:
        self.model, self.parts = model, parts
        self._before: dict[str, Any] = {}

    @classmethod
    def of(cls, model: nn.Module, probe: Probe) -> "FlatParts":
        """Finds the parts, in evaluation mode and without gradients."""
        layout = Layout.of(probe.inputs["attention_mask"].flatten(0, -2))
        found: dict[str, bool] = {}
        for turned, way in enumerate((layout, layout.turned())):
            calls = _calls(model, probe, way.shape)
            for name, module in model.named_modules():
                inside = any(name.startswith(f"{part}.") for part in found)
                if name in calls and not inside and _by_token(module, *calls[name], way):
                    found[name] = bool(turned)
        return cls(model, found)

    def install(self) -> None:
        """Lets the parts look at the current layout."""
        for name, turned in self.parts.items():
            module = self.model.get_submodule(name)
            self._before[name] = vars(module).get("forward")
            module.forward = _FlatPart(module.forward, turned)

    def remove(self) -> None:
        """Makes the parts what they were."""
        while self._before:
            name, forward = self._before.popitem()
            restore_forward(self.model.get_submodule(name), forward)


class _FlatPart:
    """A part's forward; an object and no function, so that a copy of the model has a copy of it."""

    def __init__(self, forward: Callable[..., Tensor], turned: bool) -> None:
        self.forward, self.turned = forward, turned

    def _call(self, *args: Any, **kwargs: Any) -> Tensor:
        layout = current_layout()
        layout = layout.turned() if layout is not None and self.turned else layout
        if layout is None or not _all_of_tokens((*args, *kwargs.values()), layout.shape):
            return self.forward(*args, **kwargs)
        flat = {name: _flat(value, layout) for name, value in kwargs.items()}
        return layout.pad(self.forward(*(_flat(value, layout) for value in args), **flat))

    __call__: Any = torch.compiler.disable(_call, recursive=False)


def restore_forward(module: nn.Module, forward: Any) -> None:
    """Gives a module the forward back that it had of its own; `None` = its class's."""
    if forward is None:
        vars(module).pop("forward", None)
    else:
        module.forward = forward


def _calls(model: nn.Module, probe: Probe, shape: tuple[int, int]) -> dict[str, tuple[Any, Any, Tensor]]:
    """Returns arguments and output of the parts that are called once, with states of this shape and nothing else."""
    calls: dict[str, list[Any]] = {}

    def hook(name: str) -> Any:
        def keep(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            calls.setdefault(name, []).append((args, kwargs, output))

        return keep

    handles = [module.register_forward_hook(hook(name), with_kwargs=True) for name, module in model.named_modules()]
    try:
        model(**probe.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: found[0]
        for name, found in calls.items()
        if name
        and len(found) == 1
        and isinstance(found[0][2], Tensor)
        and found[0][2].is_floating_point()
        and _all_of_tokens((*found[0][0], *found[0][1].values(), found[0][2]), shape)
    }


def _all_of_tokens(values: Any, shape: Any) -> bool:
    """Says whether there are tensors, each with `[batch, seq, size]`, and beside them plain values alone."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    plain = all(value is None or isinstance(value, (Tensor, bool, int, float, str)) for value in values)
    return plain and len(tensors) > 0 and all(each.dim() == 3 and each.shape[:2] == shape for each in tensors)


def _flat(value: Any, layout: Layout) -> Any:
    return layout.flatten(value) if isinstance(value, Tensor) else value


def _by_token(module: nn.Module, args: Any, kwargs: Any, output: Tensor, layout: Layout) -> bool:
    if not any(parameter.dim() > 1 for parameter in module.parameters()):  # a norm alone is not worth the copies
        return False
    try:
        found = module(*(_flat(each, layout) for each in args), **{k: _flat(v, layout) for k, v in kwargs.items()})
    except Exception:  # it looks at more than each token
        return False
    expected = layout.flatten(output)
    return isinstance(found, Tensor) and found.shape == expected.shape and close(found, expected)
