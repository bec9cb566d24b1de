"""Which metrics generated texts are scored by, by name, and the check of their options before any data is read."""

from collections.abc import Mapping, Sequence
from inspect import signature
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_ft.errors import UserError, did_you_mean
from lit_ft.metrics.bleu import Bleu
from lit_ft.metrics.chrf import Chrf
from lit_ft.metrics.exact_match import ExactMatch, TokenF1
from lit_ft.metrics.generated_length import GeneratedLength
from lit_ft.metrics.rouge import Rouge
from lit_ft.metrics.starting_afresh import reset
from lit_ft.metrics.ter import Ter
from lit_ft.metrics.text_sums import TextMetric

TEXT_METRICS: dict[str, type[TextMetric]] = {
    "rouge": Rouge,
    "bleu": Bleu,
    "chrf": Chrf,
    "ter": Ter,
    "exact_match": ExactMatch,
    "token_f1": TokenF1,
    "generated_length": GeneratedLength,
}
"""Classes by the names that users know them by."""


def check_text_metrics(wanted: Sequence[str | Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the options of each metric by its name.

    Args:
        wanted: names, or dicts of a name to options.

    Raises:
        UserError: there is no metric of a name, it is there twice, it does not take an option or a value, or a package
            that it needs is not installed.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in wanted:
        named = {each: {}} if isinstance(each, str) else each
        if not isinstance(named, Mapping):
            raise UserError(f"metrics: {each!r} is neither a name nor a dict of a name to options")
        for name, options in named.items():
            if name not in TEXT_METRICS:
                known = ", ".join(TEXT_METRICS)
                raise UserError(f"metrics: there is no {name!r}{did_you_mean(str(name), TEXT_METRICS)}; known: {known}")
            if name in found:
                raise UserError(f"metrics: {name} is named twice: once is enough, with all its options")
            found[name] = _checked(name, options)
    for name, options in found.items():
        TEXT_METRICS[name](**options)
    return found


def text_metric_names(chosen: Mapping[str, Any]) -> list[str]:
    """Returns the names of the values that metrics return, given what `check_text_metrics` returned."""
    return [value for name, options in chosen.items() for value in TEXT_METRICS[name](**options).names]


class TextScores:
    """What generated texts are scored by.

    Args:
        chosen: what `check_text_metrics` returned.
        device: where the metrics live.

    Attributes:
        seen: whether there has been a text, also before they were emptied.
    """

    seen = False

    def __init__(self, chosen: Mapping[str, Mapping[str, Any]], device: torch.device) -> None:
        self.metrics: list[Metric] = [TEXT_METRICS[name](**options).to(device) for name, options in chosen.items()]

    def reset(self) -> None:
        """Starts afresh."""
        reset(self.metrics)

    def update(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows with `prediction`, `references` and `length`."""
        found = [[row[name] for row in rows] for name in ("prediction", "references", "length")]
        self.seen |= bool(rows)
        for metric in self.metrics if rows else ():
            metric.update(*found)

    def compute(self) -> dict[str, Tensor]:
        """Returns the scores by name; every process calls it."""
        return {name: value for metric in self.metrics for name, value in metric.compute().items()}


def _checked(name: str, options: Any) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise UserError(f"metrics: {name}: options are a dict, such as {{{name}: {{option: value}}}}; got {options!r}")
    known = signature(TEXT_METRICS[name]).parameters
    for option, value in options.items():
        if option not in known:
            there = f"its options are {', '.join(known)}" if known else "it has none"
            raise UserError(f"metrics: {name} has no option {option!r}{did_you_mean(str(option), known)}; {there}")
        _check_value(f"metrics: {name}: {option}", value, known[option].annotation)
    return dict(options)


def _check_value(where: str, value: Any, wanted: Any) -> None:
    """Checks a value against the type that stands in the class: words of a `Literal`, `bool`, `int`, `float | None`."""
    if get_origin(wanted) is Literal:
        known = get_args(wanted)
        if value not in known:
            raise UserError(f"{where} is {value!r}{did_you_mean(str(value), known)}; it can be {', '.join(known)}")
        return
    types = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
    allowed = (*types, int) if float in types else types
    # a bool is an int to Python
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in types):
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
        raise UserError(f"{where} is {value!r}; it must be of type {names}")
