"""The option `padding_free` of every module: what it asks for, on the device at hand."""

import logging

from torch import nn

from lit_ft.errors import UserError
from lit_ft.ops.dropout import fast_dropout
from lit_ft.ops.padding_free import PaddingFree

log = logging.getLogger("lit_ft")

DEVICES = ("cpu", "cuda")
"""Others compile for fixed shapes (XLA), or lack kernels (MPS): they pad."""


def padding_free(model: nn.Module, option: str) -> PaddingFree:
    """Finds out how a model skips padding, and says so where it cannot.

    Args:
        model: where it will run.
        option: `auto`, `on` or `off`.

    Raises:
        UserError: `on`, but the model cannot.
    """
    device = next(model.parameters()).device.type
    if option == "off" or device not in DEVICES:
        free = PaddingFree(model)
        free.reason = "padding_free is off" if option == "off" else f"no padding is skipped on {device}"
        return free
    fast_dropout(model)
    free = PaddingFree.of(model)
    if free.reason is not None and option == "on":
        raise UserError(f"padding_free: on: {free.reason}; set it to auto")
    if free.reason is not None:
        log.info(f"padding is computed: {free.reason}")
    return free
