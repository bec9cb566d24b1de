"""Learning-rate schedules by transformers' names, in optimizer steps."""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_ft.errors import UserError, did_you_mean

DEFAULT = "linear"


def warmup_steps(num_warmup_steps: int, warmup_ratio: float, num_training_steps: int) -> int:
    """Returns the steps of warmup: as given, else the ratio of all steps, rounded up (as in TrainingArguments).

    Raises:
        UserError: warmup would be longer than training.
    """
    steps = num_warmup_steps or math.ceil(num_training_steps * warmup_ratio)
    if steps > num_training_steps:
        raise UserError(
            f"warmup of {steps} steps is longer than the training of {num_training_steps} optimizer steps: "
            "lower num_warmup_steps (or use warmup_ratio)"
        )
    return steps


def check_schedule(name: str) -> None:
    """Raises a `UserError` with the closest name when there is no such schedule."""
    if name == DEFAULT:
        return
    from transformers import SchedulerType  # the file that it is in imports PEFT where that is installed: a second

    known = [kind.value for kind in SchedulerType]
    if name not in known:
        raise UserError(f"unknown lr_scheduler_type {name!r}; known: {known}{did_you_mean(name, known)}")


def apply_options(optimizer: Optimizer, scheduler: Any, groups: list[dict[str, Any]], **options: Any) -> None:
    """Gives a restored optimizer and schedule the values asked for now; the same values change nothing.

    Args:
        optimizer: the optimizer, its groups in the order of `groups`.
        scheduler: its schedule; only those that multiply a base rate (all of `get_scheduler` but `reduce_lr_on_plateau`
            and the annealing ones) take another learning rate.
        groups: what `parameter_groups` returns for the options asked for.
        options: further values of every group.
    """
    for group, asked in zip(optimizer.param_groups, groups, strict=True):
        group.update(weight_decay=asked["weight_decay"], initial_lr=asked["lr"], **options)
    if isinstance(scheduler, LambdaLR):
        scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
            group["lr"] = rate


def schedule(
    name: str, optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int, kwargs: dict[str, Any] | None
) -> Any:
    """Makes one of transformers' schedules.

    Raises:
        UserError: arguments that the schedule does not take, or lacks.
    """
    from transformers import get_scheduler

    try:
        return get_scheduler(name, optimizer, num_warmup_steps, num_training_steps, kwargs or {})
    except (TypeError, ValueError) as error:
        raise UserError(f"lr_scheduler_type {name!r}: {error}") from None
