"""The one error a user can cause and mend: raised early, by name, with the fix."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Input that cannot be used as it is; the message names the place and the fix.

    The command line prints the message alone, without a traceback. In Python it is an ordinary `ValueError`.

    Args:
        message: what was found where, and the fix.
    """

    def __init__(self, message: str) -> None:
        # a loader's worker hands its error on as text, the traceback before it
        super().__init__(message.rpartition(f"{__name__}.UserError: ")[2].strip())


class RowError(UserError):
    """A row that cannot be used, found where only its number in a batch is known.

    Args:
        row: number of the row in its batch, from 0.
        reason: what is wrong with it.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row + 1}, {reason}")
        self.row, self.reason = row, reason

    def at(self, where: Callable[[int], str]) -> UserError:
        """Returns the error with the row's place; `where` names a row by its number in the batch."""
        return UserError(f"{where(self.row)}, {self.reason}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ` — did you mean 'x'?` for the closest of `known`, or an empty string when nothing is close."""
    choices = [str(choice) for choice in known]
    matches = get_close_matches(name, choices, n=1, cutoff=0.5)
    if not matches:
        by_lower = {choice.lower(): choice for choice in choices}
        matches = [by_lower[low] for low in get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)]
    return f" — did you mean {matches[0]!r}?" if matches else ""
