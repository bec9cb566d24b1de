"""A preview on the screen, by rich."""

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lit_ft.data.viewing.findings import Finding
from lit_ft.data.viewing.row_views import RowView, SequenceView
from lit_ft.pages.preview import MEANING, Preview, SetPreview, length_bars, most_of, set_lines

STYLES = {
    "plain": "", "special": "dim cyan", "learned": "green", "masked": "bold magenta", "answer": "bold green",
    "ignored": "dim",
}  # fmt: skip
GRAVITY = {"stops": "bold red", "harms": "yellow", "note": "cyan"}
MOST = 250
"""Tokens of a part that are shown."""
WIDTH = 30
"""Characters of the longest bar."""


def show(preview: Preview, console: Console) -> None:
    """Prints a preview."""
    console.rule(f"[bold]{preview.title}")
    for each in preview.sets:
        console.print(set_table(each))
        for row in each.rows:
            console.print(row_panel(row))
    if legend := [Text(f"{role}: {MEANING[role]}", STYLES[role]) for role in preview.roles]:
        console.print(Text("  ").join(legend))
    if lines := preview.epoch_lines():
        console.print(_pairs("training", lines))
    show_findings(preview.findings, console)


def show_findings(findings: list[Finding], console: Console) -> None:
    """Prints what is worth a thought."""
    console.print()
    if not findings:
        console.print("nothing was found that is worth a thought", style="green")
    for finding in findings:
        lines = [Text(f"{finding.gravity}: ", GRAVITY[finding.gravity]) + Text(finding.what)]
        lines += [Text(f"    {example}", "dim") for example in finding.examples]
        console.print(Text("\n").join([*lines, Text(f"    -> {finding.fix}")]), soft_wrap=True)


def set_table(shown: SetPreview) -> Table:
    """Returns what a set holds, with bars of lengths and labels."""
    table = _pairs(shown.title, set_lines(shown.figures))
    for title, lengths in shown.figures["lengths"].items():
        if bars := length_bars(lengths):
            table.add_row(f"{title}, bars", _bars(bars))
    if labels := shown.figures["labels"]:
        table.add_row("labels", _bars(most_of(labels)))
    return table


def row_panel(row: RowView) -> Panel:
    """Returns a row: its tokens by role, what is to be predicted."""
    parts = [_part(part) for part in row.parts]
    if row.label is not None:
        parts.append(Text("-> ") + Text(row.label, "bold green"))
    if row.lost:
        parts.append(Text(f"{row.lost:,} tokens are cut off", "yellow"))
    return Panel(Group(*parts), title=row.title, title_align="left", border_style="dim")


def _part(part: SequenceView) -> Text:
    made = Text()
    if part.title:
        made.append(f"{part.title}{' (right)' if part.right else ''}: ", "bold green" if part.right else "bold")
    for token in part.tokens[:MOST]:
        made.append(token.text, STYLES[token.role])
        if token.label is not None:
            made.append(f"<{token.label}>", "yellow")
    if len(part.tokens) > MOST:
        made.append(f" ... {len(part.tokens) - MOST:,} more tokens", "dim italic")
    return made


def _pairs(title: str, lines: list[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(name, Text(value))
    return table


def _bars(counts: list[tuple[str, int]]) -> Text:
    """Returns a line with a bar for each count."""
    top = max((count for _, count in counts), default=0) or 1
    width = max(len(name) for name, _ in counts)
    numbers = max(len(f"{count:,}") for _, count in counts)
    lines = [f"{name:<{width}} {count:>{numbers},} {'█' * round(WIDTH * count / top)}" for name, count in counts]
    return Text("\n".join(lines))
