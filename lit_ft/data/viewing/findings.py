"""What is worth a thought in the rows of a run before it begins: in order of gravity, with examples and the option."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lit_ft.data.quality.kinds import BadRows
from lit_ft.data.viewing.set_figures import SetFigures

Gravity = Literal["stops", "harms", "note"]

GRAVITY: dict[str, Gravity] = {
    "unlabelled": "stops", "unknown_label": "stops", "seen_in_train": "harms", "contradicting_labels": "harms",
    "unknown_tokens": "harms", "mojibake": "harms",
    "empty_text": "harms", "duplicate": "harms", "cut": "harms", "seen_in_validation": "note", "near_duplicate": "note",
    "control_characters": "note", "byte_order_mark": "note", "mixed_line_ends": "note",
}  # fmt: skip
"""How grave each kind of bad rows is, the gravest first; a task's own do harm. What is dropped is a note."""

NOW_AND_THEN, HARMLESS = ("cut", "unknown_tokens", "duplicate"), 0.01
"""Kinds that do no harm where less than this share of the rows is so."""
RARE, FEW = 0.01, 10
"""Share of the rows, and number of rows, below which a label is rare."""
WIDE = 0.3
"""Share of padding that is worth a word."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        gravity: `stops` a run, `harms` what is learned or scored, or is a `note`.
        what: it is, with the count.
        fix: what can be done about it, with the option.
        examples: some rows, with how they begin.
        rank: the gravest first, among those of one gravity.
    """

    gravity: Gravity
    what: str
    fix: str
    examples: tuple[str, ...] = ()
    rank: int = 99


def row_findings(report: Mapping[str, Any], kinds: Mapping[str, BadRows]) -> list[Finding]:
    """Says what the row checks found.

    Args:
        report: a `Report`.
        kinds: of bad rows.
    """
    made = []
    for rank, kind in enumerate([*(kind for kind in kinds if kind not in GRAVITY), *GRAVITY]):
        for one in report["sets"]:
            if (found := one["found"].get(kind)) is None:
                continue
            exact = f" ({found['exact']:,} of them exactly)" if "exact" in found else ""
            scripts = ", ".join(f"{name} {count:,}" for name, count in found.get("scripts", {}).items())
            lost = f", and lose {one['tokens_lost']:,} tokens" if kind == "cut" and one.get("tokens_lost") else ""
            title = "/".join(filter(None, (one["split"], one["name"])))
            what = f"{title}: {found['count']:,} of {one['rows']:,} rows {kinds[kind].are}{exact}{lost}"
            what += f" (scripts: {scripts})" if scripts else ""
            gravity, fix = GRAVITY.get(kind, "harms"), f"{kinds[kind].fix}, or on_bad_rows: {{{kind}: drop}}"
            if found["dropped"]:
                gravity, fix = "note", "they are dropped (on_bad_rows)"
            seldom = kind in NOW_AND_THEN and found["count"] < HARMLESS * one["rows"]
            if gravity == "stops" or seldom:  # rows without a label are no error where they are only scored
                gravity = "note"
            texts = found.get("texts", [])
            examples = [f"{place}: {text}" for place, text in zip(found["examples"], texts, strict=False)]
            made.append(Finding(gravity, what, fix, tuple(examples), rank))
    return by_gravity(made)


def label_findings(sets: Sequence[SetFigures]) -> list[Finding]:
    """Says which labels are missing or rare."""
    made: list[Finding] = []
    trained = next((one["labels"] for one in sets if one["split"] == "train"), {})
    if not trained:
        return made
    total = sum(trained.values())
    if none := [name for name, count in trained.items() if not count]:
        made.append(Finding("harms", f"train: nothing is labelled {_listed(none)}", "it cannot be learned: add rows"))
    limit = max(RARE * total, FEW)
    rare = [f"{name} ({count:,})" for name, count in trained.items() if 0 < count < limit]
    if rare and len(rare) < len(trained):
        made.append(Finding("note", f"train: rare labels: {_listed(rare)}, of {total:,}", "add rows, or weigh them up"))
    for one in sets:
        missing = [name for name, count in trained.items() if count and not one["labels"].get(name)]
        if one["split"] in ("validation", "test") and one["labels"] and missing:
            title = "/".join(filter(None, (one["split"], one["name"])))
            made.append(
                Finding("note", f"{title}: nothing is labelled {_listed(missing)}", "scores say nothing about them")
            )
    return made


def batch_findings(batches: Mapping[str, Any]) -> list[Finding]:
    """Says how much of the batches is padding, and what other orders would save."""
    if not batches or batches["padding"] < WIDE:
        return []
    grouped = batches["padding_of"]["group_by_length"]
    return [
        Finding(
            "note",
            f"train: {batches['padding']:.0%} of the places in a batch are padding",
            f"model.padding_free: auto computes none of it; data.train_sampling_strategy: group_by_length leaves "
            f"{grouped:.0%}",
        )
    ]


def by_gravity(findings: Sequence[Finding]) -> list[Finding]:
    """Returns findings, the gravest first."""
    order = ("stops", "harms", "note")
    return sorted(findings, key=lambda finding: (order.index(finding.gravity), finding.rank))


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
