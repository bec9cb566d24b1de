"""Thresholds that are a number by option, else what the model's configuration keeps: `auto` finds it in training."""

from typing import Any

from transformers import PreTrainedConfig

from lit_ft.errors import UserError


def check_threshold(name: str, given: Any) -> None:
    """Makes sure that an option is a number or `auto`; `None` is left to whoever reads it.

    Raises:
        UserError: it is another word.
    """
    if isinstance(given, str) and given != "auto":
        raise UserError(f"{name} is {given!r}; it must be a number or auto")


def threshold_of(given: Any, config: PreTrainedConfig, key: str, usual: float) -> float:
    """Returns the option where it is a number, else what the configuration has, else the usual one.

    Args:
        given: the option.
        config: of the model.
        key: what the configuration calls it.
        usual: where it has none.
    """
    return float(given if isinstance(given, int | float) else getattr(config, key, usual))
