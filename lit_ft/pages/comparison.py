"""Several runs side by side: what they were told otherwise, what they scored, how they went."""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from lit_ft.pages import charts, html
from lit_ft.pages.run_files import RunFiles, in_order

NOT_COMPARED = re.compile(r"(^|\.)(default_root_dir|preparation_dir|cache_dir|logger|config)($|\.)")
"""Options that say where things lie."""


def page(runs: Sequence[RunFiles]) -> str:
    """Returns the page that compares runs."""
    names = metric_names(runs)
    called = names_of(runs)
    header = ["", *called]
    told = options_of(runs)
    body = ["<h2>options that differ</h2>", html.table(header, told) if told else "<p>none</p>"]
    body += ["<h2>metrics</h2>", html.table(header, metrics_of(runs))]
    body.append('<h2>course</h2><div class="charts">')
    for name in ("train_loss", "val_loss", *(each for each in names if each != "val_loss" and each.startswith("val_"))):
        series = {own: run.series.get(name, []) for own, run in zip(called, runs, strict=True)}
        body.append(charts.lines(series, name, dots=True))
    body.append("</div>")
    for own, run in zip(called, runs, strict=True):
        body.append(f"<p>{escape(own)}: {escape(run.title)}, {escape(run.status)}</p>")
    return html.page("comparison", body)


def names_of(runs: Sequence[RunFiles]) -> list[str]:
    """Returns the folders of runs, with as many of those above as tell them apart."""
    paths = [run.folder.resolve().parts for run in runs]
    made = ["/".join(path) for path in paths]
    for depth in range(max(map(len, paths)), 0, -1):
        shorter = ["/".join(path[-depth:]) for path in paths]
        if len(set(shorter)) < len(set(made)):
            break
        made = shorter
    return made


def metric_names(runs: Sequence[RunFiles]) -> list[str]:
    """Returns the metrics that any of the runs has."""
    return in_order({name for run in runs for name in run.final})


def options_of(runs: Sequence[RunFiles]) -> list[list[str]]:
    """Returns a row for each option that differs: its name, without `init_args`, and what each run was told."""
    every = [flat(run.config) for run in runs]
    names = [name for name in dict.fromkeys(name for each in every for name in each) if not NOT_COMPARED.search(name)]
    differing = [name for name in names if len({repr(each.get(name)) for each in every}) > 1]
    return [[name, *(str(each.get(name, "")) for each in every)] for name in differing]


def metrics_of(runs: Sequence[RunFiles]) -> list[list[str]]:
    """Returns a row for each metric: its name, and what each run scored."""
    values = [run.final for run in runs]
    return [[name, *(f"{each[name]:.4f}" if name in each else "" for each in values)] for name in metric_names(runs)]


def flat(config: Any, before: str = "") -> dict[str, Any]:
    """Returns nested options by dotted names."""
    if not isinstance(config, dict) or not config:
        return {before: config}
    found: dict[str, Any] = {}
    for name, value in config.items():
        whole = before if name == "init_args" else f"{before}.{name}" if before else str(name)
        found |= flat(value, whole)
    return found
