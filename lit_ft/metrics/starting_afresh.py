"""Empties what a module's `metrics` made, so that the same objects score other rows."""

from collections.abc import Mapping
from typing import Any


def reset(metrics: Any) -> bool:
    """Empties metrics.

    Args:
        metrics: a metric, a dict, list or tuple of some, or an object that has `reset`, as metrics have it.

    Returns:
        Whether all of them could be emptied; else others are to be made.
    """
    if callable(getattr(metrics, "reset", None)):
        metrics.reset()
        return True
    if isinstance(metrics, Mapping | list | tuple):
        inner = metrics.values() if isinstance(metrics, Mapping) else metrics
        return all(reset(each) for each in inner)
    return False
