"""The rows that all contestants get, lit_ft's data module on them, and the scripts' way (load_dataset, map) on them."""

import argparse
import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.utils.data import DataLoader

    from lit_ft import TextClassificationDataModule

BLOCK = 20_000
"""Rows generated at a time."""


@dataclass(frozen=True)
class Shape:
    """How long generated texts are.

    Attributes:
        mean: length in words.
        spread: of the logarithm of the length.
        longest: most words of a text.
        labels: how many; `None` = those of the packaged sample.
        tokens: mean, median and 95th percentile of the lengths in tokens of MiniLM, `max_seq_length` applied.
        max_seq_length: most tokens of a row.
        batch_size: rows of a step.
        rows: of an epoch that says something.
    """

    mean: float
    spread: float
    longest: int
    labels: int | None
    tokens: tuple[int, int, int]
    max_seq_length: int
    batch_size: int
    rows: int


MESSAGES = Shape(25, 0.5, 400, None, (35, 31, 69), 128, 32, 3200)
SHAPES = {
    "short": Shape(16.2, 0.46, 400, 2, (23, 21, 43), 128, 32, 3200),
    "intents": Shape(9.3, 0.6, 400, 77, (14, 12, 30), 128, 32, 6400),
    "long": Shape(178, 0.56, 2000, None, (228, 200, 500), 512, 16, 640),
}
"""Like sentences of SST-2; like requests to a bank (Banking77); like reviews and mails."""


@dataclass(frozen=True)
class Workload:
    """Labelled texts in a file, and what they are tokenized for.

    Attributes:
        file: the rows.
        text: column of the text.
        label: column of the label.
        model: whose tokenizer it is.
        max_seq_length: most tokens of a row.
    """

    file: Path
    text: str
    label: str
    model: str
    max_seq_length: int


def workload(options: argparse.Namespace, folder: Path, rows: int, shape: Shape = MESSAGES) -> Workload:
    """Returns the user's own file, or writes rows to a file in `folder`."""
    path = Path(options.train_file) if options.train_file else folder / f"{rows}.{options.format}"
    if not options.train_file:
        write_rows(path, rows, options.seed, options.text, options.label, shape)
    return Workload(path, options.text, options.label, options.model, options.max_seq_length)


def write_rows(
    path: Path, rows: int, seed: int, text: str = "text", label: str = "label", shape: Shape = MESSAGES
) -> None:
    """Writes made-up rows, csv or JSON lines: a pure function of `rows` and `seed`, in flat memory."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        if path.suffix == ".csv":
            table.writerow([text, label])
        for words, intent in made_up(rows, seed, shape):
            if path.suffix == ".csv":
                table.writerow([words, intent])
            else:
                file.write(json.dumps({text: words, label: intent}) + "\n")


def made_up(rows: int, seed: int, shape: Shape = MESSAGES) -> Iterator[tuple[str, str]]:
    """Yields texts of words of the packaged sample, as frequent as there, and a label drawn by chance.

    One word in thirty is two halves of others, so that the tokenizer also meets words it does not know.
    """
    import lit_ft

    lines = (Path(lit_ft.__file__).parent / "sample_data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    sample = [json.loads(line) for line in lines]
    labels = sorted({row["label"] for row in sample})
    if shape.labels is not None:
        labels = [f"intent {number}" for number in range(shape.labels)]
    words = [word for row in sample for word in row["text"].split()]
    generator = np.random.default_rng(seed)
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        logarithms = generator.normal(np.log(shape.mean) - shape.spread**2 / 2, shape.spread, size)
        lengths = np.clip(np.exp(logarithms).round(), 1, shape.longest).astype(int).tolist()
        chosen = generator.integers(len(words), size=(sum(lengths), 2)).tolist()
        rare = (generator.random(sum(lengths)) < 1 / 30).tolist()
        place = 0
        for length, intent in zip(lengths, generator.integers(len(labels), size=size).tolist(), strict=True):
            ends = slice(place, place + length)
            picked = (
                words[one][: len(words[one]) // 2 + 1] + words[two][len(words[two]) // 2 :] if strange else words[one]
                for (one, two), strange in zip(chosen[ends], rare[ends], strict=True)
            )
            yield " ".join(picked), labels[intent]
            place += length


# lit_ft


def data_module(work: Workload, preparation: Path, **options: Any) -> "TextClassificationDataModule":
    """Makes lit_ft's data module over all rows, prepared in the folder `preparation`."""
    from lit_ft import TextClassificationDataModule

    return TextClassificationDataModule(
        model_name_or_path=work.model,
        train_file=str(work.file),
        text_column_names=work.text,
        label_column_name=work.label,
        max_seq_length=work.max_seq_length,
        validation_split_percentage=0,
        preparation_dir=str(preparation),
        **options,
    )


# The scripts' way


def load_tokenizer(work: Workload) -> Any:
    """Loads the tokenizer as the scripts do."""
    from transformers import AutoTokenizer

    from lit_ft.data.reading.sources import resolve_path

    return AutoTokenizer.from_pretrained(resolve_path(work.model))


def load_rows(work: Workload, cache: Path) -> "Dataset":
    """Loads the file with `load_dataset`, which keeps a copy in the folder `cache`."""
    from datasets import load_dataset

    loader = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}.get(work.file.suffix, "json")
    extra = {"sep": "\t"} if work.file.suffix == ".tsv" else {}
    return load_dataset(loader, data_files=str(work.file), split="train", cache_dir=str(cache), **extra)


def label_names(rows: "Dataset", work: Workload) -> list[Any]:
    """Returns the labels in the order of lit_ft's ids (`2` before `10`), so that both sides can be compared."""
    from lit_ft.data.labels import natural_key

    return sorted(rows.unique(work.label), key=lambda name: natural_key(str(name)))


def map_rows(rows: "Dataset", work: Workload, tokenizer: Any, batched: bool = True, **options: Any) -> "Dataset":
    """Tokenizes with `Dataset.map` as run_glue.py does; `batched=False` is the row-wise map that people write."""
    numbers = {name: number for number, name in enumerate(label_names(rows, work))}
    text, label, longest = work.text, work.label, work.max_seq_length

    def preprocess(examples: dict[str, Any]) -> Any:
        result = tokenizer(examples[text], padding=False, max_length=longest, truncation=True)
        given = examples[label]
        # under the old name, `datasets` 5.2 would turn the numbers of a csv column back into strings
        result["labels"] = [numbers[each] for each in given] if batched else numbers[given]
        return result

    return rows.map(preprocess, batched=batched, remove_columns=rows.column_names, **options)


def reference_loader(features: "Dataset", tokenizer: Any, batch_size: int, num_workers: int = 0) -> "DataLoader[Any]":
    """Makes the loader that people write over mapped rows."""
    from torch.utils.data import DataLoader
    from transformers import DataCollatorWithPadding

    return DataLoader(
        features,  # type: ignore[arg-type]
        batch_size=batch_size,
        shuffle=True,
        collate_fn=DataCollatorWithPadding(tokenizer),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )


# Did they compute the same?


def describe_lengths(lengths: npt.ArrayLike, expected: Shape | None = None) -> str:
    """Returns the sentence of how long rows are, in tokens.

    Raises:
        RuntimeError: mean, median or 95th percentile are over 10 % off what the shape promises.
    """
    given = np.asarray(lengths)
    found = float(given.mean()), *(float(each) for each in np.percentile(given, [50, 95]))
    said = f"{len(given):,} rows of {found[0]:.1f} tokens (median {found[1]:.0f}, 95 % up to {found[2]:.0f})"
    if expected is not None and not np.allclose(found, expected.tokens, rtol=0.1):
        raise RuntimeError(f"{said}: expected mean, median and 95th percentile {expected.tokens}")
    return said


def digests(batches: Iterable[dict[str, Any]]) -> npt.NDArray[np.uint64]:
    """Returns a sorted hash per row of its token ids and label, whatever the order and the padding."""
    found = []
    for batch in batches:
        ids, mask = batch["input_ids"].numpy().astype(np.int32), batch["attention_mask"].numpy().astype(bool)
        for row, real, label in zip(ids, mask, batch["labels"].tolist(), strict=True):
            content = row[real].tobytes() + str(label).encode()
            found.append(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little"))
    return np.sort(np.array(found, dtype=np.uint64))


def check_equal(ours: npt.NDArray[np.uint64], theirs: npt.NDArray[np.uint64], name: str) -> str:
    """Returns the sentence that both hold the same rows.

    Raises:
        RuntimeError: they do not; numbers timed on them would mean nothing.
    """
    if len(ours) != len(theirs):
        raise RuntimeError(f"lit_ft has {len(ours):,} rows, {name} {len(theirs):,}")
    differing = len(np.setdiff1d(ours, theirs))
    if differing or not np.array_equal(ours, theirs):
        raise RuntimeError(
            f"token ids or labels of {differing:,} of {len(ours):,} rows differ between lit_ft and {name}"
        )
    return f"token ids and labels of all {len(ours):,} rows are the same in lit_ft and {name}"
