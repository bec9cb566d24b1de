"""Relative position biases (T5's) for a flat row: made for one sequence, not for all places of the row at once."""

from typing import Any

from torch import nn


def bias_per_sequence(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """Before a layer's attention: makes its relative biases for the longest sequence, where there are several.

    They depend on the distance alone, so that every sequence finds its own in the upper left corner. A hook that stays:
    gradient checkpointing runs the layer again when nobody else knows of the flat row.
    """
    sequences = kwargs.get("sequence_lengths")
    if sequences is None or kwargs.get("position_bias") is not None or not module.has_relative_attention_bias:
        return None
    longest = max(sequences.lengths)
    states = args[0] if args else kwargs["hidden_states"]
    return args, {**kwargs, "position_bias": module.compute_bias(longest, longest, device=states.device)}


def install_biases(model: nn.Module) -> None:
    """Adds the hook to the layers that make such biases, once."""
    remove_biases(model)
    for module in model.modules():
        if hasattr(module, "compute_bias") and hasattr(module, "has_relative_attention_bias"):
            module.register_forward_pre_hook(bias_per_sequence, with_kwargs=True)


def remove_biases(model: nn.Module) -> None:
    """Takes the hook away."""
    for module in model.modules():
        for number, hook in list(module._forward_pre_hooks.items()):
            if hook is bias_per_sequence:
                del module._forward_pre_hooks[number]
                module._forward_pre_hooks_with_kwargs.pop(number, None)
