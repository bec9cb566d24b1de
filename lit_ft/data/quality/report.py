"""What the row checks found: plain JSON for `data_report.json`, and one short table for the log."""

from collections.abc import Mapping
from io import StringIO
from typing import Any, NotRequired, TypedDict

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from lit_ft.data.reading.raw import Split

WIDTH = 110
"""Characters in a line of the table, whatever the screen: it goes to logs, too."""


class Found(TypedDict):
    """Rows of one kind in one set.

    Attributes:
        count: the rows.
        dropped: as many of them as were dropped.
        examples: names of the first few.
        rows: their numbers in the set.
        texts: how the first of them begin.
        scripts: of rows of unknown tokens, how many are written in which script.
        exact: as many of them as contradict, or are in train, character by character.
    """

    count: int
    dropped: int
    examples: list[str]
    rows: list[int]
    texts: NotRequired[list[str]]
    scripts: NotRequired[dict[str, int]]
    exact: NotRequired[int]


class SetReport(TypedDict):
    """What was found in one set.

    Attributes:
        split: `train`, `validation`, `test` or `predict`.
        name: name of the set among those of its split; `""` = the only one.
        place: the file, or data set and split.
        rows: all rows.
        kept: rows left.
        tokens_lost: tokens that are cut off the rows that are left.
        found: by kind; only kinds that there are.
    """

    split: Split
    name: str
    place: str
    rows: int
    kept: int
    tokens_lost: NotRequired[int]
    found: dict[str, Found]


class Report(TypedDict):
    """What was found in all sets.

    Attributes:
        on_bad_rows: what was done about each kind.
        meaning: what each kind that was found means.
        sets: the sets, as they were checked.
    """

    on_bad_rows: dict[str, str]
    meaning: dict[str, str]
    sets: list[SetReport]


def table(report: Mapping[str, Any]) -> str:
    """Returns what was found as a table of plain text, without the newline at its end; empty when nothing was found.

    Args:
        report: a `Report`, as it is or read from `data_report.json`.
    """
    lines = [(one, kind, found) for one in report["sets"] for kind, found in one["found"].items()]
    if not lines:
        return ""
    shown = Table(title="Rows worth a look", title_justify="left", box=SIMPLE, show_edge=False, pad_edge=False)
    for column in ("set", "kind", "rows", "dropped", "such as"):
        numbers = column in ("rows", "dropped")
        shown.add_column(column, justify="right" if numbers else "left", no_wrap=column != "such as")
    earlier = None
    for one, kind, found in lines:
        name = "/".join(filter(None, (one["split"], one["name"])))
        exact = f" ({found['exact']:,} exactly)" if "exact" in found else ""
        count = f"{found['count']:,} of {one['rows']:,}{exact}"
        dropped = f"{found['dropped']:,}" if found["dropped"] else "-"
        shown.add_row("" if one is earlier else name, kind, count, dropped, ", ".join(found["examples"][:3]))
        earlier = one
    text = StringIO()
    Console(file=text, width=WIDTH, color_system=None, markup=False, highlight=False, emoji=False).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().strip("\n").splitlines())
