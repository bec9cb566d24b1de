"""Prompts beside new tokens, where a model has so many positions and no more: the end of what is too long is kept."""

import logging

import torch
from torch import Tensor

from lit_ft.data.features.ragged import Array
from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")


def check_room(prompts: Array, room: int | None, new: int) -> None:
    """Says how many prompts will be cut.

    Args:
        prompts: their lengths, `[n]`.
        room: most tokens of a prompt; `None` = any number.
        new: how many tokens are to come.

    Raises:
        UserError: there is room for none.
    """
    if room is None or room >= max(prompts.max(), 1):
        return
    if room < 1:
        raise UserError(
            f"generation: max_new_tokens {new} leaves no room for a prompt in the model's {room + new} positions: "
            "lower it"
        )
    log.info(
        f"{int((prompts > room).sum())} prompts are longer than the {room} tokens that the model takes beside "
        f"{new} new ones: their end is kept (lower generation.max_new_tokens)"
    )


def ends_of(prompts: dict[str, Tensor], room: int | None, begin: list[int]) -> dict[str, Tensor]:
    """Returns prompts that have room.

    Args:
        prompts: `input_ids` and `attention_mask`, padded on the left, `[batch, seq]`.
        room: most tokens of a prompt; `None` = any number.
        begin: tokens that every text begins with, one that is cut, too.
    """
    ids = prompts["input_ids"]
    if room is None or ids.shape[1] <= room:
        return prompts
    shorter = {name: value[:, -room:].clone() for name, value in prompts.items()}  # with the ends of all prompts
    cut = prompts["attention_mask"][:, -room - 1].bool()
    shorter["input_ids"][cut, : len(begin)] = torch.tensor(begin, device=ids.device, dtype=ids.dtype)
    return shorter
