"""Several documents side by side in one flat row, each attending to itself alone: no masks, no compute on others.

`isolate` gives a model an attention function of ours, once and for good: it regroups queries, keys and values by
document and calls the model's own implementation. Without the keyword `sequence_lengths` it is that implementation.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import (
    bidirectional_mask_function,
    causal_mask_function,
    sliding_window_causal_mask_function,
)

from lit_ft.ops.tiny_run import no_cache, undisturbed

PREFIX = "within_sequences_"
"""What our attention implementations are called: this, then the name of the one that they call."""

UNDERLYING = ("sdpa", "eager")
"""Implementations that run per document."""


class Sequences:
    """Lengths of the documents of a flat row, in order; travels to every attention layer as a keyword.

    No dataclass and no list: whatever moves or copies batches shall hand it on as it is.

    Attributes:
        lengths: tokens of each document.
        runs: (length, count) of neighbours that are equally long: they run as one batch, without a copy.
    """

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = tuple(lengths)
        self.runs = tuple((length, len(list(run))) for length, run in groupby(self.lengths))


class _Watch:
    """What a probe learns: the windows that masks were asked for, and those that attention layers were told of."""

    def __init__(self) -> None:
        self.asked: set[int | None] = set()
        self.told: set[int | None] = set()


_flat: ContextVar[_Watch | None] = ContextVar("flat", default=None)


@contextmanager
def running_flat() -> Iterator[_Watch]:
    """Around the forward pass of flat inputs: the model makes no attention mask; backward may run outside."""
    token = _flat.set(_Watch())
    try:
        watch = _flat.get()
        assert watch is not None
        yield watch
    finally:
        _flat.reset(token)


def flat_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Lays the rows of a batch end to end; looks at positions, and so waits for a GPU where they are there already.

    Args:
        batch: `input_ids` and `position_ids` `[batch, seq]`; a document starts with each row and wherever a position
            does not follow the one before it.

    Returns:
        `input_ids` and `position_ids` `[1, batch * seq]`, and `sequence_lengths`: keywords of an isolated model's
        forward within `running_flat`. Row `i` of the hidden state belongs to `labels.flatten()[i]`.
    """
    positions: Tensor = batch["position_ids"]
    starts = torch.ones_like(positions, dtype=torch.bool)
    starts[:, 1:] = positions.diff(dim=1) != 1
    bounds = [*starts.flatten().nonzero().flatten().tolist(), positions.numel()]
    lengths = [end - start for start, end in pairwise(bounds)]
    flat = {name: batch[name].reshape(1, -1) for name in ("input_ids", "position_ids")}
    return {**flat, "sequence_lengths": Sequences(lengths)}


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


def isolate(model: nn.Module) -> str | None:
    """Gives a model the attention that keeps documents apart, if a probe says that it works.

    Args:
        model: one with a language modelling head, or adapters around it.

    Returns:
        `None`: it is there, until `undo`. Else why this architecture cannot run documents side by side; the model is
        then as it was.
    """
    inner = _transformer(model)
    name = inner.config._attn_implementation
    if name is not None and name.startswith(PREFIX):
        return None
    if (reason := cannot_isolate(type(inner), name)) is not None:
        return reason
    inner.set_attn_implementation(PREFIX + name)
    try:
        with undisturbed(model) as device:
            reason = _probe(model, device)
    except Exception as error:  # any forward may fail on flat inputs in its own way: then it runs unisolated
        reason = f"flat inputs: {type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
    if reason is not None:
        undo(model)
    return reason


def undo(model: nn.Module) -> None:
    """Gives the model its own attention implementation back; does nothing where that is what it has."""
    inner = _transformer(model)
    name = inner.config._attn_implementation
    if name is not None and name.startswith(PREFIX):
        inner.set_attn_implementation(name.removeprefix(PREFIX))


def _transformer(model: nn.Module) -> PreTrainedModel:
    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


def _probe(model: nn.Module, device: torch.device) -> str | None:
    """Runs two documents side by side and alone, then with another first document."""
    first, second = torch.tensor([[5, 6, 7, 8, 9]], device=device), torch.tensor([[7, 9, 5]], device=device)

    def side_by_side(*documents: Tensor) -> tuple[Tensor, _Watch]:
        positions = [torch.arange(document.shape[1], device=device)[None] for document in documents]
        flat = flat_inputs({"input_ids": torch.cat(documents, 1), "position_ids": torch.cat(positions, 1)})
        with running_flat() as watch:
            logits: Tensor = model(**flat, **no_cache(model)).logits
        return logits, watch

    together, watch = side_by_side(first, second)
    if watch.asked - {None} != watch.told - {None}:
        return f"its masks have windows {watch.asked - {None}} that its attention layers do not know of"
    alone = torch.cat([model(input_ids=document, **no_cache(model)).logits for document in (first, second)], 1)
    # "not <=", for NaN is no agreement either
    share = 1e-4 if alone.dtype in (torch.float32, torch.float64) else 2e-2
    if not (together - alone).abs().max() <= share * alone.abs().max():
        return "documents side by side give other logits than each alone"
    changed, _ = side_by_side(first + 1, second)
    rest = slice(first.shape[1], None)
    if not (changed[:, rest] - together[:, rest]).abs().max() <= 1e-6 * alone.abs().max():
        return "a document's logits depend on the document before it"
    return None


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
        if underlying == "eager":  # each modelling file has its own
            function = sys.modules[type(module).__module__].eager_attention_forward
        else:
            function = AttentionInterface()[underlying]
        if sequence_lengths is None:
            assert _flat.get() is None, f"{type(module).__name__} was not handed the lengths of the sequences"
            attended: tuple[Tensor, Tensor | None] = function(module, query, key, value, attention_mask, **kwargs)
            return attended
        window, causal = kwargs.get("sliding_window"), kwargs.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        if (watch := _flat.get()) is not None:
            watch.told.add(window)
        make_mask, mask_function = AttentionMaskInterface()[underlying], causal_mask_function
        if not causal:
            assert window is None, "windows that look both ways"
            mask_function = bidirectional_mask_function
        elif window is not None:
            mask_function = sliding_window_causal_mask_function(window)
        runs = sequence_lengths.runs
        parts = []
        # one split, for the gradient of every slice would be a whole row of zeros
        for (length, _), *states in zip(runs, *(_by_run(state, runs) for state in (query, key, value)), strict=True):
            mask = make_mask(
                batch_size=1,
                q_length=length,
                kv_length=length,
                mask_function=mask_function,
                local_size=window,
                allow_is_bidirectional_skip=not causal,
                dtype=query.dtype,
                device=query.device,
            )
            parts.append(function(module, *states, mask, **kwargs)[0].flatten(0, 1))
        return torch.cat(parts)[None], None

    return attend


def _by_run(state: Tensor, runs: tuple[tuple[int, int], ...]) -> list[Tensor]:
    """`[1, heads, total, size]` -> one view `[count, heads, length, size]` for each run of equal lengths."""
    parts = state[0].split([length * count for length, count in runs], dim=1)
    return [
        part.unflatten(1, (count, length)).transpose(0, 1) for part, (length, count) in zip(parts, runs, strict=True)
    ]


def _mask(underlying: str) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Any:
        watch = _flat.get()
        if watch is None:
            return AttentionMaskInterface()[underlying](*args, **kwargs)
        watch.asked.add(kwargs.get("local_size"))
        return None

    return make


for _name in UNDERLYING:
    AttentionInterface.register(PREFIX + _name, _attention(_name))
    AttentionMaskInterface.register(PREFIX + _name, _mask(_name))
