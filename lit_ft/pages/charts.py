"""Line charts and tables of counts as SVG, in the page's own colours."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from lit_ft.pages.run_files import Series

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 470, 220, 54, 26, 10
COLOURS = ("--one", "--two", "--three", "--four", "--five", "--six")
POINTS = 600
"""Points of a line, at most; of more each stands for several."""


def lines(series: Mapping[str, Series], title: str, dots: bool = False) -> str:
    """Returns a chart of values over steps, a line for each name.

    Args:
        series: steps and values.
        title: what is shown.
        dots: mark each point, where they are few.
    """
    shown = {name: thinned(each) for name, each in series.items() if each}
    if not shown:
        return ""
    steps = [step for each in shown.values() for step, _ in each]
    values = [value for each in shown.values() for _, value in each]
    first, last = min(steps), max(max(steps), min(steps) + 1)
    marks = ticks(min(values), max(values))
    low, high = min(marks[0], min(values)), max(marks[-1], max(values))
    made = []

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 12) * (step - first) / (last - first)
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))
        return round(x, 1), round(y, 1)

    for mark in marks:
        _, y = place(first, mark)
        made.append(
            f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 12}" y1="{y}" y2="{y}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{mark:.4g}</text>'
        )
    for mark in ticks(first, last, whole=True):
        if first <= mark <= last:
            x, _ = place(mark, low)
            made.append(f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="middle">{mark:,.0f}</text>')
    for number, each in enumerate(shown.values()):
        colour = f"var({COLOURS[number % len(COLOURS)]})"
        places = [place(step, value) for step, value in each]
        path = " ".join(f"{x},{y}" for x, y in places)
        made.append(f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:1.6"/>')
        if dots and len(places) <= 60:
            made += [f'<circle cx="{x}" cy="{y}" r="2.6" style="fill:{colour}"/>' for x, y in places]
    legend = "".join(
        f'<span style="color:var({COLOURS[number % len(COLOURS)]})">&#9632; {escape(name)}</span> '
        for number, name in enumerate(shown)
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
    picture = f'<svg {size} role="img" aria-label="{escape(title)}">{"".join(made)}</svg>'
    return f"<figure><figcaption>{escape(title)}: {legend}</figcaption>{picture}</figure>"


def thinned(series: Series) -> Series:
    """Returns a series of few points, each the mean of those that it stands for."""
    size = -(-len(series) // POINTS)
    groups = [series[at : at + size] for at in range(0, len(series), size or 1)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Returns some five round numbers from about `low` to about `high`, ascending, at least two."""
    if high <= low:
        high = low + (abs(low) * 0.1 or 1.0)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    step = max(math.ceil(step), 1) if whole else step
    begin = math.floor(low / step)
    count = math.ceil(high / step) - begin
    return [round((begin + at) * step, 12) for at in range(max(count, 1) + 1)]


def confusion(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Returns a table of how often each label (rows) is taken for which (columns), the more the darker."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = []
    for name, row in zip(names, counts, strict=True):
        total = sum(row) or 1
        cells = "".join(
            f'<td class=number style="background:color-mix(in srgb, var(--one) {round(70 * count / total)}%, '
            f'transparent)">{count:,}</td>'
            for count in row
        )
        body.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f'<div class="scroll"><table><tr><th>label \\ predicted</th>{head}</tr>{"".join(body)}</table></div>'


def reliability(bins: Sequence[Sequence[float]]) -> str:
    """Returns a chart of how often predictions are right by how sure they are.

    Args:
        bins: of each bin the mean confidence, the share that is right, and the rows.
    """
    size, made = 240, ['<line class="axis" x1="40" y1="210" x2="240" y2="10"/>']
    most = max((rows for _, _, rows in bins), default=0) or 1
    for sure, right, rows in bins:
        x, y = 40 + 200 * sure, 210 - 200 * right
        radius = 2 + 7 * math.sqrt(rows / most)
        title = f"{rows:,.0f} rows: {sure:.0%} sure, {right:.0%} right"
        made.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" style="fill:var(--one);opacity:.75">'
            f"<title>{title}</title></circle>"
        )
    for share in (0, 0.5, 1):
        made.append(f'<text x="35" y="{214 - 200 * share}" text-anchor="end">{share:.0%}</text>')
        made.append(f'<text x="{40 + 200 * share}" y="228" text-anchor="middle">{share:.0%}</text>')
    caption = "right (up) by how sure (across); on the line is as it should be"
    picture = f'<svg viewBox="0 0 {size + 20} {size}" width="{size + 20}" role="img" aria-label="{caption}">'
    return f"<figure><figcaption>{caption}</figcaption>{picture}{''.join(made)}</svg></figure>"
