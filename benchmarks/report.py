"""A benchmark's result as Markdown and as a bar chart (SVG, written by hand: no plotting library needed)."""

from html import escape
from typing import Any

BAR, LINE, LEFT, WIDTH = 380, 22, 250, 860
"""Longest bar, line height, width of the names and of the whole chart, in pixels."""


def number(value: float) -> str:
    """Writes a number to three or four figures, as people read it."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(content: dict[str, Any]) -> str:
    """Writes a result's checks, table, notes and environment.

    Args:
        content: what `harness.Report.write` puts into the JSON file.
    """
    lines = [f"# {content['benchmark']}", "", *(f"- checked: {check}" for check in content["checks"]), ""]
    lines += ["| | | median | min - max | first / this: median (min - max) |", "|---|---|---:|---:|---:|"]
    for comparison in content["comparisons"]:
        what = f"{comparison['what']}, {comparison['unit']} ({comparison['better']} is better)"
        for name, values in comparison["contestants"].items():
            ratio = comparison["ratios"].get(name)
            times = f"{ratio['median']:.2f}x ({ratio['min']:.2f} - {ratio['max']:.2f})" if ratio else ""
            spread = f"{number(values['min'])} - {number(values['max'])}"
            lines.append(f"| {what} | {name} | {number(values['median'])} | {spread} | {times} |")
            what = ""
    lines += ["", "The last column says how many times better the first contestant is, round by round.", ""]
    lines += [f"- {note}" for note in content["notes"]]
    lines += ["", f"Options: {_pairs(content['options'])}", "", f"Environment: {_pairs(content['environment'])}", ""]
    return "\n".join(lines)


def draw(content: dict[str, Any]) -> str:
    """Draws the medians as bars, with a line from least to greatest; each quantity has a scale of its own."""
    parts, y = [], 34
    for comparison in content["comparisons"]:
        title = f"{comparison['what']}, {comparison['unit']} ({comparison['better']} is better)"
        parts.append(f'<text x="10" y="{y}" font-weight="bold">{escape(title)}</text>')
        greatest = max(values["max"] for values in comparison["contestants"].values()) or 1.0
        for place, (name, values) in enumerate(comparison["contestants"].items()):
            y += LINE
            ends = {which: LEFT + BAR * values[which] / greatest for which in ("median", "min", "max")}
            colour, middle = "#2b6cb0" if place == 0 else "#a0aec0", y - 5
            parts += [
                f'<text x="{LEFT - 8}" y="{y}" text-anchor="end">{escape(name)}</text>',
                f'<rect x="{LEFT}" y="{y - 13}" width="{ends["median"] - LEFT:.1f}" height="16" fill="{colour}"/>',
                f'<path d="M{ends["min"]:.1f} {middle}H{ends["max"]:.1f}" stroke="#1a202c"/>',
                f'<text x="{ends["max"] + 8:.1f}" y="{y}">{number(values["median"])}{_times(comparison, name)}</text>',
            ]
        y += 2 * LINE
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" font-family="sans-serif" font-size="13">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="white"/>', *parts, "</svg>", ""])


def _times(comparison: dict[str, Any], name: str) -> str:
    ratio = comparison["ratios"].get(name)
    return f" ({ratio['median']:.2f}x)" if ratio else ""


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, [], {}))
