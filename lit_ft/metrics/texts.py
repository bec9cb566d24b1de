"""Which metrics generated texts are scored by, by name; several references a row."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_ft.errors import UserError, did_you_mean


class ExactMatch(Metric):
    """Stub."""

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, default=torch.zeros(()), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Adds."""
        self.total += sum(p.strip() in [r.strip() for r in rs] for p, rs in zip(predictions, references, strict=True))
        self.count += len(predictions)

    def compute(self) -> dict[str, Tensor]:
        """Returns."""
        return {"exact_match": 100 * self.total / self.count}


class GeneratedLength(ExactMatch):
    """Stub."""

    def update(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Adds."""
        self.total += sum(len(p.split()) for p in predictions)
        self.count += len(predictions)

    def compute(self) -> dict[str, Tensor]:
        """Returns."""
        return {"generated_length": self.total / self.count}


TEXT_METRICS: dict[str, Any] = {"exact_match": ExactMatch, "generated_length": GeneratedLength}
"""Classes by the names that users know them by."""
NAMES: dict[str, tuple[str, ...]] = {"exact_match": ("exact_match",), "generated_length": ("generated_length",)}
"""What each of them returns."""


def check_text_metrics(wanted: Sequence[str | Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the options of each metric by its name.

    Args:
        wanted: names, or dicts of a name to options.

    Raises:
        UserError: there is no metric of a name, or it does not take an option.
    """
    found: dict[str, dict[str, Any]] = {}
    for each in wanted:
        named = {each: {}} if isinstance(each, str) else dict(each)
        for name, options in named.items():
            if name not in TEXT_METRICS:
                known = ", ".join(TEXT_METRICS)
                raise UserError(f"metrics: there is no {name!r}{did_you_mean(name, TEXT_METRICS)}; there are {known}")
            found[name] = dict(options or {})
    return found


def text_metric_names(chosen: Mapping[str, Any]) -> list[str]:
    """Returns the names of the values that metrics return."""
    return [value for name in chosen for value in NAMES[name]]
