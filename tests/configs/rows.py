"""Tiny local rows with the columns and features of each text classification YAML's own data set."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Sequence as SequenceFeature
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from tests.tiny import SAMPLE, texts

TRAIN, HELD_OUT = 40, 14
SHORT = 250
"""Characters that surely fit the tiny models: transformers' pipeline does not cut."""
EMOTIONS = [
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
    "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy",
    "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise",
    "neutral",
]  # fmt: skip
HINTS = ["refund", "parcel", "card", "login", "size", "cancel"]
NEWS = ["World", "Sports", "Business", "Sci/Tech"]
Rows = list[dict[str, Any]]
Metric = Callable[[np.ndarray, np.ndarray], float]


@dataclass
class Local:
    """What a YAML is run on.

    Attributes:
        overrides: options that put the local rows in the place of the YAML's own.
        text: columns of the text (and of its pair).
        label: column of the label.
        names: label names by id; none where the label is a number or a name already.
        test: the labelled rows of each test set.
        predict: the rows of each set to predict, by the name of its file.
        official: metrics that the run must have logged as `test_<name>`, recomputed here from labels and scores.
    """

    overrides: list[str]
    text: list[str]
    label: str
    names: list[str]
    test: dict[str, Rows]
    predict: dict[str, Rows]
    official: dict[str, Metric] = field(default_factory=dict)


def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(accuracy_score(labels, scores.argmax(1)))


def f1_of_second(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(f1_score(labels, scores.argmax(1), pos_label=1))


def make_rows(
    columns: Sequence[str], label: str, values: Sequence[Any], count: int, start: int, extra: dict[str, Any]
) -> Rows:
    messages = [text for text in texts() if len(text) < SHORT]
    rows = []
    for number in range(count):
        # a word that gives the label away: only a model that has learned has scores that differ from row to row
        hint = HINTS[number % max(len(values), 3)]
        picked = [messages[(start + number * len(columns) + at) % len(messages)] for at in range(len(columns))]
        row = {name: f"{hint} {hint} {message}" for name, message in zip(columns, picked, strict=True)}
        rows.append(row | {label: values[number % len(values)]} | {name: make(number) for name, make in extra.items()})
    return rows


def glue(
    folder: Path,
    columns: list[str],
    names: list[str],
    official: dict[str, Metric],
    sets: Sequence[str] = ("",),
    label: Any = None,
) -> Local:
    """GLUE's splits: labelled train and validation, a test split whose labels are all -1."""
    feature = label or ClassLabel(names=names)
    values: list[Any] = list(range(len(names))) if names else [0.0, 2.5, 5.0, 1.2, 3.8]
    features = Features({**{name: Value("string") for name in columns}, "label": feature, "idx": Value("int32")})
    hidden = [-1] if names else [-1.0]
    parts = {"train": make_rows(columns, "label", values, TRAIN, 0, {"idx": int})}
    for number, name in enumerate(sets):
        suffix = f"_{name}" if name else ""
        parts[f"validation{suffix}"] = make_rows(columns, "label", values, HELD_OUT, 100 + 50 * number, {"idx": int})
        parts[f"test{suffix}"] = make_rows(columns, "label", hidden, HELD_OUT, 200 + 50 * number, {"idx": int})
    save(folder, parts, features)
    suffixes = {name: f"_{name}" if name else "" for name in sets}
    return Local(
        ["--data.dataset_name", str(folder), "--data.dataset_config_name", "null"],
        columns,
        "label",
        names,
        {name: parts[f"validation{suffix}"] for name, suffix in suffixes.items()},
        {name or "test": parts[f"test{suffix}"] for name, suffix in suffixes.items()},
        official,
    )


def hub(
    folder: Path, parts: dict[str, Rows], label: str, feature: Any, names: list[str], official: dict[str, Metric]
) -> Local:
    """A data set with a labelled test split, which is predicted as well."""
    extra = {name: Value("string") for name in parts["train"][0] if name not in ("text", label)}
    save(folder, parts, Features({"text": Value("string"), label: feature, **extra}))
    overrides = ["--data.dataset_name", str(folder), "--data.dataset_config_name", "null"]
    test = parts["test"]
    return Local(overrides, ["text"], label, names, {"": test}, {"test": test}, official)


def save(folder: Path, parts: dict[str, Rows], features: Features) -> None:
    made = {name: Dataset.from_list(rows, features=features) for name, rows in parts.items()}
    DatasetDict(made).save_to_disk(folder)


def imdb(folder: Path) -> Local:
    parts = {
        "train": make_rows(["text"], "label", [0, 1], TRAIN, 0, {}),
        "test": make_rows(["text"], "label", [0, 1], HELD_OUT, 100, {}),
        "unsupervised": make_rows(["text"], "label", [-1], HELD_OUT, 200, {}),
    }
    for row in parts["train"][::4]:
        row["text"] = " ".join(texts()[:20])  # longer than any limit: head and tail are kept
    names = ["neg", "pos"]
    local = hub(folder, parts, "label", ClassLabel(names=names), names, {"accuracy": accuracy})
    local.overrides += ["--data.max_seq_length", "128"]  # the tiny models take 160 tokens
    return local


def go_emotions(folder: Path) -> Local:
    values = [[0], [1, 17], [27], [2, 3, 10], [4], [17, 18]]
    extra = {"id": lambda number: f"c{number}"}
    parts = {
        name: make_rows(["text"], "labels", values, count, start, extra)
        for name, count, start in (("train", TRAIN, 0), ("validation", HELD_OUT, 100), ("test", HELD_OUT, 200))
    }
    return hub(folder, parts, "labels", SequenceFeature(ClassLabel(names=EMOTIONS)), EMOTIONS, {})


def ag_news(folder: Path) -> Local:
    parts = {
        "train": make_rows(["text"], "label", [0, 1, 2, 3], TRAIN, 0, {}),
        "test": make_rows(["text"], "label", [0, 1, 2, 3], HELD_OUT, 100, {}),
    }
    return hub(folder, parts, "label", ClassLabel(names=NEWS), NEWS, {"accuracy": accuracy})


def files(folder: Path) -> Local:
    """Csv files with names for labels, as in the sample data."""
    folder.mkdir()
    parts = {"train": 2 * TRAIN, "validation": HELD_OUT, "test": HELD_OUT}  # all eight labels are in the first 80
    written: dict[str, Rows] = {}
    for name, count in parts.items():
        with (SAMPLE / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            written[name] = [row for row in csv.DictReader(file) if len(row["text"]) < SHORT][:count]
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, written[name][0])
            writer.writeheader()
            writer.writerows(written[name])
    overrides = [word for name in parts for word in (f"--data.{name}_file", str(folder / f"{name}.csv"))]
    test = written["test"]
    return Local(overrides, ["text"], "label", [], {"": test}, {"test": test}, {"accuracy": accuracy})


def quickstart(folder: Path) -> Local:
    """The shipped rows themselves, fewer of them to train on."""
    local = files(folder)
    # predict has a file of its own there
    local.overrides += ["--data.predict_file", str(folder / "test.csv")]
    return local


LOCAL: dict[str, Callable[[Path], Local]] = {
    "text_classification/quickstart": quickstart,
    "text_classification/files": files,
    "text_classification/mrpc": lambda folder: glue(
        folder,
        ["sentence1", "sentence2"],
        ["not_equivalent", "equivalent"],
        {
            "accuracy": accuracy,
            "binary_accuracy": accuracy,
            "binary_f1_score": f1_of_second,
            "combined_score": lambda labels, scores: (accuracy(labels, scores) + f1_of_second(labels, scores)) / 2,
        },
    ),
    "text_classification/cola": lambda folder: glue(
        folder,
        ["sentence"],
        ["unacceptable", "acceptable"],
        {"mcc": lambda labels, scores: float(matthews_corrcoef(labels, scores.argmax(1)))},
    ),
    "text_classification/sst2": lambda folder: glue(
        folder, ["sentence"], ["negative", "positive"], {"accuracy": accuracy}
    ),
    "text_classification/stsb": lambda folder: glue(
        folder,
        ["sentence1", "sentence2"],
        [],
        {
            "pearson": lambda labels, scores: float(pearsonr(labels, scores[:, 0]).statistic),
            "spearman": lambda labels, scores: float(spearmanr(labels, scores[:, 0]).statistic),
        },
        label=Value("float32"),
    ),
    "text_classification/mnli": lambda folder: glue(
        folder,
        ["premise", "hypothesis"],
        ["entailment", "neutral", "contradiction"],
        {"accuracy": accuracy},
        sets=("matched", "mismatched"),
    ),
    "text_classification/imdb": imdb,
    "text_classification/go_emotions": go_emotions,
    "text_classification/ag_news": ag_news,
}
