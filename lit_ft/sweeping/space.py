"""What is searched: YAML as Optuna's distributions, and values as the YAML of a run."""

import copy
import math
from collections.abc import Collection, Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from lit_ft.errors import UserError, did_you_mean
from lit_ft.sweeping.options import CLASSES

KEYS = ("low", "high", "step", "log", "choices")

Space = dict[str, BaseDistribution]


def space_of(parameters: Mapping[str, Mapping[str, Any]], fractions: Collection[str]) -> Space:
    """Makes a distribution of each parameter.

    Args:
        parameters: as they stand in the YAML.
        fractions: those whose option takes fractions: `{low: 0, high: 1}` is no choice of two numbers there.

    Raises:
        UserError: a key is unknown or missing, or a value cannot be used.
    """
    return {name: _distribution(name, given, name in fractions) for name, given in parameters.items()}


def _distribution(name: str, given: Mapping[str, Any], fractional: bool) -> BaseDistribution:
    where = f"parameters.{name}"
    for key in given:
        if key not in KEYS:
            raise UserError(f"{where}: unknown key {key!r}{did_you_mean(str(key), KEYS)}; known: {', '.join(KEYS)}")
    if "choices" in given:
        if len(given) > 1:
            raise UserError(f"{where}: choices stand alone, without low, high, step or log")
        return CategoricalDistribution(_choices(where, given["choices"]))
    missing = [key for key in ("low", "high") if key not in given]
    if missing:
        raise UserError(f"{where}: no {' and no '.join(missing)}; it takes low and high, or choices")
    numbers = {key: given[key] for key in ("low", "high", "step") if given.get(key) is not None}
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{where}: {key} is {value!r}, which is no number")
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise UserError(f"{where}: log is {log!r}; it is true or false")
    whole = all(isinstance(value, int) for value in numbers.values()) and not fractional
    try:
        return IntDistribution(log=log, **numbers) if whole else FloatDistribution(log=log, **numbers)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _choices(where: str, given: Any) -> list[Any]:
    if not isinstance(given, list) or not given:
        raise UserError(f"{where}: choices is {given!r}; it is a list of values")
    for value in given:
        if value is not None and not isinstance(value, bool | int | float | str):
            raise UserError(f"{where}: {value!r} is no plain value: number, text, true, false or null")
    return given


def points(space: Space) -> list[dict[str, Any]]:
    """Returns values that try both ends of each range and every choice, few in number."""
    sizes = [len(each.choices) for each in space.values() if isinstance(each, CategoricalDistribution)]
    return [{name: _at(each, at) for name, each in space.items()} for at in range(max([2, *sizes]))]


def _at(distribution: Any, at: int) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[at % len(distribution.choices)]
    return distribution.high if at % 2 else distribution.low


def size(space: Space) -> int | None:
    """Returns how many different points there are; `None` where there is no end of them."""
    counts: list[int] = []
    for each in space.values():
        if isinstance(each, CategoricalDistribution):
            counts.append(len(each.choices))
        elif isinstance(each, IntDistribution | FloatDistribution):
            if each.step is None:
                return None
            counts.append(round((each.high - each.low) / each.step) + 1)
    return math.prod(counts)


def path_of(name: str) -> list[str]:
    """Returns where an option stands in YAML: `model.learning_rate` is `model`, `init_args`, `learning_rate`."""
    parts = name.split(".")
    if parts[0] in CLASSES and parts[1:2] != ["init_args"]:
        parts.insert(1, "init_args")
    return parts


def as_yaml(values: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values as a configuration that goes beside the run's.

    Args:
        values: by the names of the parameters.
        run: the run's configuration: an option of several keys, such as `model.peft`, is given as a whole.
    """
    made: dict[str, Any] = {}
    for name, value in values.items():
        *above, last = path_of(name)
        at, theirs = made, run
        for depth, key in enumerate(above):
            theirs = (theirs or {}).get(key) or {}
            within = depth >= (2 if above[0] in CLASSES else 1)
            at = at.setdefault(key, copy.deepcopy(theirs) if within else {})
        at[last] = value
    return made
