"""A tiny padded batch, and what a model makes of it and calls for it: what other ways to run are compared with."""

from collections import Counter
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_ft.ops.padding_free.isolation import close, transformer

MASK = (
    (1, 1, 1, 1, 1, 1, 1),
    (1, 1, 1, 1, 0, 0, 0),
    (1, 0, 0, 0, 0, 0, 0),
    (0, 0, 1, 1, 1, 1, 1),
    (0, 0, 0, 0, 0, 0, 1),
)
"""A full row, two padded on the right, two on the left."""

Side = Literal["right", "left"]
ROWS: dict[Side | None, slice] = {None: slice(None), "right": slice(3), "left": slice(0, None, 3)}
"""Rows with padding on one side: a model that looks at the first column shall not see padding there."""

FIRST_ID = 5
"""Below it are special tokens, more often than not."""

KINDS = 11
"""Different tokens."""

DEEPEST = 4
"""How many parts of a model are tried, from the outside in: layers come later, and no head follows one of them."""


class Differs(Exception):
    """A part of a model makes other states now; its message says which."""


class Probe:
    """Runs a model on the tiny batch, padded.

    Attributes:
        inputs: the batch.
        output: what the model makes of it.
        side: where rows have padding; `None` = on either side.
        took_ids: paths of the parts that were given the token ids, outermost first.
        gave_states: paths of the parts that returned a state for each token, padding included.
        pooled: paths of the parts that made one state per row of such states.
    """

    def __init__(self, model: nn.Module, device: torch.device, side: Side | None = None) -> None:
        self.side = side
        mask = torch.tensor(MASK[ROWS[side]], device=device)
        padding = transformer(model).config.get_text_config().pad_token_id or 0
        first = FIRST_ID if not FIRST_ID <= padding < FIRST_ID + KINDS else FIRST_ID + KINDS
        ids = torch.arange(mask.numel(), device=device).view_as(mask) % KINDS + first
        mask_token = getattr(transformer(model).config, "mask_token_id", None)
        if mask_token is not None and mask_token < transformer(model).config.vocab_size:
            ids[0, 1:3] = mask_token  # rows have different shares of it: ESM counts them
        self.inputs = {"input_ids": ids.where(mask > 0, padding), "attention_mask": mask}
        self.took_ids: list[str] = []
        self.gave_states: list[str] = []
        self.pooled: list[str] = []
        self.output: Any = None
        try:
            output, self._states = self._watched(model)
        except RuntimeError:  # heads of multiple choice take `[batch, choices, seq]`
            self.inputs = {name: value[None] for name, value in self.inputs.items()}
            output, self._states = self._watched(model)
        self.output = output
        self.took_ids.sort(key=lambda name: name.count("."))
        if self._is_states(_first(output)):
            self.gave_states.append("")
        self.loss = self._loss(model) if self.of_tokens else None

    @property
    def of_tokens(self) -> bool:
        """Whether the model's first output has a value for each token."""
        return self._is_states(_first(self.output))

    def states_within(self, part: str) -> list[str]:
        """Returns the part itself and those within it that gave states, outermost first."""
        inside = [name for name in self.gave_states if name == part or not part or name.startswith(f"{part}.")]
        return sorted(inside, key=lambda name: name.count(".") + (name != ""))[:DEEPEST]

    def compare(self, model: nn.Module) -> str | None:
        """Runs the model once more, and returns in what it differs now; `None` where in nothing but rounding.

        The states of its parts are compared, too: a new head of zeros, or one with a large bias, would hide them.

        Raises:
            Differs: those of a part differ.
        """
        output, _ = self._watched(model, self._states)
        found, real = _tensors(output), self.inputs["attention_mask"].bool()
        for name, value in _tensors(self.output).items():
            if name not in found or found[name].shape != value.shape:
                return f"its {name} have another shape without padding"
            of_tokens = value.shape[:2] == real.shape
            if not close(*((each[real] if of_tokens else each) for each in (found[name], value))):
                return f"its {name} differ without padding"
        return None

    def same_loss(self, model: nn.Module) -> bool:
        """Says whether the model's own loss, if it has one, is what it was."""
        loss = self._loss(model)
        return loss is None if self.loss is None else loss is not None and close(loss, self.loss)

    def _loss(self, model: nn.Module) -> Tensor | None:
        real = self.inputs["attention_mask"] > 0
        after_padding = real & ~torch.cat([real[:, :1], real[:, :-1]], 1)  # predicted, if at all, from padding
        labels = self.inputs["input_ids"] % _first(self.output).shape[-1]
        try:
            output = model(**self.inputs, labels=labels.where(real & ~after_padding, -100))
        except TypeError:  # it takes no labels
            return None
        return getattr(output, "loss", None)

    def _watched(self, model: nn.Module, expected: dict[str, Tensor] | None = None) -> tuple[Any, dict[str, Tensor]]:
        """Runs the model; returns its output, and the states of real tokens `[n, size]` that its parts returned.

        Raises:
            Differs: a part's states are not the expected ones; what comes behind it is not run any more.
        """
        states: dict[str, Tensor] = {}
        calls: Counter[str] = Counter()
        real = self.inputs["attention_mask"].bool().flatten()
        total = int(real.sum())

        def hook(name: str) -> Any:
            def keep(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                value = _first(output)
                if self.output is None:
                    self._note(name, (*args, *kwargs.values()), value)
                if self._is_states(value):
                    value = value.flatten(0, 1)[real]
                elif isinstance(value, Tensor) and value.dim() == 3 and value.shape[:2] == (1, total):
                    value = value[0]
                else:
                    return
                calls[name] += 1  # layers may share a part
                states[key := f"{name}, call {calls[name]}"] = value
                before = None if expected is None else expected.get(key)
                if before is not None and before.shape == value.shape and not _alike(value, before):
                    raise Differs(f"the output of {name} differs without padding")

            return keep

        named = [(name, module) for name, module in model.named_modules() if name]
        handles = [module.register_forward_hook(hook(name), with_kwargs=True) for name, module in named]
        try:
            return model(**self.inputs), states
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, name: str, given: tuple[Any, ...], value: Any) -> None:
        if any(self._is_ids(each) for each in given):
            self.took_ids.append(name)
        if self._is_states(value):
            self.gave_states.append(name)
        elif given and self._is_states(given[0]) and isinstance(value, Tensor) and value.dim() == 2:
            self.pooled.append(name)

    def _is_states(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.dim() == 3 and value.shape[:2] == self.inputs["input_ids"].shape[-2:]

    def _is_ids(self, value: Any) -> bool:
        """Says whether these are the token ids, or a view of them."""
        ids = self.inputs["input_ids"]
        return isinstance(value, Tensor) and value.shape == ids.shape[-2:] and value.data_ptr() == ids.data_ptr()


def _first(output: Any) -> Any:
    if isinstance(output, dict):
        return next(iter(output.values()))
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _tensors(output: Any) -> dict[str, Tensor]:
    named = output if isinstance(output, dict) else dict(enumerate(output if isinstance(output, tuple) else [output]))
    return {str(name): value for name, value in named.items() if isinstance(value, Tensor)}


def _alike(found: Tensor, expected: Tensor) -> bool:
    """Says whether states `[n, size]` are the same but for rounding, measured by how much they differ among tokens."""
    exact = expected.dtype in (torch.float32, torch.float64)
    found, expected = found.float(), expected.float()
    spread, largest = (expected - expected.mean(0)).abs().max(), expected.abs().max()
    allowed = 1e-4 * spread + 1e-6 * largest if exact else 5e-2 * spread + 1e-2 * largest
    return bool((found - expected).abs().max() <= allowed)
