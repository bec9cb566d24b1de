"""Objects named in YAML by class path, with the arguments that only the data knows filled in."""

import inspect
from importlib import import_module
from typing import Any

from lit_ft.errors import UserError, did_you_mean

OURS = "lit_ft."
"""How the paths of classes begin that a file may name unasked."""


def import_name(path: str) -> Any:
    """Imports what a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def option_defaults(target: type) -> dict[str, Any]:
    """Returns the arguments that a class takes, those handed on to its bases included, with their defaults."""
    return {name: each.default for name, each in option_parameters(target).items()}


def option_parameters(target: type) -> dict[str, inspect.Parameter]:
    """Returns the arguments that a class takes, those handed on to its bases included."""
    makers = [vars(base)["__init__"] for base in reversed(target.__mro__) if "__init__" in vars(base)]
    taken = {name: each for maker in makers for name, each in inspect.signature(maker).parameters.items()}
    return {name: each for name, each in taken.items() if name not in ("self", "args", "kwargs")}


def load_object(spec: str | dict[str, Any], homes: tuple[str, ...], known: dict[str, Any] | None = None) -> Any:
    """Makes an instance of the class that `spec` names; a function is returned as it is.

    Args:
        spec: a class path, a bare name found in one of `homes`, or `{class_path: ..., init_args: {...}}`.
        homes: modules where bare names are looked up.
        known: arguments that are passed where the class takes them and `init_args` do not give them.

    Raises:
        UserError: no such module or name, or arguments that it does not take.
    """
    if isinstance(spec, str):
        spec = {"class_path": spec}
    if unknown := set(spec) - {"class_path", "init_args"}:
        raise UserError(f"{spec}: unknown keys {sorted(unknown)}; known: class_path, init_args")
    if "class_path" not in spec:
        raise UserError(f"{spec}: no class_path")
    path, arguments = spec["class_path"], dict(spec.get("init_args") or {})
    module_name, _, name = path.rpartition(".")
    seen: list[str] = []
    for home in [module_name] if module_name else homes:
        try:
            module = import_module(home)
        except ImportError as error:
            raise UserError(f"{path!r}: {error}") from None
        if hasattr(module, name):
            break
        seen += [known_name for known_name in dir(module) if not known_name.startswith("_")]
    else:
        places = module_name or " or ".join(homes)
        raise UserError(f"{path!r}: no such name in {places}{did_you_mean(name, seen)}")
    target = getattr(module, name)
    if not inspect.isclass(target):
        if arguments:
            raise UserError(f"{path}: a function takes no init_args")
        return target
    taken = inspect.signature(target).parameters
    arguments = {key: value for key, value in (known or {}).items() if key in taken} | arguments
    try:
        return target(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
