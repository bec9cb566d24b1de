"""What a preview says: rows of each set, figures, findings; plain data that the screen and the page both show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lit_ft.data.viewing.findings import Finding, by_gravity
from lit_ft.data.viewing.row_views import RowView
from lit_ft.data.viewing.set_figures import Lengths, SetFigures

MEANING = {
    "special": "put in by the tokenizer", "learned": "predicted", "masked": "to be guessed", "answer": "the answer",
    "ignored": "read, not predicted",
}  # fmt: skip
"""What the roles of tokens mean, where that has to be said."""
BARS = 24
"""Most labels that have a bar of their own."""


@dataclass
class SetPreview:
    """One set.

    Attributes:
        figures: what it holds.
        rows: some of them.
    """

    figures: SetFigures
    rows: list[RowView]

    @property
    def title(self) -> str:
        """Its split, and its name if it has one."""
        return "/".join(filter(None, (self.figures["split"], self.figures["name"])))


@dataclass
class Preview:
    """All that is shown.

    Attributes:
        title: the task, and where it comes from.
        sets: the sets.
        batches: what the batches of an epoch hold; empty where nobody knows.
        findings: what is worth a thought.
        epochs: how many there will be; `None` = by steps, or no end.
        token_seconds: what a token of a step takes, where that was measured.
    """

    title: str
    sets: list[SetPreview] = field(default_factory=list)
    batches: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    epochs: int | None = None
    token_seconds: float | None = None

    @property
    def roles(self) -> list[str]:
        """The roles of tokens that are shown and have to be explained."""
        parts = [part for each in self.sets for row in each.rows for part in row.parts]
        there = {token.role for part in parts for token in part.tokens}
        return [role for role in MEANING if role in there]

    def add(self, findings: Sequence[Finding]) -> None:
        """Adds findings, the gravest first."""
        self.findings = by_gravity([*self.findings, *findings])

    def epoch_lines(self) -> list[tuple[str, str]]:
        """Returns names and values of what an epoch is."""
        if not self.batches:
            return []
        of = self.batches["padding_of"]
        lines = [
            ("optimizer steps an epoch", f"{self.batches['steps']:,}"),
            ("rows a step", f"{self.batches['rows']:,}"),
            ("real tokens an epoch", f"{self.batches['tokens']:,}"),
            (
                "padding in the batches",
                f"{self.batches['padding']:.1%} (random {of['random']:.1%}, grouped by length "
                f"{of['group_by_length']:.1%}; padding_free computes none)",
            ),
        ]
        if self.token_seconds is not None:
            seconds = self.token_seconds * self.batches["tokens"]
            whole = f", {duration(seconds * self.epochs)} for {self.epochs} epochs" if self.epochs else ""
            lines.append(("time of an epoch, as measured", f"{duration(seconds)}{whole}, validation not counted"))
        return lines


def set_lines(figures: SetFigures) -> list[tuple[str, str]]:
    """Returns names and values of what a set holds."""
    kept = "" if figures["kept"] == figures["rows"] else f", {figures['kept']:,} of them kept"
    features = "" if figures["features"] == figures["kept"] else f", {figures['features']:,} features"
    lines = [("from", figures["place"]), ("rows", f"{figures['rows']:,}{kept}{features}")]
    for title, each in figures["lengths"].items():
        spread = ", ".join(f"{percent} % {value:,}" for percent, value in each["percentiles"].items())
        lines.append((title, f"{each['least']:,} to {each['most']:,}, mean {each['mean']:,}, {spread}"))
    if figures["cut"]:
        lines.append(("cut", f"{figures['cut']:,} rows lose {figures['tokens_lost']:,} tokens"))
    if figures["unknown"]:
        total = next(iter(figures["lengths"].values()))["total"]
        lines.append(("unknown tokens", f"{figures['unknown']:,} of {total:,}"))
    return lines


def length_bars(lengths: Lengths) -> list[tuple[str, int]]:
    """Returns how many features are how long; nothing where most have one length."""
    edges = lengths["edges"]
    if lengths["percentiles"]["50"] == lengths["most"]:
        return []  # full blocks
    return [
        (f"{first:,}" if after == first + 1 else f"{first:,}-{after - 1:,}", count)
        for first, after, count in zip(edges, edges[1:], lengths["counts"], strict=False)
    ]


def most_of(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Returns counts by name; of many the greatest, and the sum of the others."""
    if len(counts) <= BARS:
        return [*counts.items()]
    ranked = sorted(counts.items(), key=lambda each: -each[1])
    rest = ranked[BARS - 1 :]
    return [*ranked[: BARS - 1], (f"{len(rest):,} others", sum(count for _, count in rest))]


def duration(seconds: float) -> str:
    """Returns a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
