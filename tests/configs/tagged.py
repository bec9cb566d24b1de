"""Local files and data sets in the place of those of each YAML of token classification."""

from collections.abc import Callable
from pathlib import Path

from datasets import DatasetDict

from tests.sentences import TAGS, as_lines, hub_rows, sentences

SPLITS = {"train": sentences(60), "validation": sentences(12, 100), "test": sentences(14, 200)}


def on_the_hub(folder: Path) -> list[str]:
    DatasetDict({name: hub_rows(rows, "ner_tags", TAGS, "tags") for name, rows in SPLITS.items()}).save_to_disk(folder)
    return ["--data.dataset_name", str(folder)]


def in_files(
    columns: list[str], extension: str, counted: bool = False, separator: str = " "
) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        folder.mkdir()
        words = []
        for name, rows in SPLITS.items():
            path = folder / f"{name}.{extension}"
            path.write_text(as_lines(rows, columns, counted, separator), encoding="utf-8")
            words += [f"--data.{name}_file", str(path)]
        return words

    return write


TAGGED: dict[str, Callable[[Path], list[str]]] = {
    "token_classification/conll2003": on_the_hub,
    "token_classification/wnut17": on_the_hub,
    "token_classification/ud_pos": in_files(
        ["tokens", "lemma", "parts", "tags", *["_"] * 5], "conllu", counted=True, separator="\t"
    ),
    "token_classification/germeval": in_files(["tokens", "tags", "parts"], "tsv", counted=True, separator="\t"),
    "token_classification/files": in_files(["tokens", "parts", "tags"], "conll"),
}
"""Writes the rows; returns options that put them in the place of the YAML's own."""
