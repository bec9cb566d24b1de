"""The report of a run as a page: what it scored and how sure that is, how it went, where it is wrong, on which data."""

from html import escape
from shlex import join
from typing import Any

import yaml  # type: ignore[import-untyped]

from lit_ft.data.viewing.findings import Finding
from lit_ft.pages import charts, html, preview_page
from lit_ft.pages.preview import Preview, SetPreview
from lit_ft.pages.run_files import COLUMNS, RunFiles

LOSSES = ("train_loss", "val_loss")
RATE, SPEED = ("learning_rate", "learning rate"), ("train_tokens/s", "speed")
"""Names of series, and what they are for people."""
TOGETHER = 4
"""Metrics in a chart."""
METRIC_COLUMNS = ("metric", "value", "95 of 100 such sets", "step")
"""Of the table of metrics."""
MOST_CONFUSED = 20
"""Labels of a confusion matrix."""


def page(run: RunFiles) -> str:
    """Returns the page of a run."""
    parts = [summary(run), *curves(run)]
    for stage, record in run.evaluations.items():
        parts += evaluation(run, stage, record)
    parts += [samples(run), data(run), machine(run)]
    return html.page(run.title, [part for part in parts if part])


def summary(run: RunFiles) -> str:
    """Returns what came out."""
    lines = [("run", str(run.folder)), ("status", run.status)]
    for each in run.commands:
        if each["ended"] is not None:
            lines.append((each["command"], f"{each['began']}, {each['seconds']:,.0f} s, step {each['step']:,}"))
    table = html.table(METRIC_COLUMNS, metric_rows(run)) if run.final else ""
    return html.pairs(lines) + ("<h2>metrics</h2>" + table if table else "")


def metric_rows(run: RunFiles) -> list[tuple[str, str, str, str]]:
    """Returns name, value, interval and step of each metric, those of tests first."""
    rows = []
    for name, value in run.final.items():
        step = run.step(name)
        rows.append((name, f"{value:.4f}", between(run.interval(name)), "" if step is None else f"{step:,}"))
    return rows


def between(interval: tuple[float, float] | None) -> str:
    """Returns an interval in words; empty = nobody knows."""
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def curves(run: RunFiles) -> list[str]:
    """Returns how the run went."""
    series = run.series
    losses = {name: series[name] for name in LOSSES if name in series}
    metrics = {name: each for name, each in series.items() if name.startswith("val_") and name != "val_loss"}
    inside = {name: each for name, each in metrics.items() if all(0 <= value <= 1 for _, value in each)}
    outside = {name: each for name, each in metrics.items() if name not in inside}
    made = [charts.lines(losses, "loss", dots=True)]
    for at in range(0, len(inside), TOGETHER):
        some = dict([*inside.items()][at : at + TOGETHER])
        made.append(charts.lines(some, "validation", dots=True))
    made += [charts.lines({name: each}, "validation", dots=True) for name, each in outside.items()]
    made += [charts.lines({name: series.get(name, [])}, title) for name, title in (RATE, SPEED)]
    others = [name for name in series if name.startswith("train_") and name not in (*LOSSES, SPEED[0])]
    made += [charts.lines({name: series[name]}, "training") for name in others]
    return ["<h2>course</h2>", f'<div class="charts">{"".join(made)}</div>'] if any(made) else []


def evaluation(run: RunFiles, stage: str, record: dict[str, Any]) -> list[str]:
    """Returns where the model is wrong, set by set."""
    made = []
    for one in record["sets"]:
        title = f"{stage}_{one['name']}" if len(record["sets"]) > 1 and one["name"] else stage
        made.append(f"<h2>{escape(title)}: {one['rows']:,} rows, step {record['step']:,}</h2>")
        made.append(labels(one.get("labels", [])))
        if one.get("reliability"):
            made.append(charts.reliability(one["reliability"]))
        made.append(mistakes(one["mistakes"]))
    return made


def labels(table: list[dict[str, Any]]) -> str:
    """Returns how well each label is found, and for what it is taken, or each type of question is answered."""
    if not table:
        return ""
    first, *scores = [name for name in table[0] if name in COLUMNS]
    rows = [[row[first], *(_short(row[name]) for name in scores)] for row in table]
    made = html.table([first, *scores], rows)
    predicted = [name for name in table[0] if name.startswith("predicted ")]
    if predicted and len(table) <= MOST_CONFUSED:
        counts = [[row[name] for name in predicted] for row in table]
        made += charts.confusion([row["label"] for row in table], counts)
    return made


def mistakes(found: list[dict[str, Any]]) -> str:
    """Returns the rows that are most wrong."""
    if not found:
        return ""
    made = ["<h3>most wrong: mistakes of the model, or of the labels</h3>"]
    for each in found:
        lines = [f"<b>row {each['row'] + 1}, wrong by {each['wrong']:.3g}</b>"] if each["row"] >= 0 else []
        lines += [escape(each["text"])] if each["text"] else []
        label = f"labelled {html.span('answer', each['label'])}, " if each["label"] is not None else ""
        lines.append(f"&rarr; {label}{escape(each['said'])}")
        made.append(f'<div class="row">{chr(10).join(lines)}</div>')
    return "\n".join(made)


def samples(run: RunFiles) -> str:
    """Returns generated texts, prompt by prompt, over the steps."""
    if not run.samples:
        return ""
    prompts = dict.fromkeys(each["prompt"] for each in run.samples)
    made = ["<h2>generated texts</h2>"]
    for prompt in prompts:
        texts = [each for each in run.samples if each["prompt"] == prompt]
        lines = [f"<b>step {each['step']:,}:</b> {escape(str(each['generated_text']))}" for each in texts]
        made.append(f'<div class="row">{html.span("learned", prompt)}\n{chr(10).join(lines)}</div>')
    return "\n".join(made)


def data(run: RunFiles) -> str:
    """Returns what the sets hold and what was found in them."""
    if not run.data:
        return ""
    found = [Finding(**{**each, "examples": tuple(each["examples"])}) for each in run.data["findings"]]
    preview = Preview("", [SetPreview(each, []) for each in run.data["sets"]], run.data["batches"])
    made = ["<h2>data</h2>"]
    made += [f"<h3>{escape(each.title)}</h3>{preview_page.figures(each)}" for each in preview.sets]
    if lines := preview.epoch_lines():
        made.append(f"<h3>batches</h3>{html.pairs(lines)}")
    return "\n".join([*made, preview_page.findings(found)])


def machine(run: RunFiles) -> str:
    """Returns commands, machine, versions and configuration, from which the run can be made again."""
    made = ["<h2>made by</h2>"]
    for each in run.commands:
        made.append(f"<pre>{escape(command_line(each))}</pre>")
    if run.commands:
        made.append(html.pairs([(name, str(value)) for name, value in run.commands[-1]["machine"].items()]))
    if run.versions:
        made.append(html.pairs(run.versions.items()))
    if run.config:
        text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
        made.append(f"<details><summary>config.yaml</summary><pre>{escape(text)}</pre></details>")
    return "\n".join(made)


def command_line(command: dict[str, Any]) -> str:
    """Returns the words of a command as a shell takes them."""
    first, *words = command["words"]
    return join([first.rpartition("/")[2], *words])


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
