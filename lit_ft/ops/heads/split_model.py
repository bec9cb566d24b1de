"""A language model cut in two: its body up to the last hidden state, and the head that makes logits of it.

No line per architecture: the body is found by watching one tiny forward pass, and both halves run the model's own code.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from lit_ft.ops.padding_free.tiny_run import no_cache, undisturbed

PROBE_IDS = (5, 7, 6)
"""Tokens of the tiny input: different ones, for equal rows could not tell a head from something that mixes rows."""
SOURCE_IDS = (6, 5)
"""What the encoder reads beside them, where there is one."""


class _Given(nn.Module):
    """Stands in for the body while the head runs: returns a given output, and is the body for whoever looks inside."""

    def __init__(self, body: nn.Module, output: Any) -> None:
        super().__init__()
        object.__setattr__(self, "_body", body)  # no child of this one: nothing may register or move it
        self._output = output

    def forward(self, *_: Any, **__: Any) -> Any:
        return self._output

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_body"], name)


@dataclass(frozen=True)
class LinearHead:
    """Names of the parameters of a head that is `F.linear(hidden, weight, bias)`, then a soft cap or none."""

    weight: str
    bias: str | None
    softcap: float | None


@dataclass(frozen=True)
class SplitModel:
    """The two halves of a model with a language modelling head; `SplitModel.of` makes it.

    Attributes:
        model: the whole model; unpatched outside of the two calls.
        body_name: path of the submodule whose first output is the last hidden state.
        output_type: what the body returns (tensor, tuple or a ModelOutput).
        output_key: name of the hidden state in a ModelOutput.
        head_names: parameters that the head uses, a tied embedding included, frozen ones too.
        linear: set where the head is no more than a linear layer and a soft cap.
    """

    model: nn.Module
    body_name: str
    output_type: type
    output_key: str | None
    head_names: tuple[str, ...] = ()
    linear: LinearHead | None = None

    @staticmethod
    def of(model: nn.Module) -> "SplitModel | None":
        """Splits a model, or returns `None` where it does not split (`split_or_reason` says why)."""
        return split_or_reason(model)[0]

    def hidden(self, **inputs: Any) -> Tensor:
        """Runs the model's forward and returns its last hidden state `[batch, seq, hidden]`, with its graph.

        The head sees one token in this pass, so that what stands before and after the body in the model's own forward
        runs as ever while no logits worth the name are made.

        Args:
            inputs: the forward's keywords, without labels.
        """
        seen: list[Tensor] = []

        def first_token(hidden: Tensor) -> Tensor:
            seen.append(hidden)
            return hidden[:1, :1]

        self._forward(first_token, inputs)
        return seen[0]

    def logits_at(self, rows: Tensor, **inputs: Any) -> Tensor:
        """Runs the model once, its head on some rows only: for sharded weights, which `token_loss` cannot do.

        Args:
            rows: which positions, bool `[batch, seq]`.
            inputs: the forward's keywords, without labels.

        Returns:
            The logits of those rows, `[n, vocab]`.
        """
        output = self._forward(lambda hidden: hidden[rows][None], inputs)
        logits: Tensor = _first(output)
        return logits[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """Runs the model's own head on `[n, hidden]` and returns the logits `[n, vocab]`.

        Whatever the model does after its body happens: dense layers, norms, scales, soft caps, biases.
        """
        with self._body_given(hidden[None]):
            ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
            inputs: dict[str, Any] = {"input_ids": ids}
            if _has_encoder(self.model):  # which has no part in this
                inputs = {"decoder_input_ids": ids, "encoder_outputs": (hidden[None, :1],)}
            logits: Tensor = _first(self.model(**inputs, **no_cache(self.model)))
        return logits.flatten(0, 1)  # a view in backward, too, where `[0]` would fill zeros

    def head_parameters(self) -> list[nn.Parameter]:
        """Returns the head's parameters that require gradients; a tied embedding is among them."""
        parameters = [self.model.get_parameter(name) for name in self.head_names]
        return [parameter for parameter in parameters if parameter.requires_grad]

    def _forward(self, cut: Callable[[Tensor], Tensor], inputs: dict[str, Any]) -> Any:
        assert "labels" not in inputs, "labels would make the model compute logits and a loss of its own"
        body = self.model.get_submodule(self.body_name)
        handle = body.register_forward_hook(lambda _, __, output: _with_first(output, cut(_first(output))))
        try:
            return self.model(**inputs, **no_cache(self.model))
        finally:
            handle.remove()

    @contextmanager
    def _body_given(self, hidden: Tensor) -> Iterator[None]:
        body = self.model.get_submodule(self.body_name)
        path, _, name = self.body_name.rpartition(".")
        parent = self.model.get_submodule(path)
        output: Any = hidden
        if self.output_key is not None:
            output = self.output_type(**{self.output_key: hidden})
        elif not issubclass(self.output_type, Tensor):
            output = (hidden,)
        setattr(parent, name, _Given(body, output))
        try:
            yield
        finally:
            setattr(parent, name, body)


def split_or_reason(model: nn.Module) -> tuple[SplitModel | None, str]:
    """Splits a model, checked on a tiny input: head(body(x)) are its own logits, and its head works on single rows.

    Leaves weights, modes and random numbers as they were.

    Returns:
        The two halves, or `None` and the reason why whoever asks needs the model's full logits.
    """
    if next(model.parameters()).device.type == "meta":
        return None, "the model's weights are not loaded yet"
    try:
        with undisturbed(model) as device:
            return _probe(model, torch.tensor([PROBE_IDS], device=device))
    except Exception as error:  # any forward may fail on three tokens in its own way: then it runs whole
        reason = (str(error).strip() or "no message").splitlines()[0]
        return None, f"its forward on {len(PROBE_IDS)} tokens: {type(error).__name__}: {reason}"


def _probe(model: nn.Module, ids: Tensor) -> tuple[SplitModel | None, str]:
    output, calls = _watched(model, ids)
    logits = _first(output)
    if getattr(output, "aux_loss", None) is not None:
        return None, "it adds a loss of its own to the logits' (output_router_logits)"
    bodies = [call for call in calls if _first(call[1]) is not logits and _is_states(_first(call[1]), ids)]
    if not bodies:
        return None, "no part of it hands a hidden state to a head"
    name, body_output = bodies[0]
    hidden = _first(body_output)
    key = next(iter(body_output)) if isinstance(body_output, dict) else None
    split = SplitModel(model, name, type(body_output), key)
    parameters = _UsedParameters()
    with parameters:
        whole = split.logits(hidden[0])
    single = torch.cat([split.logits(row[None]) for row in hidden[0].flip(0)]).flip(0)
    if not (_close(whole, logits[0]) and _close(single, logits[0])):
        return None, f"its logits are not a function of each row of {name}'s output"
    if not _close(split.hidden(**_inputs(model, ids)), hidden):
        return None, f"{name} runs differently beside a shortened head"
    names = {parameter: name for name, parameter in model.named_parameters()}
    used = tuple(names[parameter] for parameter in parameters.seen if parameter in names)
    return SplitModel(model, name, type(body_output), key, used, _linear(model, used, hidden[0], logits[0])), ""


def _has_encoder(model: nn.Module) -> bool:
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def _inputs(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """Names the tokens that the head is to be asked about, and gives an encoder others, of another number."""
    if not _has_encoder(model):
        return {"input_ids": ids}
    return {"input_ids": ids.new_tensor([SOURCE_IDS]), "decoder_input_ids": ids}


def _is_states(value: Any, ids: Tensor) -> bool:
    return isinstance(value, Tensor) and value.dim() == 3 and value.shape[:2] == ids.shape


def _watched(model: nn.Module, ids: Tensor) -> tuple[Any, list[tuple[str, Any]]]:
    """Runs the model and lists the submodules it called, in the order of their start, with what they returned."""
    calls: list[list[Any]] = []
    open_calls: list[list[Any]] = []

    def begin(name: str) -> Any:
        def hook(*_: Any) -> None:
            call = [name, None]
            calls.append(call)
            open_calls.append(call)

        return hook

    def end(_: nn.Module, __: Any, output: Any) -> None:
        open_calls.pop()[1] = output

    handles = []
    for name, module in model.named_modules():
        if name:
            handles += [module.register_forward_pre_hook(begin(name)), module.register_forward_hook(end)]
    try:
        output = model(**_inputs(model, ids), **no_cache(model))
    finally:
        for handle in handles:
            handle.remove()
    return output, [(name, returned) for name, returned in calls]


class _UsedParameters(TorchFunctionMode):
    """Collects the parameters that torch functions are called with, in order, frozen ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[nn.Parameter, None] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in [*args, *(kwargs or {}).values()]:
            for tensor in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(tensor, nn.Parameter):
                    self.seen[tensor] = None
        return function(*args, **(kwargs or {}))


def _linear(model: nn.Module, used: tuple[str, ...], hidden: Tensor, logits: Tensor) -> LinearHead | None:
    embeddings = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    if not isinstance(embeddings, nn.Linear):
        return None
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    weight, bias = names[embeddings.weight], None if embeddings.bias is None else names[embeddings.bias]
    if {*used} != {weight, bias} - {None}:
        return None
    plain = F.linear(hidden, embeddings.weight, embeddings.bias)
    # the cap first: on small logits it hardly shows
    for softcap in (getattr(model.config, "final_logit_softcapping", None), None):
        if _close(plain if softcap is None else softcap * torch.tanh(plain / softcap), logits):
            return LinearHead(weight, bias, softcap)
    return None


def _close(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    share = 1e-5 if second.dtype in (torch.float32, torch.float64) else 2e-2
    return bool((first.float() - second.float()).abs().max() <= share * second.float().abs().max())


def _first(output: Any) -> Any:
    if isinstance(output, dict):
        return next(iter(output.values()))
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _with_first(output: Any, tensor: Tensor) -> Any:
    if isinstance(output, dict):
        return type(output)(**{**output, next(iter(output)): tensor})
    return tensor if isinstance(output, Tensor) else (tensor, *output[1:])
