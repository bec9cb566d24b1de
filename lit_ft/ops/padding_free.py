"""Any transformers model on the real tokens of a padded batch alone: same outputs, no compute on padding.

    free = make_padding_free(model)
    model(input_ids=..., attention_mask=...)   # as ever
    free.undo()

The tokens of a batch are laid end to end; attention runs within each row (`lit_ft.ops.attention`), all else on one flat
row. Where that begins and ends is found by trying on a tiny batch, so there is no line per architecture.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from lit_ft.ops.flat_parts import FlatParts
from lit_ft.ops.isolation import failure, install, transformer, undo, unknown_windows
from lit_ft.ops.layout import Layout
from lit_ft.ops.probe import ROWS, Probe, Side
from lit_ft.ops.sequences import Watch, running_flat
from lit_ft.ops.tiny_run import undisturbed

Positions = Callable[[nn.Module, Tensor, Tensor], Tensor]

PADDED = ("past_key_values", "inputs_embeds", "encoder_hidden_states", "decoder_input_ids", "logits_to_keep")
"""Inputs that a flat row cannot serve: with one of them a batch runs padded."""

OUTPUTS = ("output_attentions", "output_hidden_states")
"""Asked for in a call or by the configuration: likewise."""


def by_column(_: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Positions count columns, padding or not: BERT, GPT-2, and in effect whatever has relative or rotary ones."""
    return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)


def by_mask(_: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Positions count the tokens that are no padding: OPT."""
    return (mask.long().cumsum(1) - 1).clamp_min(0)


def by_padding_token(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """Positions count the tokens that are not the padding token, from the one after its id on: RoBERTa."""
    padding = transformer(model).config.pad_token_id
    if padding is None:
        return by_column(model, ids, mask)
    real = ids.ne(padding).long()
    return real.cumsum(1).mul_(real).add_(padding)


RULES: tuple[Positions, ...] = (by_column, by_padding_token, by_mask)


class PaddingFree(AbstractContextManager["PaddingFree"]):
    """A model that skips padding within this context; made by `PaddingFree.of` or `make_padding_free`.

    Attributes:
        reason: why the model runs padded all the same; `None` where it does not.
        parts: the parts that run flat, where nothing larger can.
        body: path of the part that runs flat; `""` = the whole model, token by token.
        exit: path of the part of it whose output is padded again, or whose input is where it pools.
        positions: how the model counts positions.
        pools: the exit makes one state per row.
        side: where rows may have padding; the model looks at the other side's column, so that others run padded.
        windows: its attention counts distances.
        shifts: the model's own loss lets each token predict the label of the next one.
    """

    def __init__(self, model: nn.Module, body: str = "", exit: str = "", positions: Positions = by_column) -> None:
        self.model, self.body, self.exit, self.positions = model, body, exit, positions
        self.reason: str | None = None
        self.parts: FlatParts | None = None
        self.side: Side | None = None
        self.pools = self.shifts = self.windows = False
        self.watch = Watch()
        self._layout: Layout | None = None
        self._run: Any = None
        self._flat: AbstractContextManager[Watch] | None = None
        self._undo: list[Callable[[], None]] = []

    @classmethod
    def of(cls, model: nn.Module) -> "PaddingFree":
        """Finds out how a model runs without padding; leaves weights, modes and random numbers as they were."""
        refused = cls(model)
        if next(model.parameters()).device.type == "meta":
            refused.reason = "the model's weights are not loaded yet"
            return refused
        if transformer(model).config.is_encoder_decoder:  # a decoder's rows are others, even where they are as wide
            refused.reason = "encoder-decoder models have two kinds of rows"
            return refused
        cannot = refused.reason = install(model)
        with undisturbed(model) as device:
            try:
                probes = [Probe(model, device, side) for side in ROWS]
                flat = (found for probe in probes for found in _candidates(model, probe) if cannot is None)
                for found in chain(flat, (_in_parts(model, probe) for probe in probes)):
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
        return self.reason is None and self.parts is None and (self.body, self.exit) == ("", "")

    def __enter__(self) -> "PaddingFree":
        if self.reason is None and not self._undo:
            body, exit = self.model.get_submodule(self.body), self.model.get_submodule(self.exit)
            self._undo.append(self._wrap(body))
            if self.parts is not None:
                self._undo.append(self.parts.install())
            elif self.pools:
                self._undo.append(exit.register_forward_pre_hook(torch.compiler.disable(self._pad_input)).remove)
            elif exit is not body:
                self._undo.append(exit.register_forward_hook(torch.compiler.disable(self._pad_output)).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._undo:
            self._undo.pop()()

    def undo(self) -> None:
        """Makes the model what it was."""
        self.__exit__(None, None, None)
        undo(self.model)

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
            positions = self.positions(self.model, ids, mask)
        flat = {
            name: layout.flatten(value) if isinstance(value, Tensor) and value.shape[:2] == ids.shape else value
            for name, value in inputs.items()
        }
        return {
            **flat,
            "position_ids": layout.flatten(positions.expand_as(ids)),  # one row for all is usual, too
            "attention_mask": None,
            "sequence_lengths": layout.sequences,
        }

    def _wrap(self, body: nn.Module) -> Callable[[], None]:
        before = vars(body).get("forward")
        if self._run is None:  # one function for all batches: where the model is compiled, another one would be new
            self._run = torch.compiler.disable(self._flat_forward(body.forward), recursive=False)
        body.forward = self._run

        def unwrap() -> None:
            if before is None:
                vars(body).pop("forward", None)
            else:
                body.forward = before

        return unwrap

    def _flat_forward(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(forward)
        # lengths and shapes are new in each batch: where the model is compiled, these stay outside
        prepare, finish = torch.compiler.disable(self._prepare), torch.compiler.disable(self._finish)

        def run(*args: Any, **kwargs: Any) -> Any:
            inputs = prepare(signature, args, kwargs)
            if inputs is None:
                return forward(*args, **kwargs)
            output = None
            try:
                output = forward(**inputs)
            finally:
                output = finish(output)
            return output

        run.__signature__ = signature  # type: ignore[attr-defined]  # callers look which keywords there are
        return run

    def _prepare(self, signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any] | None:
        """Returns the inputs of the forward, and begins to run flat; `None` = the batch has to run padded."""
        inputs = _named(signature, args, kwargs)
        layout = self.layout_of(inputs)
        if layout is None:
            return None
        self._layout = layout
        if self.parts is not None:
            self.parts.layout = layout
            return inputs
        inputs = self.flat(inputs, layout)
        if self.shifts and inputs.get("labels") is not None:
            inputs["labels"] = _without_firsts(inputs["labels"], layout)
        if "use_cache" in signature.parameters:
            inputs["use_cache"] = False
        self._flat = running_flat()
        self.watch = self._flat.__enter__()
        return inputs

    def _finish(self, output: Any) -> Any:
        """Ends to run flat, also after an error, and pads what is to be padded."""
        layout, self._layout = self._layout, None
        assert layout is not None
        if self.parts is not None:
            self.parts.layout = None
            return output
        assert self._flat is not None
        self._flat.__exit__(None, None, None)
        whole = self.pools or self.body == self.exit
        return _padded(output, layout) if whole and output is not None else output

    def layout_of(self, inputs: dict[str, Any]) -> Layout | None:
        """Reads where the tokens of a batch are, from the keywords of a forward; `None` = it has to run padded."""
        if self.reason is not None:
            return None
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        asked = any(_is_given(inputs.get(name)) for name in PADDED) or inputs.get("use_cache") is True
        asked = asked or any(self._asks_for(name, inputs) for name in OUTPUTS)
        if not isinstance(ids, Tensor) or not isinstance(mask, Tensor) or asked:
            return None
        if ids.dim() != 2 or ids.shape != mask.shape:
            return None
        if self.parts is not None and self.model.training and transformer(self.model).is_gradient_checkpointing:
            return None  # parts run again in backward, when nobody knows the layout
        layout = Layout.of(mask)
        other = {"right": "left", "left": "right", None: None}[self.side]
        if not layout.sequences.total or (self.windows and "within" not in layout.no_padding_on):
            return None  # windows count columns
        return layout if other is None or other in layout.no_padding_on else None

    def _asks_for(self, output: str, inputs: dict[str, Any]) -> bool:
        asked = inputs.get(output)
        return bool(getattr(transformer(self.model).config, output, False) if asked is None else asked)

    def _pad_input(self, module: nn.Module, args: Any) -> Any:
        return args if self._layout is None else (self._layout.pad(args[0]), *args[1:])

    def _pad_output(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self._layout is None:
            return output
        if isinstance(output, Tensor):
            return self._layout.pad(output)
        if isinstance(output, dict):
            name = next(iter(output))
            return type(output)(**{**output, name: self._layout.pad(output[name])})
        return (self._layout.pad(output[0]), *output[1:])


def make_padding_free(model: nn.Module) -> PaddingFree:
    """Lets a model skip the padding of its batches, in training and evaluation, until `undo`.

    Batches with an `attention_mask` `[batch, seq]` give the outputs, losses and gradients that they gave before; at
    padding, states and logits are zeros. Labels at padding are to be -100. Everything else (generation with a cache,
    `output_attentions`, batches without a mask) runs as before.

    Args:
        model: any transformers model, in adapters or not.

    Returns:
        What undoes it; its `reason` is set, and nothing is changed, where the model cannot run so.
    """
    return PaddingFree.of(model).__enter__()


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


def _candidates(model: nn.Module, probe: Probe) -> Iterator[PaddingFree]:
    """Yields ways to run flat, best ones first, each with the reason why it does not do; the model is evaluating."""
    bodies = [*[name for name in probe.took_ids if name][:1], ""]
    ways = [("", "", False)] if probe.of_tokens else []
    ways += [(body, exit, False) for body in bodies for exit in probe.states_within(body)]
    ways += [(body, exit, True) for body in bodies for exit in probe.pooled[-1:] if exit.startswith(body)]
    for body, exit, pools in dict.fromkeys(ways):
        for positions in RULES:
            free = PaddingFree(model, body, exit, positions)
            free.pools, free.side = pools, probe.side
            free.reason = _why_not(free, probe)
            yield free


def _in_parts(model: nn.Module, probe: Probe) -> PaddingFree:
    free = PaddingFree(model)
    if probe.inputs["input_ids"].dim() != 2:
        free.reason = "it takes more than rows of tokens"
        return free
    free.parts, free.side = FlatParts.of(model, probe), probe.side
    free.reason = _why_not(free, probe) if free.parts.parts else "no part of it treats each token by itself"
    return free


def _why_not(free: PaddingFree, probe: Probe) -> str | None:
    try:
        with free:
            reason = probe.compare(free.model)
            if free.parts is not None:
                return reason
            if reason is None and (free.body, free.exit) == ("", "") and not probe.same_loss(free.model):
                free.shifts = True
                reason = None if probe.same_loss(free.model) else "its loss mixes the rows of a batch"
    except Exception as error:
        return failure(error)
    if reason is None and not free.watch.told:
        return "its attention is not that of transformers' AttentionInterface"
    free.windows = bool(free.watch.told - {None})
    return reason or unknown_windows(free.watch)
