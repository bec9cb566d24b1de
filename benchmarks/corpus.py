"""Text of any length made of the lines of one file, what models read it with, and blocks of it for both sides."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import common_parser

if TYPE_CHECKING:
    from datasets import Dataset

SOURCE = "package://lit_ft/sample_data/tales_train.txt"
MEAN_WORDS, SPREAD = 130, 0.8
"""Mean length of a document in words, and the spread of its logarithm: as instructions with their answers are."""


def text_parser(doc: str | None, rounds: int = 5, warmup: int = 1) -> argparse.ArgumentParser:
    """Makes a command line with the options that all benchmarks on plain text share."""
    made = common_parser(doc, rounds, warmup)
    made.add_argument("--source", default=SOURCE, help="text file whose lines are repeated and shuffled (our tales)")
    return made


def lines(source: str, seed: int) -> Iterator[str]:
    """Yields the lines of a file without end, all of them shuffled anew each time."""
    from lit_ft.data.reading.sources import resolve_path

    kept = Path(resolve_path(source)).read_text(encoding="utf-8").splitlines()
    generator = np.random.default_rng(seed)
    while True:
        for number in generator.permutation(len(kept)).tolist():
            yield kept[number]


def write_text(path: Path, source: str, megabytes: float, seed: int) -> int:
    """Writes at least so many MB (10^6 bytes) of shuffled lines, in flat memory; returns the number of lines."""
    written = count = 0
    with path.open("wb") as file:
        for line in lines(source, seed):
            if written >= megabytes * 1e6:
                return count
            written += file.write(line.encode() + b"\n")
            count += 1
    raise AssertionError("lines have no end")


def write_documents(
    path: Path, source: str, words: int, seed: int, mean: float = MEAN_WORDS, spread: float = SPREAD
) -> int:
    """Writes JSON lines of documents, `text`, with at least so many words in all; returns the number of documents."""
    generator = np.random.default_rng(seed)
    stream = (word for line in lines(source, seed) for word in line.split())
    written = count = 0
    with path.open("w", encoding="utf-8") as file:
        while written < words:
            length = max(round(float(np.exp(generator.normal(np.log(mean) - spread**2 / 2, spread)))), 1)
            file.write(json.dumps({"text": " ".join(next(stream) for _ in range(length))}) + "\n")
            written, count = written + length, count + 1
    return count


def own_model(name: str, folder: Path, auto_class: Any, seed: int, dropout: bool = True) -> str:
    """Saves a model (also a GGUF file's) with float32 weights and its tokenizer: both sides start from this folder."""
    import torch
    from training import without_dropout

    from lit_ft.data.tokenizing.texts import load_tokenizer
    from lit_ft.ops.building.models import ModelSource

    place, file = split_gguf(name)
    source = ModelSource(place, gguf_file=file)
    torch.manual_seed(seed)
    model, _ = source.build(auto_class, source.config(), False, dtype=torch.float32)
    if not dropout:
        without_dropout(model)
    model.save_pretrained(folder)
    load_tokenizer(place, gguf_file=file).save_pretrained(folder)
    return str(folder)


def split_gguf(name: str) -> tuple[str, str | None]:
    """Returns the folder and the name of a GGUF file, or a model's name as it is and `None`."""
    place, _, file = name.rpartition("/")
    return (place, file) if file.endswith(".gguf") else (name, None)


def as_dataset(batches: Any, columns: list[str], folder: Path) -> "Dataset":
    """Saves the rows of batches, `[batch, seq]`, as the Trainer takes them, and opens what was saved."""
    from datasets import Dataset, load_from_disk

    rows = [
        dict(zip(columns, values, strict=True))
        for batch in batches
        for values in zip(*(batch[name].tolist() for name in columns), strict=True)
    ]
    Dataset.from_list(rows).save_to_disk(str(folder))
    return load_from_disk(str(folder))  # type: ignore[return-value]
