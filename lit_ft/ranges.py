"""The values that options can take: numbers within a range, and words among those known."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from lit_ft.errors import UserError, did_you_mean

Range = tuple[float, float]
"""Least and greatest value; infinity itself is none."""
NOT_NEGATIVE: Range = (0.0, math.inf)
POSITIVE: Range = (math.nextafter(0, 1), math.inf)
AT_LEAST_ONE: Range = (1, math.inf)
BELOW_ONE: Range = (0.0, math.nextafter(1, 0))
BELOW_ONE_HALF: Range = (0.0, math.nextafter(0.5, 0))
SHARE: Range = (0.0, 1.0)


def check_ranges(options: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Checks the options that are there; `None` is left to whoever reads them.

    Args:
        options: by name.
        ranges: of some of them.

    Raises:
        UserError: one is out of its range, or no number.
    """
    for name, (least, most) in ranges.items():
        value = options.get(name)
        if value is None or (isinstance(value, int | float) and least <= value <= most and value < math.inf):
            continue
        from_, to = ("above 0" if 0 < least < 1e-9 else f"at least {least:g}"), ""
        if most != math.inf:
            to = f" and {'at most' if most == float(f'{most:g}') else 'below'} {most:g}"
        raise UserError(f"{name} is {value}; it must be {from_}{to}")


def check_choice(options: Mapping[str, Any], name: str, known: Collection[str | None]) -> None:
    """Checks an option that is one of some words.

    Args:
        options: by name.
        name: of the one to check.
        known: the words; `None` is among them where the option may be left open.

    Raises:
        UserError: it is another one; with the closest of them.
    """
    if (value := options[name]) not in known:
        words = [word for word in known if word is not None]
        raise UserError(f"{name} is {value!r}; choices: {', '.join(words)}{did_you_mean(str(value), words)}")
