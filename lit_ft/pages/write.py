"""Writes files beside their places and moves them there, so that nobody finds half of one; the reports of runs."""

from pathlib import Path

from lit_ft.pages.report import page
from lit_ft.pages.report_text import text
from lit_ft.pages.run_files import RunFiles, read_run

PAGE, TEXT = "report.html", "report.md"


def write_report(folder: Path) -> RunFiles:
    """Writes page and text of a run; returns what they are made of."""
    run = read_run(folder)
    for name, content in ((PAGE, page(run)), (TEXT, text(run))):
        write_whole(folder / name, content)
    return run


def write_whole(path: Path, content: str) -> None:
    """Writes a text file, or leaves the one that is there."""
    working = path.with_name(f"{path.name}.tmp")
    working.write_text(content, encoding="utf-8")
    working.replace(path)
