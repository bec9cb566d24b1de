"""A preview as a page."""

from html import escape

from lit_ft.data.viewing.findings import Finding
from lit_ft.data.viewing.row_views import RowView, SequenceView
from lit_ft.pages import html
from lit_ft.pages.preview import MEANING, Preview, SetPreview, length_bars, most_of, set_lines


def page(preview: Preview) -> str:
    """Returns the page of a preview."""
    body = [*(section(each) for each in preview.sets)]
    if lines := preview.epoch_lines():
        body += ["<h2>training</h2>", html.pairs(lines)]
    legend = ", ".join(html.span(role, f"{role}: {MEANING[role]}") for role in preview.roles)
    return html.page(f"preview: {preview.title}", [findings(preview.findings), f"<p>{legend}</p>", *body])


def section(shown: SetPreview) -> str:
    """Returns what a set holds, and some of its rows."""
    made = [f"<h2>{escape(shown.title)}</h2>", figures(shown)]
    made += [row(each) for each in shown.rows]
    return "\n".join(made)


def figures(shown: SetPreview) -> str:
    """Returns what a set holds, with bars of lengths and labels."""
    made = [html.pairs(set_lines(shown.figures))]
    for title, lengths in shown.figures["lengths"].items():
        if bars := length_bars(lengths):
            made += [f"<h3>{escape(title)}</h3>", html.bars(bars, title)]
    if labels := shown.figures["labels"]:
        made += ["<h3>labels</h3>", html.bars(most_of(labels), "labels")]
    return "\n".join(made)


def findings(found: list[Finding]) -> str:
    """Returns what is worth a thought."""
    if not found:
        return "<p>Nothing was found that is worth a thought.</p>"
    items = []
    for each in found:
        examples = "".join(f"<li class=faint>{escape(example)}</li>" for example in each.examples)
        items.append(
            f"<li>{html.span(each.gravity, each.gravity)}: {escape(each.what)}<br>&rarr; {escape(each.fix)}"
            f"<ul>{examples}</ul></li>"
        )
    return f"<h2>findings</h2><ul>{''.join(items)}</ul>"


def row(shown: RowView) -> str:
    """Returns a row: its tokens by role, what is to be predicted."""
    lines = [f"<b>{escape(shown.title)}</b>"] if shown.title else []
    lines += [_part(part) for part in shown.parts]
    if shown.label is not None:
        lines.append(f"&rarr; {html.span('answer', shown.label)}")
    if shown.lost:
        lines.append(html.span("harms", f"{shown.lost:,} tokens are cut off"))
    return f'<div class="row">{chr(10).join(lines)}</div>'


def _part(part: SequenceView) -> str:
    title = f"{part.title}{' (right)' if part.right else ''}: " if part.title else ""
    tokens = [
        html.span(token.role, token.text) + (html.span("tag", token.label) if token.label is not None else "")
        for token in part.tokens
    ]
    return f"<b>{escape(title)}</b>{''.join(tokens)}"
