"""Gives a model attention within sequences: documents side by side in one flat row know nothing of each other."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_ft.ops.padding_free.attention import PREFIX, UNDERLYING
from lit_ft.ops.padding_free.relative_bias import install_biases, remove_biases
from lit_ft.ops.padding_free.sequences import Sequences, Watch, running_flat
from lit_ft.ops.padding_free.tiny_run import no_cache, undisturbed


def cannot_isolate(kind: type[PreTrainedModel], implementation: str | None) -> str | None:
    """Returns why a class of models cannot keep documents apart, as far as that is known without weights.

    Args:
        kind: the class.
        implementation: of attention; `None` = transformers' choice.
    """
    if implementation not in (None, *UNDERLYING):
        return f"attn_implementation {implementation!r} does not keep documents apart here: set it to sdpa or eager, or"
    if not kind._can_set_attn_implementation():
        return f"{kind.__name__} computes attention without transformers' AttentionInterface"
    return None


def install(model: nn.Module) -> str | None:
    """Gives a model the attention of `lit_ft.ops.padding_free.attention`, once and for good.

    Returns:
        `None`: it is there, until `undo`. Else why it cannot be.
    """
    inner = transformer(model)
    name = inner.config._attn_implementation
    if name is not None and name.startswith(PREFIX):
        return None
    if (reason := cannot_isolate(type(inner), name)) is not None:
        return reason
    inner.set_attn_implementation(PREFIX + name)
    install_biases(inner)
    return None


def undo(model: nn.Module) -> None:
    """Gives the model its own attention implementation back; does nothing where that is what it has."""
    inner = transformer(model)
    name = inner.config._attn_implementation
    if name is not None and name.startswith(PREFIX):
        inner.set_attn_implementation(name.removeprefix(PREFIX))
        remove_biases(inner)


def transformer(model: nn.Module) -> PreTrainedModel:
    """Returns the transformers model: itself, or that within adapters."""
    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


def isolate(model: nn.Module) -> str | None:
    """Gives a model the attention that keeps documents apart, if a probe says that it works.

    Args:
        model: one with a language modelling head, or adapters around it.

    Returns:
        `None`: it is there, until `undo`. Else why this architecture cannot run documents side by side; the model is
        then as it was.
    """
    before = transformer(model).config._attn_implementation
    if (reason := install(model)) is not None:
        return reason
    try:
        with undisturbed(model) as device:
            reason = _probe(model, device)
    except Exception as error:  # any forward may fail on flat inputs in its own way: then it runs unisolated
        reason = failure(error)
    if reason is not None and not before.startswith(PREFIX):
        undo(model)
    return reason


def failure(error: Exception) -> str:
    """Says in one line how a forward pass on flat inputs failed."""
    return f"flat inputs: {type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def unknown_windows(watch: Watch) -> str | None:
    """Says which windows of its masks a model's attention layers do not know of, if any."""
    told = {window for window in watch.told if window is not None}
    # masks that look both ways count a window of 64 for a distance up to 64, layers call it 65
    strangers = {window for window in watch.asked if window is not None and not {window, window + 1} & told}
    if strangers:
        return f"its masks have windows {strangers} that its attention layers do not know of"
    if told and not watch.asked - {None}:
        return f"its attention layers have windows {told} that its masks do not know of"
    return None


def close(found: Tensor, expected: Tensor) -> bool:
    """Says whether two outputs of one computation are the same but for rounding; NaN is like nothing."""
    share = 1e-4 if expected.dtype in (torch.float32, torch.float64) else 2e-2
    return bool((found.float() - expected.float()).abs().max() <= share * expected.float().abs().max())


def _probe(model: nn.Module, device: torch.device) -> str | None:
    """Runs two documents side by side and alone, then with another first document."""
    first, second = torch.tensor([[5, 6, 7, 8, 9]], device=device), torch.tensor([[7, 9, 5]], device=device)

    def side_by_side(*documents: Tensor) -> tuple[Tensor, Watch]:
        positions = [torch.arange(document.shape[1], device=device)[None] for document in documents]
        flat = {"input_ids": torch.cat(documents, 1), "position_ids": torch.cat(positions, 1)}
        lengths = Sequences([document.shape[1] for document in documents])
        with running_flat() as watch:
            logits: Tensor = model(**flat, sequence_lengths=lengths, **no_cache(model)).logits
        return logits, watch

    together, watch = side_by_side(first, second)
    if (reason := unknown_windows(watch)) is not None:
        return reason
    alone = torch.cat([model(input_ids=document, **no_cache(model)).logits for document in (first, second)], 1)
    if not close(together, alone):
        return "documents side by side give other logits than each alone"
    changed, _ = side_by_side(first + 1, second)
    rest = slice(first.shape[1], None)
    if not (changed[:, rest] - together[:, rest]).abs().max() <= 1e-6 * alone.abs().max():
        return "a document's logits depend on the document before it"
    return None
