"""Writes the reports of runs into their folders."""

from pathlib import Path

from lit_ft.pages.report import page
from lit_ft.pages.report_text import text
from lit_ft.pages.run_files import RunFiles, read_run

PAGE, TEXT = "report.html", "report.md"


def write_report(folder: Path) -> RunFiles:
    """Writes page and text of a run; returns what they are made of."""
    run = read_run(folder)
    for name, content in ((PAGE, page(run)), (TEXT, text(run))):
        working = folder / f"{name}.tmp"
        working.write_text(content, encoding="utf-8")
        working.replace(folder / name)
    return run
