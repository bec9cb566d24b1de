"""Sentences of tagged words, and the files that they stand in: CoNLL-2003's, CoNLL-U's, GermEval's layouts."""

import random
from typing import Any

from datasets import ClassLabel, Dataset, Features, Sequence, Value

Rows = list[dict[str, Any]]

NAMES = {
    "PER": [["Ada"], ["Peter", "Pan"], ["Mary", "Ann", "Smith"]],
    "LOC": [["Berlin"], ["New", "York"], ["Lisbon"]],
    "ORG": [["Acme"], ["Bank", "of", "Spain"]],
}
PLAIN = ["the", "order", "parcel", "went", "to", "with", "late", "was", "sent", "paid", "please", "and", "12", ".", ","]
TYPES = sorted(NAMES)
TAGS = ["O", *(f"{prefix}-{kind}" for kind in TYPES for prefix in "BI")]
PARTS = ["ADJ", "NOUN", "PUNCT", "VERB"]


def sentences(count: int, start: int = 0, length: int = 12) -> Rows:
    """Rows with `tokens`, `tags` (IOB2) and `parts` (plain tags); entities of a type may touch."""
    rows = []
    for number in range(start, start + count):
        rng = random.Random(number)
        tokens: list[str] = []
        tags: list[str] = []
        while len(tokens) < rng.randint(length // 2, length):
            if rng.random() < 0.35:
                kind = rng.choice(TYPES)
                name = rng.choice(NAMES[kind])
                tokens += name
                tags += [f"B-{kind}", *[f"I-{kind}"] * (len(name) - 1)]
            else:
                tokens.append(rng.choice(PLAIN))
                tags.append("O")
        parts = ["PUNCT" if word in ".," else PARTS[len(word) % 2] if word.islower() else "VERB" for word in tokens]
        rows.append({"id": f"s{number}", "tokens": tokens, "tags": tags, "parts": parts})
    return rows


def as_lines(rows: Rows, columns: list[str], counted: bool = False, separator: str = " ") -> str:
    """A word a line: the named columns in their order (`_` = a blank), behind the word's number where it is counted."""
    text = ""
    for row in rows:
        text += f"# id = {row['id']}\n"
        for number, cells in enumerate(
            zip(*(row.get(name, ["_"] * len(row["tokens"])) for name in columns), strict=True)
        ):
            text += separator.join([*([str(number + 1)] if counted else []), *cells]) + "\n"
        text += "\n"
    return text


def as_spans(row: dict[str, Any], key: str = "label") -> dict[str, Any]:
    """The same row as a text and the characters of its entities."""
    text, spans, at = " ".join(row["tokens"]), [], 0
    for word, tag in zip(row["tokens"], row["tags"], strict=True):
        if tag.startswith("B"):
            spans.append({"start": at, "end": at + len(word), key: tag[2:]})
        elif tag.startswith("I"):
            spans[-1]["end"] = at + len(word)
        at += len(word) + 1
    return {"text": text, "entities": spans}


def hub_rows(rows: Rows, column: str, names: list[str], source: str) -> Dataset:
    """Rows as the hub's data sets have them, tags as ids that carry their names."""
    features = Features(
        {"id": Value("string"), "tokens": Sequence(Value("string")), column: Sequence(ClassLabel(names=names))}
    )
    made = [
        {"id": row["id"], "tokens": row["tokens"], column: [names.index(tag) for tag in row[source]]} for row in rows
    ]
    return Dataset.from_list(made, features=features)
