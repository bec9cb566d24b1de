"""Any transformers model on the real tokens of a padded batch alone: same outputs, no compute on padding.

    free = make_padding_free(model)
    model(input_ids=..., attention_mask=...)   # as ever
    free.undo()

The tokens of a batch are laid end to end; attention runs within each row (`attention.py`), all else on one flat row.
Where that begins and ends is found by trying on a tiny batch, so there is no line per architecture.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from lit_ft.ops.building.sharding import rest_whole
from lit_ft.ops.padding_free.attention import PREFIX
from lit_ft.ops.padding_free.encoder_side import EncoderPositions
from lit_ft.ops.padding_free.flat_parts import FlatParts, restore_forward
from lit_ft.ops.padding_free.isolation import failure, install, transformer, undo, unknown_windows
from lit_ft.ops.padding_free.layout import Layout, current_layout, running_layout
from lit_ft.ops.padding_free.position_rules import RULES, Positions, by_column, padding_of_positions
from lit_ft.ops.padding_free.probe import ROWS, Differs, Probe, Side
from lit_ft.ops.padding_free.sequences import Watch, running_flat
from lit_ft.ops.padding_free.tiny_run import undisturbed

PADDED = ("past_key_values", "inputs_embeds", "encoder_hidden_states", "decoder_input_ids", "logits_to_keep")
"""Inputs that a flat row cannot serve: with one of them a batch runs padded."""

OUTPUTS = ("output_attentions", "output_hidden_states")
"""Asked for in a call or by the configuration: likewise."""


class PaddingFree(AbstractContextManager["PaddingFree"]):
    """A model that skips padding within this context; made by `PaddingFree.of` or `make_padding_free`.

    Attributes:
        model: the model, or its encoder, where that is what runs flat.
        owner: the model.
        reason: why the model runs padded all the same; `None` where it does not.
        parts: the parts that run flat, where nothing larger can.
        encoder: the positions of an encoder that runs flat beside a decoder.
        body: path of the part that runs flat; `""` = the whole model, token by token.
        exit: path of the part of it whose output is padded again, or whose input is where it pools.
        positions: how the model counts positions.
        pools: the exit makes one state per row.
        side: where rows may have padding; the model looks at the other side's column, so that others run padded.
        shifts: the model's own loss lets each token predict the label of the next one.
        watch: what the last forward's attention layers were told.
    """

    def __init__(self, model: nn.Module, body: str = "", exit: str = "", positions: Positions = by_column) -> None:
        self.model, self.body, self.exit, self.positions = model, body, exit, positions
        self.owner = model
        self.reason: str | None = None
        self.parts: FlatParts | None = None
        self.encoder: EncoderPositions | None = None
        self.side: Side | None = None
        self.pools = self.shifts = False
        self.watch = Watch()
        self._padding = padding_of_positions(model)
        self._depth, self._held = 0, False
        self._run: _FlatForward | None = None
        self._before: Any = None
        self._hooks: list[RemovableHandle] = []

    @classmethod
    def of(cls, model: nn.Module) -> "PaddingFree":
        """Finds out how a model runs without padding; leaves weights, modes and random numbers as they were."""
        # a decoder's rows are others, even where they are as wide: it stays padded
        of_two = transformer(model).config.is_encoder_decoder
        part = transformer(model).get_encoder() if of_two else model
        refused = cls(part)
        refused.owner = model
        if next(model.parameters()).device.type == "meta":
            refused.reason = "the model's weights are not loaded yet"
            return refused
        if of_two and not isinstance(part, PreTrainedModel):
            refused.reason = "its encoder is no model of its own"
            return refused
        cannot = refused.reason = install(model)
        with undisturbed(model) as device, rest_whole(model) if of_two else nullcontext():
            try:
                for found in _ways(part, device, of_two, cannot is None):
                    found.owner = model
                    if found.reason is None:
                        return found
                    refused.reason = refused.reason or found.reason
            except Exception as error:  # any forward may fail on a few tokens in its own way: then it runs padded
                refused.reason = failure(error)
        undo(model)
        return refused

    @property
    def whole(self) -> bool:
        """Whether the model runs flat from end to end, so that `flat` does."""
        flat = self.reason is None and self.parts is None and (self.body, self.exit) == ("", "")
        return flat and self.owner is self.model

    def __enter__(self) -> "PaddingFree":
        if self._held:
            self._held = False  # from here on the context holds it
        else:
            self._depth += 1
            if self._depth == 1 and self.reason is None:
                self._install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth = max(self._depth - 1, 0)
        if self._depth == 0:
            self._remove()

    def undo(self) -> None:
        """Makes the model what it was."""
        self._depth, self._held = 0, False
        self._remove()
        undo(self.owner)

    def _install(self) -> None:
        body, exit = self.model.get_submodule(self.body), self.model.get_submodule(self.exit)
        self._before = vars(body).get("forward")
        if self._run is None or self._run.forward != body.forward:  # where a model is compiled, another one is new
            self._run = _FlatForward(self, body.forward)
        body.forward = self._run
        if self.encoder is not None:
            self.encoder.install()
        if self.parts is not None:
            self.parts.install()
        elif self.pools:
            self._hooks.append(exit.register_forward_pre_hook(_pad_input))
        elif exit is not body:
            self._hooks.append(exit.register_forward_hook(_pad_output))

    def _remove(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()
        if self.encoder is not None:
            self.encoder.remove()
        if self.parts is not None:
            self.parts.remove()
        body = self.model.get_submodule(self.body)
        if self._run is not None and vars(body).get("forward") is self._run:
            restore_forward(body, self._before)

    def flat(self, inputs: dict[str, Any], layout: Layout) -> dict[str, Any]:
        """Lays a padded batch end to end, for a model that runs flat as a whole, within `running_flat`.

        Args:
            inputs: keywords of the forward, with `input_ids` and `attention_mask` `[batch, seq]`.
            layout: of that mask.

        Returns:
            The keywords for the flat row.
        """
        ids, mask, positions = inputs["input_ids"], inputs["attention_mask"], inputs.get("position_ids")
        if positions is None:
            inputs = {**inputs, "position_ids": self.positions(ids, mask, self._padding)}
        flat = {name: _flattened(value, layout) for name, value in inputs.items()}
        return {**flat, "attention_mask": None, "sequence_lengths": layout.sequences}

    def layout_of(self, inputs: dict[str, Any]) -> Layout | None:
        """Reads where the tokens of a batch are, from the keywords of a forward; `None` = it has to run padded."""
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        asked = any(_is_given(inputs.get(name)) for name in PADDED) or inputs.get("use_cache") is True
        if self.reason is not None or asked or any(self._asks_for(name, inputs) for name in OUTPUTS):
            return None
        if not isinstance(ids, Tensor) or not isinstance(mask, Tensor) or ids.dim() != 2 or ids.shape != mask.shape:
            return None
        inner = transformer(self.model)
        if self.parts is None:
            if not str(inner.config._attn_implementation).startswith(PREFIX):
                return None  # somebody chose another one since
        elif self.model.training and _is_checkpointing(inner):
            return None  # parts run again in backward, when nobody knows the layout
        layout = Layout.of(mask)
        # windows and convolutions count columns: padding between tokens stays
        clean = {"within"} | ({"left"} if self.side == "right" or self._shifts(inputs) else set())
        clean |= {"right"} if self.side == "left" else set()
        return layout if layout.sequences.total and clean <= layout.no_padding_on else None

    def _shifts(self, inputs: dict[str, Any]) -> bool:
        """Says whether the model's own loss would predict a first token from the padding before it."""
        return self.shifts and inputs.get("labels") is not None

    def _asks_for(self, output: str, inputs: dict[str, Any]) -> bool:
        asked = inputs.get(output)
        return bool(getattr(transformer(self.model).config, output, False) if asked is None else asked)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # lengths and shapes are new in each batch
    def prepare(self, inputs: dict[str, Any], cached: bool) -> tuple[dict[str, Any], Layout] | None:
        """Returns the inputs of the body's forward, and the batch's layout; `None` = it has to run padded."""
        layout = self.layout_of(inputs)
        if layout is None or self.parts is not None:
            return None if layout is None else (inputs, layout)
        flat = self.flat(inputs, layout)
        if self._shifts(inputs):
            flat["labels"] = _without_firsts(flat["labels"], layout)
        if cached:
            flat["use_cache"] = False
        return flat, layout

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def begin(self, layout: Layout) -> ExitStack:
        """Begins a pass without padding; the stack is to be closed after it."""
        stack = ExitStack()
        stack.enter_context(running_layout(layout))
        if self.parts is None:
            self.watch = stack.enter_context(running_flat())
        return stack

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def finish(self, output: Any, layout: Layout) -> Any:
        """Pads the body's output, where nothing within it did."""
        whole = self.parts is None and (self.pools or self.body == self.exit)
        return _padded(output, layout) if whole else output


class _FlatForward:
    """A body's forward without padding; an object and no function, so that a copy of the model has a copy of it."""

    def __init__(self, free: PaddingFree, forward: Callable[..., Any]) -> None:
        self.free, self.forward = free, forward
        self.__signature__ = inspect.signature(forward)  # callers look which keywords there are
        self.cached = "use_cache" in self.__signature__.parameters

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        prepared = self.free.prepare(_named(self.__signature__, args, kwargs), self.cached)
        if prepared is None:
            return self.forward(*args, **kwargs)
        inputs, layout = prepared
        stack = self.free.begin(layout)
        try:
            output = self.forward(**inputs)
        finally:
            stack.close()
        return self.free.finish(output, layout)

    __call__: Any = torch.compiler.disable(_call, recursive=False)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _pad_input(module: nn.Module, args: Any) -> Any:
    layout = current_layout()
    return args if layout is None else (layout.pad(args[0]), *args[1:])


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _pad_output(module: nn.Module, args: Any, output: Any) -> Any:
    layout = current_layout()
    if layout is None:
        return output
    if isinstance(output, Tensor):
        return layout.pad(output)
    if isinstance(output, dict):
        name = next(iter(output))
        return type(output)(**{**output, name: layout.pad(output[name])})
    return (layout.pad(output[0]), *output[1:])


def _flattened(value: Any, layout: Layout) -> Any:
    """Lays what there is for each token end to end; one row may stand for all."""
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[1] != layout.shape[1]:
        return value
    if len(value) not in (1, layout.shape[0]):
        return value
    return layout.flatten(value.expand(layout.shape[0], *value.shape[1:]))


def make_padding_free(model: nn.Module) -> PaddingFree:
    """Lets a model skip the padding of its batches, in training and evaluation, until `undo`.

    Batches with an `attention_mask` `[batch, seq]` give the outputs, losses and gradients that they gave before; at
    padding, states and logits are zeros. Labels at padding are to be -100. Everything else (generation with a cache,
    `output_attentions`, batches without a mask) runs as before.

    Args:
        model: any transformers model, in adapters or not.

    Returns:
        What undoes it, also as the end of a `with`; its `reason` is set, and nothing is changed, where the model cannot
        run so.
    """
    free = PaddingFree.of(model).__enter__()
    free._held = True
    return free


def _is_given(value: Any) -> bool:
    return value is not None and not (isinstance(value, (bool, int)) and not value)


def _named(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs).arguments
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound.update(bound.pop(name, {}))
    return bound


def _without_firsts(labels: Tensor, layout: Layout) -> Tensor:
    """Takes the label off each row's first token: a loss that shifts labels would predict it from the row before."""
    lengths = torch.tensor(layout.sequences.lengths)
    firsts = (lengths.cumsum(0) - lengths)[lengths > 0]
    return labels.index_fill(1, firsts.to(labels.device), -100)


def _padded(output: Any, layout: Layout) -> Any:
    """Pads each tensor of an output that has a state for every token."""
    total = layout.sequences.total

    def pad(value: Any) -> Any:
        of_tokens = isinstance(value, Tensor) and value.dim() > 2 and value.shape[:2] == (1, total)
        return layout.pad(value) if of_tokens else value

    if isinstance(output, Tensor):
        return pad(output)
    if isinstance(output, dict):
        return type(output)(**{name: pad(value) for name, value in output.items()})
    return tuple(pad(value) for value in output)


def _ways(model: nn.Module, device: torch.device, is_encoder: bool, flat: bool) -> Iterator[PaddingFree]:
    """Yields ways to run, best ones first, each with the reason why it does not do; the model is evaluating."""
    probes = []
    for side in ROWS:  # one after the other: the first one does for most models
        probes.append(Probe(model, device, side))
        if flat:
            yield from _candidates(model, probes[-1], is_encoder)
    yield from (_in_parts(model, probe) for probe in probes)


def _candidates(model: nn.Module, probe: Probe, is_encoder: bool) -> Iterator[PaddingFree]:
    """Yields ways to run flat."""
    bodies = [*[name for name in probe.took_ids if name][:1], ""]
    ways = [("", "", False)] if probe.of_tokens else []
    ways += [(body, exit, False) for body in bodies for exit in probe.states_within(body)]
    ways += [(body, exit, True) for body in bodies for exit in probe.pooled[-1:] if exit.startswith(body)]
    for body, exit, pools in dict.fromkeys(ways):
        for positions in RULES:
            free = PaddingFree(model, body, exit, positions)
            free.pools, free.side = pools, probe.side
            free.encoder = EncoderPositions(model) if is_encoder else None
            free.reason, misplaced = _why_not(free, probe)
            yield free
            if not misplaced:
                break


def _in_parts(model: nn.Module, probe: Probe) -> PaddingFree:
    rows = probe.inputs["input_ids"].dim() == 2  # a model that takes more than these hands them to its body as rows
    bodies = [name for name in probe.took_ids if name]
    free = PaddingFree(model, body="" if rows or not bodies else bodies[0])
    free.parts, free.side = FlatParts.of(model, probe), probe.side
    free.reason = _why_not(free, probe)[0] if free.parts.parts else "no part of it treats each token by itself"
    return free


def _why_not(free: PaddingFree, probe: Probe) -> tuple[str | None, bool]:
    """Returns why a way to run does not do, if it does not, and whether other positions may mend it."""
    try:
        with free:
            reason = probe.compare(free.model)
            if free.parts is not None:
                return reason, False
            if reason is None and (free.body, free.exit) == ("", "") and not probe.same_loss(free.model):
                free.shifts = True
                reason = None if probe.same_loss(free.model) else "its loss mixes the rows of a batch"
    except Differs as differs:
        return str(differs), True
    except Exception as error:
        return failure(error), False
    if reason is None and not free.watch.told:
        reason = "its attention is not that of transformers' AttentionInterface"
    return reason or unknown_windows(free.watch), False


def _is_checkpointing(model: nn.Module) -> bool:
    # transformers renames its own property, with a warning for the old name
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
