"""`lit-ft report RUN [RUN ...]`: writes the report of a run anew, from its folder alone; compares several."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lit_ft.errors import UserError
from lit_ft.pages.comparison import metrics_of, names_of, options_of, page
from lit_ft.pages.report import METRIC_COLUMNS, metric_rows
from lit_ft.pages.run_files import CONFIG, METRICS, RECORD
from lit_ft.pages.write import PAGE, write_report


def report(arguments: list[str] | None = None) -> None:
    """Runs the command.

    Raises:
        UserError: a folder is no run.
    """
    options = parser().parse_args(sys.argv[2:] if arguments is None else arguments)
    runs = [write_report(_folder(name)) for name in options.runs]
    for run in runs:
        print(f"{run.folder / PAGE}: {run.status}")
    if len(runs) == 1:
        _show(METRIC_COLUMNS, metric_rows(runs[0]))
        return
    _show(["", *names_of(runs)], [*options_of(runs), *metrics_of(runs)])
    Path(options.out).write_text(page(runs), encoding="utf-8")
    print(f"comparison: {options.out}")


def parser() -> argparse.ArgumentParser:
    """Returns the options."""
    made = argparse.ArgumentParser("lit-ft report", description=__doc__)
    made.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, such as runs/version_0")
    made.add_argument("--out", default="comparison.html", help="page that compares several runs (comparison.html)")
    return made


def _folder(name: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        raise UserError(f"{name}: no such folder; name that of a run, such as runs/version_0")
    if not any((folder / file).is_file() for file in (METRICS, CONFIG, RECORD)):
        runs = sorted(path.name for path in folder.glob("version_*"))
        hint = f"; runs in it: {', '.join(runs)}" if runs else ""
        raise UserError(f"{name}: no run has left anything here ({METRICS}, {CONFIG}){hint}")
    return folder


def _show(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
