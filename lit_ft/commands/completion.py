"""`lit-ft completion bash | zsh | fish | tcsh`: prints a script by which a shell completes commands and options."""

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from lit_ft.__main__ import COMMANDS
from lit_ft.cli import LitFtCLI
from lit_ft.commands.preview import PreviewCLI, Previewer
from lit_ft.errors import UserError
from lit_ft.screen import quiet

SHELLS = ("bash", "zsh", "fish", "tcsh")


class CompletionCLI(LitFtCLI):
    """The command line, with our own commands beside Lightning's, that says what it takes instead of running.

    Args:
        shell: the shell that shall complete.
    """

    trainer_kind = Previewer

    def __init__(self, shell: str) -> None:
        self.shell = shell
        super().__init__([])

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Those that take the options of a run."""
        return LitFtCLI.subcommands() | PreviewCLI.subcommands()

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> NoReturn:
        """Prints the script and ends."""
        commands = parser._subcommands_action
        for name in sorted({*COMMANDS} - self.subcommands().keys()):
            made = ArgumentParser(add_help=False)
            home = import_module(f"lit_ft.commands.{name}")
            if hasattr(home, "parser"):
                made._actions.extend(home.parser()._actions)
            commands.add_subcommand(name, made, help=(home.__doc__ or "").partition(": ")[2])
        print(parser.get_completion_script(f"shtab-{self.shell}"))
        raise SystemExit(0)


def completion(arguments: list[str] | None = None) -> None:
    """Runs the command.

    Raises:
        UserError: what makes the script is not installed.
    """
    options = parser().parse_args(sys.argv[2:] if arguments is None else arguments)
    if find_spec("shtab") is None:
        raise UserError("completion needs the package shtab: pip install 'lit-ft[completion]'")
    quiet()
    CompletionCLI(options.shell)


def parser() -> argparse.ArgumentParser:
    """Returns the options."""
    made = argparse.ArgumentParser(prog="lit-ft completion", description=__doc__)
    made.add_argument("shell", choices=SHELLS, help="the shell that shall complete")
    return made
