"""The one error a user can cause and mend: raised early, by name, with the fix."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Input that cannot be used as it is; the message names the place and the fix.

    The command line prints the message alone, without a traceback. In Python it is an ordinary `ValueError`.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ` — did you mean 'x'?` for the closest of `known`, or an empty string when nothing is close."""
    choices = [str(choice) for choice in known]
    matches = get_close_matches(name, choices, n=1, cutoff=0.5)
    if not matches:
        by_lower = {choice.lower(): choice for choice in choices}
        matches = [by_lower[low] for low in get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)]
    return f" — did you mean {matches[0]!r}?" if matches else ""
