"""A tiny padded batch, and what a model makes of it and calls for it: what other ways to run are compared with."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_ft.ops.isolation import close, transformer

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


class Probe:
    """Runs a model on the tiny batch, padded.

    Attributes:
        inputs: the batch.
        output: what the model makes of it.
        side: where rows have padding; `None` = on either side.
        took_ids: paths of the parts that were given the token ids, in the order of their start.
        gave_states: paths of the parts that returned a state for each token, padding included, likewise.
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
        try:
            self.output = self._watched(model)
        except RuntimeError:  # heads of multiple choice take `[batch, choices, seq]`
            self.inputs = {name: value[None] for name, value in self.inputs.items()}
            self.output = self._watched(model)
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
        """Runs the model once more, and returns in what it differs now; `None` where in nothing but rounding."""
        found, expected = _tensors(model(**self.inputs)), _tensors(self.output)
        real = self.inputs["attention_mask"].bool()
        for name, value in expected.items():
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

    def _watched(self, model: nn.Module) -> Any:
        handles = []
        for name, module in model.named_modules():
            if name:
                handles += [
                    module.register_forward_pre_hook(self._begin(name), with_kwargs=True),
                    module.register_forward_hook(self._end(name)),
                ]
        try:
            output = model(**self.inputs)
        finally:
            for handle in handles:
                handle.remove()
        if self._is_states(_first(output)):
            self.gave_states.append("")
        return output

    def _begin(self, name: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            if any(self._is_ids(value) for value in (*args, *kwargs.values())):
                self.took_ids.append(name)

        return hook

    def _end(self, name: str) -> Any:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            if self._is_states(_first(output)):
                self.gave_states.append(name)
            elif args and self._is_states(args[0]) and isinstance(output, Tensor) and output.dim() == 2:
                self.pooled.append(name)

        return hook

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
