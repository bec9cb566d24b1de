"""Whose loaders a run has: Lightning keeps a data module on its Trainer where others are given to a later run."""

from typing import Any


def serves(trainer: Any, data: Any) -> bool:
    """Says whether the loaders of a Trainer's run, the last one that began, are a data module's.

    Args:
        trainer: of Lightning; `None` = there is none.
        data: the data module.
    """
    stage = getattr(getattr(trainer, "state", None), "fn", None)
    source = getattr(getattr(trainer, f"{getattr(stage, 'value', stage)}_loop", None), "_data_source", None)
    return source is None or source.instance is None or source.instance is data


def serving(trainer: Any) -> Any:
    """Returns the data module that a run's loaders are of; `None` where others were given, or there is none."""
    data = getattr(trainer, "datamodule", None)
    return data if serves(trainer, data) else None
