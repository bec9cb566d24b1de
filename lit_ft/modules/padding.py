"""A LightningModule whose model skips padding, by the option `padding_free` and on the device at hand."""

import logging
from functools import cached_property
from typing import Any, Literal

from lightning.pytorch import LightningModule
from torch import nn
from transformers import PreTrainedModel

from lit_ft.errors import UserError, did_you_mean
from lit_ft.ops.dropout import fast_dropout
from lit_ft.ops.padding_free.running import PaddingFree

log = logging.getLogger("lit_ft")

DEVICES = ("cpu", "cuda")
"""Others compile for fixed shapes (XLA), or lack kernels (MPS): they pad."""


class PaddingFreeModule(LightningModule):
    """Runs the model on real tokens; see `TransformerModule`.

    Args:
        padding_free: compute on real tokens only, with the same results: `auto` (where the model can, which is said
            where it cannot), `on` (an error where it cannot) or `off` (transformers' own execution and dropout).
        kwargs: options of checkpoints.

    Attributes:
        model: the Hugging Face model, once it is built; outside of `forward` it pads as ever.
    """

    model: PreTrainedModel | None

    def __init__(self, *, padding_free: Literal["auto", "on", "off"] | bool = "auto", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_option(padding_free)

    def forward(self, **inputs: Any) -> Any:
        """Runs the Hugging Face model.

        Args:
            inputs: the keywords of its forward.
        """
        assert self.model is not None, "call build() first, or run the module in a Trainer"
        with self.without_padding:
            return self.model(**inputs)

    @cached_property
    def without_padding(self) -> PaddingFree:
        """The context in which the model skips padding; does nothing where it cannot or shall not."""
        assert self.model is not None
        return padding_free(
            self.model, check_option(self.hparams["padding_free"]), cheap_dropout=not self.hparams["torch_compile"]
        )

    def forget_padding(self) -> None:
        """Has another model tried anew."""
        self.__dict__.pop("without_padding", None)


def check_option(option: str | bool) -> str:
    """Returns `auto`, `on` or `off`; YAML reads `on` and `off` as true and false.

    Raises:
        UserError: it is none of them.
    """
    name = {True: "on", False: "off"}.get(option, option) if isinstance(option, bool) else option
    if name not in (known := ("auto", "on", "off")):
        raise UserError(f"padding_free is {option!r}; it must be auto, on or off{did_you_mean(str(option), known)}")
    return str(name)


def padding_free(model: nn.Module, option: str, cheap_dropout: bool = True) -> PaddingFree:
    """Finds out how a model skips padding, and says so where it cannot.

    Args:
        model: where it will run.
        option: `auto`, `on` or `off`.
        cheap_dropout: give it our dropout, too; compiled models have one of their own.

    Raises:
        UserError: `on`, but the model cannot.
    """
    device = next(model.parameters()).device.type
    if option == "off" or device not in DEVICES:
        free = PaddingFree(model)
        free.reason = "padding_free is off" if option == "off" else f"no padding is skipped on {device}"
        return free
    if cheap_dropout:
        fast_dropout(model)
    free = PaddingFree.of(model)
    if free.reason is not None and option == "on":
        raise UserError(f"padding_free: on: {free.reason}; set it to auto")
    if free.reason is not None:
        log.info(f"padding is computed: {free.reason}")
    return free
