"""Speed of writing texts: rows a second of lit_ft's `trainer.predict` against `Seq2SeqTrainer.predict`.

    lit-ft fit --config configs/translation/parallel_files.yaml
    python benchmarks/generation.py --model runs/version_0/hf --source_file texts.en

A text a line. `--model` has to be one that has learned when to end: rows end at different lengths then. The Trainer
writes in input order, and sorted by length as people do it by hand: sorted before, put back after, both timed.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from harness import OURS, Measured, Report, alternate, common_parser, compare, work_folder
from training import Meter, PredictionClock, lightning_trainer
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorWithPadding,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

REFERENCE, SORTED = "Seq2SeqTrainer.predict", "Seq2SeqTrainer.predict, sorted by length"

Side = Callable[[], tuple[float, list[str]]]


def numbered(options: argparse.Namespace, folder: Path) -> Path:
    """Writes the sources with their numbers, which predictions then have, too."""
    path = folder / "sources.jsonl"
    with open(options.source_file, encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
        for row, line in enumerate(islice(lines, options.rows)):
            file.write(json.dumps({"row": row, "text": line.rstrip("\n")}) + "\n")
    return path


def by_lit_ft(options: argparse.Namespace, folder: Path) -> tuple[float, list[str]]:
    """Writes with lit_ft; returns seconds, and the texts in the order of their sources."""
    from lit_ft import Seq2SeqDataModule, Seq2SeqModule

    generation = {"num_beams": options.num_beams, "max_new_tokens": options.max_new_tokens}
    module = Seq2SeqModule(model_name_or_path=options.model, generation=generation)
    data = Seq2SeqDataModule(
        model_name_or_path=options.model,
        predict_file=str(numbered(options, folder)),
        source_column_name="text",
        source_prefix="",
        max_source_length=options.max_source_length,
        eval_batch_size=options.batch_size,
        preparation_dir=str(folder / "ours"),
    )
    clock = PredictionClock()
    trainer = lightning_trainer(options.accelerator, clock, precision=options.precision)
    batches: Any = trainer.predict(module, data)
    texts = {row["row"]: row["prediction"] for batch in batches for row in batch}
    return clock.seconds, [texts[row] for row in sorted(texts)]


def by_trainer(options: argparse.Namespace, folder: Path, by_length: bool = False) -> tuple[float, list[str]]:
    """Writes with the Trainer; see `by_lit_ft`."""
    from datasets import load_dataset

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    files = str(numbered(options, folder))
    rows = load_dataset("json", data_files=files, split="train", cache_dir=str(folder / "cache"))
    features = rows.map(
        lambda batch: {
            "input_ids": tokenizer(batch["text"], max_length=options.max_source_length, truncation=True).input_ids
        },
        batched=True,
        remove_columns=rows.column_names,
    )
    arguments = Seq2SeqTrainingArguments(
        str(folder / "trainer"),
        per_device_eval_batch_size=options.batch_size,
        predict_with_generate=True,
        generation_num_beams=options.num_beams,
        report_to="none",
        disable_tqdm=True,
        use_cpu=options.accelerator == "cpu",
        bf16_full_eval=options.precision == "bf16-true",
    )
    model = AutoModelForSeq2SeqLM.from_pretrained(options.model)
    trainer = Seq2SeqTrainer(model=model, args=arguments, data_collator=DataCollatorWithPadding(tokenizer))
    started = Meter.now()
    lengths = [-len(ids) for ids in features["input_ids"]]
    order = np.argsort(lengths, kind="stable") if by_length else np.arange(len(features))
    found: Any = trainer.predict(features.select(order), max_new_tokens=options.max_new_tokens)
    ids = np.where(found.predictions == -100, tokenizer.pad_token_id, found.predictions)
    written = tokenizer.batch_decode(ids, skip_special_tokens=True)
    seconds = Meter.now() - started
    texts = dict(zip(order.tolist(), written, strict=True))
    return seconds, [texts[row] for row in range(len(features))]


def sides(options: argparse.Namespace, folder: Path) -> dict[str, Side]:
    """Returns the contestants."""
    return {
        OURS: partial(by_lit_ft, options, folder),
        REFERENCE: partial(by_trainer, options, folder),
        SORTED: partial(by_trainer, options, folder, by_length=True),
    }


def check(texts: dict[str, list[str]], allowed: float) -> list[str]:
    """Returns the sentences that all write the same.

    Raises:
        RuntimeError: more than a share of the texts differ; scores that are equal but for rounding may end otherwise.
    """
    found = []
    for name in list(texts)[1:]:
        pairs = list(zip(texts[OURS], texts[name], strict=True))
        other = [number for number, (one, two) in enumerate(pairs) if one != two]
        if len(other) > allowed * len(pairs):
            shown = pairs[other[0]]
            raise RuntimeError(f"{OURS} and {name}: {len(other)} of {len(pairs)} texts differ, the first: {shown}")
        found.append(f"{name}: {len(pairs) - len(other):,} of {len(pairs):,} texts are the same")
    return found


def timed(side: Side, texts: list[str]) -> Measured:
    """Writes all texts."""
    seconds, written = side()
    texts[:] = written
    return {"rows": len(written) / seconds}


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    made = common_parser(__doc__, rounds=3, warmup=1)
    made.set_defaults(model="runs/version_0/hf")
    made.add_argument("--source_file", required=True, help="a text a line")
    made.add_argument("--rows", type=int, default=1000, help="the first rows of it (default 1,000)")
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--num_beams", type=int, default=1)
    made.add_argument("--max_new_tokens", type=int, default=64)
    made.add_argument("--max_source_length", type=int, default=128)
    made.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    made.add_argument("--precision", choices=["32-true", "bf16-true"], default="32-true")
    made.add_argument("--allowed", type=float, default=0.005, help="share of texts that may differ (default 0.005)")
    return made.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Checks, times, writes the report."""
    options = read_options(arguments)
    report = Report("generation", options, rounds_needed=3)
    with work_folder(options) as folder:
        texts: dict[str, list[str]] = {name: [] for name in sides(options, folder)}
        contestants: dict[str, Any] = {
            name: partial(timed, side, texts[name]) for name, side in sides(options, folder).items()
        }
        measured = alternate(contestants, options.rounds, options.warmup)
    report.checks += check(texts, options.allowed)
    words = [len(text.split()) for text in texts[OURS]]
    report.notes += [
        f"{len(words):,} texts of {np.mean(words):.1f} words (5 % above {np.percentile(words, 95):.0f}), batches of "
        f"{options.batch_size}, {options.num_beams} beams, {options.precision}",
        "timed from the loader to the decoded texts; loading the model and preparing the sources are not",
    ]
    report.comparisons = [compare(measured, "rows", "texts written", "1/s", "higher")]
    return report.write()


if __name__ == "__main__":
    main()
