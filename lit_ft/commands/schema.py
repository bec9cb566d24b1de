"""`lit-ft schema --out FILE`: a JSON Schema of configurations, by which editors complete and check YAML."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer

import lit_ft
import lit_ft.datamodules
import lit_ft.modules
from lit_ft.callbacks import HFExport, LossGuard, PredictionWriter, RunCheckpoint

PLAIN = {str: "string", Path: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}
PARTS = {"trainer": Trainer, "checkpoint": RunCheckpoint, "export": HFExport, "predictions": PredictionWriter,
         "loss_guard": LossGuard}  # fmt: skip
"""What stands beside `model` and `data`, with the class that it is made of."""
FREE = ("optimizer", "lr_scheduler")
"""What takes any class of torch."""
NAME = "lit_ft.schema.json"


def schema(arguments: list[str] | None = None) -> Path:
    """Runs the command; returns the file that was written."""
    options = parser().parse_args(sys.argv[2:] if arguments is None else arguments)
    path = Path(options.out)
    path.write_text(json.dumps(schema_of_configs(), indent=1), encoding="utf-8")
    print(f"schema: {path}; at the top of a YAML file: # yaml-language-server: $schema={path}")
    return path


def parser() -> argparse.ArgumentParser:
    """Returns the options."""
    made = argparse.ArgumentParser("lit-ft schema", description=__doc__)
    made.add_argument("--out", default=NAME, metavar="FILE", help=f"the file to write (default {NAME})")
    return made


def schema_of_configs() -> dict[str, Any]:
    """Returns the schema of what `--config` takes."""
    wings = {
        wing: [getattr(home, name) for name in home.__all__ if not name.startswith("Transformer")]  # the bases
        for wing, home in (("model", lit_ft.modules), ("data", lit_ft.datamodules))
    }
    known = {kind.__name__: options(kind) for kinds in wings.values() for kind in kinds}
    parts = {name: options(kind) for name, kind in PARTS.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"configuration of lit_ft {lit_ft.__version__}",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{wing: one_of(kinds) for wing, kinds in wings.items()},
            **parts,
            **{name: {} for name in FREE},
            "seed_everything": {"type": ["boolean", "integer"], "description": "seed of all random numbers"},
            "ckpt_path": {"type": ["string", "null"], "description": "a file, a run's folder, last, best or auto"},
            "weights_only": {"type": ["boolean", "null"]},
            "verbose": {"type": "boolean"},
            "return_predictions": {"type": ["boolean", "null"]},
        },
        "definitions": known,
    }


def one_of(kinds: Sequence[type]) -> dict[str, Any]:
    """Returns the schema of a class and its options; of classes that are not ours nothing is known."""
    return {
        "type": ["object", "string"],
        "properties": {
            "class_path": {
                "anyOf": [{"enum": [kind.__name__ for kind in kinds]}, {"type": "string"}],
                "description": "a class of lit_ft, or your own by its import path",
            },
            "init_args": {"type": "object"},
        },
        "additionalProperties": False,
        "allOf": [
            {
                "if": {"properties": {"class_path": {"enum": names(kind)}}, "required": ["class_path"]},
                "then": {"properties": {"init_args": {"$ref": f"#/definitions/{kind.__name__}"}}},
            }
            for kind in kinds
        ],
    }


def names(kind: type) -> list[str]:
    """Returns how a class may be named in YAML."""
    return [kind.__name__, f"lit_ft.{kind.__name__}", f"{kind.__module__}.{kind.__name__}"]


def options(kind: type) -> dict[str, Any]:
    """Returns the schema of a class's options, those that it hands on to its bases included."""
    made = ArgumentParser()
    made.add_class_arguments(kind, "it")
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(_properties(made)),
    }


def _properties(made_of: ArgumentParser) -> Iterator[tuple[str, dict[str, Any]]]:
    for action in made_of._actions:
        name = (action.dest or "").removeprefix("it.")
        if not (action.dest or "").startswith("it.") or "." in name:
            continue
        made = of_type(getattr(action, "_typehint", action.type))
        if action.help and action.help is not argparse.SUPPRESS:
            made["description"] = action.help.partition(" (type:")[0]
        if isinstance(action.default, str | bool | int | float):
            made["default"] = action.default
        yield name, made


def of_type(kind: Any) -> dict[str, Any]:
    """Returns the schema of a type; of classes and what is unknown anything goes."""
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, UnionType):
        found = [of_type(each) for each in inner]
        return {} if {} in found else {"anyOf": found}
    if origin in (list, set, tuple, Sequence):
        return {"type": "array", **({"items": of_type(inner[0])} if inner and origin is not tuple else {})}
    if kind in (dict, Mapping) or origin in (dict, Mapping):
        return {"type": "object"}
    return {"type": "array"} if kind is list else {}
