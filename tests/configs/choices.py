"""Tiny local rows with the columns and features of each multiple choice YAML's own data set."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from tests.tiny import texts

TRAIN, HELD_OUT = 40, 14
MESSAGES = [text for text in texts() if 20 < len(text) < 60]
Rows = list[dict[str, Any]]


@dataclass
class LocalChoices:
    """What a YAML is run on.

    Attributes:
        overrides: options that put the local rows in the place of the YAML's own.
        test: the labelled rows that are tested.
        predict: the rows that are predicted, under this name.
        predict_name: of their file.
        pairs: texts of a row's choices, as a model reads them.
        label: number of the right choice.
    """

    overrides: list[str]
    test: Rows
    predict: Rows
    predict_name: str
    pairs: Callable[[dict[str, Any]], list[tuple[str, str]]]
    label: Callable[[dict[str, Any]], int]


def asked(row: int, size: int) -> tuple[str, list[str], int]:
    """A text, choices for it, and the right one, which a word gives away."""
    label = (row * 7) % size
    options = [MESSAGES[(row + 11 * at + 5) % len(MESSAGES)] for at in range(size)]
    options[label] = f"refund refund {options[label]}"
    return MESSAGES[(3 * row) % len(MESSAGES)], options, label


def in_columns(row: int, names: Sequence[str], context: str, label: str) -> dict[str, Any]:
    text, options, right = asked(row, len(names))
    return {context: text, **dict(zip(names, options, strict=True)), label: right}


ENDINGS = ["ending0", "ending1", "ending2", "ending3"]
STARTS = {"train": (0, TRAIN), "validation": (100, HELD_OUT), "test": (200, HELD_OUT)}


def splits(make: Callable[[int], dict[str, Any]]) -> dict[str, Rows]:
    return {name: [make(start + row) for row in range(size)] for name, (start, size) in STARTS.items()}


def saved(folder: Path, parts: dict[str, Rows], features: Features | None = None) -> list[str]:
    made = {name: Dataset.from_list(rows, features=features) for name, rows in parts.items()}
    DatasetDict(made).save_to_disk(folder)
    return ["--data.dataset_name", str(folder), "--data.dataset_config_name", "null"]


def swag(folder: Path) -> LocalChoices:
    parts = splits(lambda row: {**in_columns(row, ENDINGS, "sent1", "label"), "sent2": ("she", "the card")[row % 2]})
    for row in parts["test"]:
        row["label"] = -1
    strings = {name: Value("string") for name in ("sent1", *ENDINGS)}
    features = Features({**strings, "label": ClassLabel(names=list("0123")), "sent2": Value("string")})
    return LocalChoices(
        saved(folder, parts, features), parts["validation"], parts["test"], "test",
        lambda row: [(row["sent1"], f"{row['sent2']} {row[name]}") for name in ENDINGS], lambda row: row["label"],
    )  # fmt: skip


def codah(folder: Path) -> LocalChoices:
    folder.mkdir()
    parts = splits(lambda row: {"category": "x", **in_columns(row, ENDINGS, "prompt", "label")})
    for name, rows in parts.items():
        with (folder / f"{name}.tsv").open("w") as file:
            file.writelines("\t".join(map(str, row.values())) + "\n" for row in rows)
    return LocalChoices(
        [f"--data.{name}_file={folder / name}.tsv" for name in parts], parts["test"], parts["test"], "test",
        lambda row: [(row["prompt"], row[name]) for name in ENDINGS], lambda row: row["label"],
    )  # fmt: skip


def race(folder: Path) -> LocalChoices:
    def make(row: int) -> dict[str, Any]:
        text, options, label = asked(row, 4)
        question = ("what is it ?", "it is _ .")[row % 2]
        return {
            "example_id": f"{row}",
            "article": text,
            "question": question,
            "options": options,
            "answer": "ABCD"[label],
        }

    def pairs(row: dict[str, Any]) -> list[tuple[str, str]]:
        if "_" in row["question"]:  # as RACE's own code does
            return [(row["article"], row["question"].replace("_", option)) for option in row["options"]]
        return [(row["article"], row["question"] + " " + option) for option in row["options"]]

    parts = splits(make)
    overrides = [*saved(folder, parts), "--data.max_seq_length", "128"]  # the tiny models take 160 tokens
    return LocalChoices(
        overrides, parts["test"], parts["test"], "test", pairs, lambda row: ascii_uppercase.index(row["answer"])
    )


def arc(folder: Path) -> LocalChoices:
    def make(row: int) -> dict[str, Any]:
        size = (4, 4, 3, 5)[row % 4]
        text, options, label = asked(row, size)
        names = ("1 2 3 4 5" if row % 3 else "A B C D E").split()[:size]
        return {
            "id": f"{row}",
            "question": text,
            "choices": {"text": options, "label": names},
            "answerKey": names[label],
        }

    parts = splits(make)
    return LocalChoices(
        saved(folder, parts), parts["test"], parts["test"], "test",
        lambda row: [(row["question"], option) for option in row["choices"]["text"]],
        lambda row: row["choices"]["label"].index(row["answerKey"]),
    )  # fmt: skip


def files(folder: Path) -> LocalChoices:
    """COPA's columns in csv files."""
    folder.mkdir()
    names = ["choice1", "choice2"]
    kinds = ("cause", "effect")
    parts = splits(lambda row: {**in_columns(row, names, "premise", "label"), "question": kinds[row % 2]})
    for name, rows in parts.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return LocalChoices(
        [f"--data.{name}_file={folder / name}.csv" for name in parts], parts["test"], parts["test"], "test",
        lambda row: [(row["premise"], f"{row['question']} {row[name]}") for name in names],
        lambda row: row["label"],
    )  # fmt: skip


CHOICES: dict[str, Callable[[Path], LocalChoices]] = {
    "multiple_choice/swag": swag,
    "multiple_choice/codah": codah,
    "multiple_choice/race": race,
    "multiple_choice/arc": arc,
    "multiple_choice/files": files,
}
