"""Our options by the section of a YAML file that they stand in, as the classes have them."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from lit_ft.commands.schema import schema_of_configs

SECTIONS = ("trainer", "checkpoint", "export", "predictions", "loss_guard")
schema = cache(schema_of_configs)


def known(classes: Iterable[str]) -> dict[str, set[str]]:
    """Options of modules and data modules, and of what stands beside them; under "" what stands at the top."""
    properties: dict[str, Any] = schema()["properties"]
    found = {section: set(properties[section]["properties"]) for section in SECTIONS}
    found |= {"": set(properties), "model": set(), "data": set()}
    for name in classes:
        found["data" if name.endswith("DataModule") else "model"] |= set(schema()["definitions"][name]["properties"])
    return found
