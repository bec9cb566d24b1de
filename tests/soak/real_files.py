"""Reads public data sets in their own formats, and writes rows as YAMLs want them."""

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
Words = list[str]
SIZES = {"train": 48, "validation": 16, "test": 24}
NEWS = ["World", "Sports", "Business", "Sci/Tech"]


def cut(rows: Any, start: int = 0) -> dict[str, Rows]:
    """The first rows, as splits that share none."""
    chosen = islice(iter(rows), start, None)
    return {name: list(islice(chosen, size)) for name, size in SIZES.items()}


def no_hub(words: Words) -> Words:
    """Files in the place of a data set by name."""
    return ["--data.dataset_name=null", "--data.dataset_config_name=null", *words]


def lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from (line.rstrip("\r\n") for line in file)


def tsv(path: Path, names: list[str] | None = None) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, names, delimiter="\t", quoting=csv.QUOTE_NONE)


def jsonl(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in lines(path) if line.strip())


def news(data: Path) -> Iterator[dict[str, Any]]:
    with (data / "ag_news/train_5000_text_label.csv").open(encoding="utf-8", newline="") as file:
        yield from ({"text": text, "label": int(label)} for text, label in csv.reader(file))


def paraphrases(data: Path) -> Iterator[tuple[int, str, str]]:
    for row in tsv(data / "mrpc/msr_paraphrase_train.txt"):
        yield int(row["Quality"]), row["#1 String"], row["#2 String"]


def few() -> Words:
    return ["--data.max_train_samples=48", "--data.max_eval_samples=16", "--data.max_predict_samples=16"]


def asked(data: Path, file: str) -> Iterator[dict[str, Any]]:
    """Rows of the hub's SQuAD out of its own JSON."""
    for article in json.loads((data / "squad" / file).read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for each in paragraph["qas"]:
                answers = {
                    "text": [answer["text"] for answer in each["answers"]],
                    "answer_start": [answer["answer_start"] for answer in each["answers"]],
                }
                yield {"id": str(each["id"]), "title": article.get("title", ""), "context": paragraph["context"],
                       "question": each["question"], "answers": answers}  # fmt: skip
