"""The console command `lit-ft`, and `python -m lit_ft`: what needs no Trainer starts before Lightning is imported."""

import gc
import os
import sys
from collections.abc import Callable
from importlib import import_module

from lit_ft.errors import UserError

COMMANDS = ("cache", "chat", "completion", "export", "preview", "quickstart", "report", "schema", "sweep")
"""Those beside Lightning's own; each is a function of its name in a file of its name in `lit_ft/commands`."""


def entry() -> None:
    """Runs a command: a user's error ends it with one line and exit status 2, not with a traceback."""
    # Linux hands out large tensors in pages of 2 MB instead of 4 KB: some 5 % of a step on CPUs; torch reads it once
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    gc.disable()  # what is imported stays: looking for garbage among it is an eighth of the start
    command = _command(sys.argv[1:2])
    gc.freeze()
    gc.enable()
    sys.path.insert(0, os.getcwd())  # a user's own class named in YAML, as `python -m lit_ft` finds it
    try:
        command()
    except UserError as error:
        sys.stderr.write(f"lit-ft: error: {error}\n")
        raise SystemExit(2) from None


def _command(words: list[str]) -> Callable[[], object]:
    if words and words[0] in COMMANDS:
        made: Callable[[], object] = getattr(import_module(f"lit_ft.commands.{words[0]}"), words[0])
        return made
    from lit_ft.cli import main

    return main


if __name__ == "__main__":
    entry()
