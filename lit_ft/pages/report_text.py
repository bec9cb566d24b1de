"""The report of a run as Markdown: what fits a terminal, a pull request, a chat."""

from collections.abc import Iterable

from lit_ft.pages.report import METRIC_COLUMNS, command_line, metric_rows
from lit_ft.pages.run_files import RunFiles

WORST = 5
"""Rows that are named of each set."""


def text(run: RunFiles) -> str:
    """Returns the report."""
    made = [f"# {run.title}", "", f"- run: `{run.folder}`", f"- status: {run.status}"]
    made += [f"- `{command_line(each)}`" for each in run.commands]
    if run.final:
        made += ["", *table([METRIC_COLUMNS, ("---", "---:", "---", "---:"), *metric_rows(run)])]
    for stage, record in run.evaluations.items():
        for one in record["sets"]:
            if one["mistakes"]:
                made += ["", f"Most wrong of {' '.join(filter(None, (stage, one['name'])))}:", ""]
            for each in one["mistakes"][:WORST]:
                label = f" labelled {each['label']};" if each["label"] is not None else ""
                made.append(f"- row {each['row'] + 1}:{label} {each['said']}: {each['text']}")
    findings = run.data.get("findings", [])
    if findings:
        made += ["", "Data:", "", *(f"- {each['gravity']}: {each['what']}" for each in findings)]
    if run.versions:
        made += ["", ", ".join(f"{name} {number}" for name, number in run.versions.items())]
    return "\n".join(made) + "\n"


def table(rows: Iterable[Iterable[str]]) -> list[str]:
    """Returns the rows of a table."""
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
