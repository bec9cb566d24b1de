"""Seconds of `fit --help` against a LightningCLI of three lines, base classes and all: what our own options cost.

    python benchmarks/help_time.py

Every start is a new process. `startup.py` compares with a script that does the same work as lit_ft.
"""

import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from harness import OURS, Measured, Report, alternate, common_parser, compare, work_folder

REFERENCE = "bare LightningCLI"
BARE = """
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI

LightningCLI(LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True)
"""


def ask(command: list[str], folder: Path) -> Measured:
    """Asks for help; returns seconds by the clock and of the processor.

    Raises:
        RuntimeError: there was none.
    """
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    before, started = _processor(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command, "fit", "--help"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - started
    if done.returncode or "--trainer.max_epochs" not in done.stdout:
        raise RuntimeError(f"{' '.join(command)} fit --help ended with {done.returncode}:\n{done.stderr}")
    return {"clock": seconds, "processor": _processor() - before}


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Times and writes the report."""
    options = common_parser(__doc__).parse_args(arguments)
    report = Report("help_time", options)
    with work_folder(options) as folder:
        (folder / "bare.py").write_text(BARE)
        entries = {OURS: ["-m", "lit_ft"], REFERENCE: ["bare.py"]}
        contestants = {name: partial(ask, entry, folder) for name, entry in entries.items()}
        measured = alternate(contestants, options.rounds, options.warmup)
    report.comparisons = [
        compare(measured, "clock", "fit --help", "s", "lower"),
        compare(measured, "processor", "the same, of the processor", "s", "lower"),
    ]
    return report.write()


if __name__ == "__main__":
    main()
