"""Pages of HTML in one file: no script, nothing fetched, dark and light as the reader has it, narrow and wide."""

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { --back: #fff; --front: #1c2126; --faint: #68727d; --line: #d9dee3; --panel: #f6f8fa; --one: #2463b4;
  --two: #b3541e; --three: #2f7d4f; --four: #8a3fa0; --five: #9a7b00; --six: #0f7c86; --bad: #b3261e; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --back: #14181c; --front: #e3e7eb; --faint: #96a1ac; --line: #333b43;
  --panel: #1c2227; --one: #75aef5; --two: #f0976a; --three: #75cf96; --four: #d79bea; --five: #e3c552; --six: #5fcfda;
  --bad: #ff8a80; --warn: #f0c060; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--back); color: var(--front);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
.scroll { overflow-x: auto; margin-bottom: 1rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: .8rem 1.5rem; }
figure { margin: 0; } figcaption { font-size: 13px; min-height: 1.5em; }
figcaption span { white-space: nowrap; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top; }
th { color: var(--faint); font-weight: normal; white-space: nowrap; }
td.number { text-align: right; white-space: nowrap; } .pairs td { overflow-wrap: anywhere; }
.row { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem;
  margin: .5rem 0; white-space: pre-wrap; font-family: ui-monospace, monospace; font-size: 13px; }
.row b, .faint { color: var(--faint); font-weight: normal; }
.special { color: var(--six); opacity: .7; } .ignored { color: var(--faint); }
.learned { color: var(--three); } .masked { color: var(--four); font-weight: bold; }
.answer { color: var(--three); font-weight: bold; text-decoration: underline; }
.tag { color: var(--five); font-size: 11px; vertical-align: super; }
.stops { color: var(--bad); } .harms { color: var(--warn); } .note { color: var(--one); }
.bar { fill: var(--one); } .axis { stroke: var(--line); } svg text { fill: var(--faint); font-size: 11px; }
svg { max-width: 100%; height: auto; } ul { padding-left: 1.2rem; } code { font-size: 13px; }
pre { background: var(--panel); padding: .6rem; overflow-x: auto; font-size: 12px; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """Returns a whole page.

    Args:
        title: its heading, plain text.
        body: HTML.
    """
    name, content = escape(title), "\n".join(body)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title><style>{STYLE}</style></head>
<body><h1>{name}</h1>
{content}
</body></html>
"""


def span(kind: str, text: str) -> str:
    """Returns plain text of a kind that has a style."""
    return f'<span class="{kind}">{escape(text)}</span>'


def pairs(lines: Iterable[tuple[str, str]]) -> str:
    """Returns a table of names and values, plain text."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in lines)
    return f'<table class="pairs">{rows}</table>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of plain text; what is a number is set to the right."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(text: str) -> str:
    number = text.lstrip("-").replace(",", "").replace(".", "").replace("%", "").isdigit()
    return f"<td{' class=number' if number else ''}>{escape(text)}</td>"


def bars(counts: Sequence[tuple[str, int]], title: str) -> str:
    """Returns a picture with a bar for each count, one below the other.

    Args:
        counts: name and count of each.
        title: what a reader who sees no pictures is told.
    """
    top = max((count for _, count in counts), default=0) or 1
    left = 12 + 7 * max((min(len(name), 30) for name, _ in counts), default=0)
    made = []
    for at, (name, count) in enumerate(counts):
        y, width = 18 * at, 320 * count / top
        shown = name if len(name) <= 30 else name[:29] + "…"
        made.append(
            f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{escape(shown)}</text>'
            f'<rect class="bar" x="{left}" y="{y + 2}" width="{width:.1f}" height="13"/>'
            f'<text x="{left + width + 5:.1f}" y="{y + 12}">{count:,}</text>'
        )
    size = f'viewBox="0 0 {left + 400} {18 * len(counts) + 4}" width="{left + 400}"'
    return f'<svg {size} role="img" aria-label="{escape(title)}">{"".join(made)}</svg>'
