"""Options of every class with their defaults, as last agreed on; `python -m tests.public_surface` agrees anew.

A change of this file is a change for users: it goes into CHANGELOG.md.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import lit_ft
from lit_ft import callbacks
from lit_ft.objects import option_parameters

FILE = Path(__file__).with_suffix(".json")
BASES = ("TransformerDataModule", "TransformerModule")
CALLBACKS = ("RunCheckpoint", "HFExport", "PredictionWriter", "LossGuard")
"""Those with options of their own on the command line."""


def surface() -> dict[str, dict[str, str]]:
    """Options and defaults by class, those of a base only there, unless the default is another."""
    found = {name: _options(getattr(lit_ft, name)) for name in lit_ft.__all__ if name.endswith("Module")}
    found |= {name: _options(getattr(callbacks, name)) for name in CALLBACKS}
    for name, options in found.items():
        base = next((each for each in BASES if name.endswith(each.removeprefix("Transformer"))), "")
        if base and name != base:
            found[name] = {key: value for key, value in options.items() if found[base].get(key) != value}
    return found


def _options(kind: Any) -> dict[str, str]:
    if not issubclass(kind, lit_ft.TransformerModule | lit_ft.TransformerDataModule):  # Lightning's bases have theirs
        own = inspect.signature(vars(kind)["__init__"]).parameters
        return {name: repr(each.default) for name, each in own.items() if name not in ("self", "kwargs")}
    parameters = option_parameters(kind)
    return {name: "needed" if each.default is each.empty else repr(each.default) for name, each in parameters.items()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(surface(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
