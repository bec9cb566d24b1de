"""Training speed of text classification: lit_ft under Lightning against Hugging Face's Trainer, one epoch a round.

    python benchmarks/classification_step.py --rows 3200

An epoch, not some steps: length grouping begins with the longest rows, so that only whole epochs are the same work.
The Trainer groups within 50 batches, and within fewer where the rows are fewer than 4 x 50 batches: 6,400 rows give it
all that grouping can give (1.04 tokens of padded batches per real one), 3,200 nearly so (1.08), 1,600 not (1.19).
"""

import argparse
import inspect
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from harness import OURS, Measured, Report, Round, alternate, compare, parser, work_folder
from lightning.pytorch import seed_everything
from training import (
    LightningMeter,
    Meter,
    compare_losses,
    hugging_face_trainer,
    lightning_trainer,
    without_dropout,
)
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding
from workload import (
    Workload,
    check_equal,
    data_module,
    digests,
    label_names,
    load_rows,
    load_tokenizer,
    map_rows,
    reference_loader,
    workload,
)

from lit_ft import TextClassificationModule, TransformerDataModule
from lit_ft.data.sources import resolve_path

DEFAULT, GROUPED, OURS_GROUPED = "Trainer", "Trainer, group_by_length", "lit_ft, group_by_length"
GROUPING = {"train_sampling_strategy": "group_by_length"}


def start_folder(work: Workload, folder: Path, labels: list[str], seed: int, dropout: bool) -> str:
    """Saves the model with a head for these labels: every round of every side starts from the same weights."""
    torch.manual_seed(seed)
    names = dict(enumerate(map(str, labels)))
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        resolve_path(work.model),
        id2label=names,
        label2id={name: number for number, name in names.items()},
        dtype=torch.float32,
    )
    if not dropout:
        without_dropout(model)
    model.save_pretrained(folder)
    load_tokenizer(work).save_pretrained(folder)
    return str(folder)


def load(folder: str) -> Any:
    """Loads the model that `start_folder` saved."""
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)


def check_losses(options: argparse.Namespace, work: Workload, model: str, folder: Path) -> str:
    """Trains a few steps of both on the same batches from the same weights, dropout off.

    Raises:
        RuntimeError: a loss differs by more than 1e-5.
    """
    seed_everything(options.seed, verbose=False)
    data = data_module(work, folder / "ours", batch_size=options.batch_size, data_seed=options.seed)
    data.prepare_data()
    data.setup("fit")
    steps = min(options.check_steps, len(data.train_dataloader()))
    mine, other = Meter(), Meter()
    trainer = lightning_trainer(options.accelerator, LightningMeter(mine), max_steps=steps)
    trainer.fit(TextClassificationModule(model_name_or_path=model), data)
    batches = list(islice(data.train_dataloader(), steps))
    hugging_face_trainer(options, load(model), folder, other, {"max_steps": steps}, batches=batches).train()
    return compare_losses(mine.losses, other.losses, steps, 1e-5, "dropout off, same batches")


def contestants(
    options: argparse.Namespace, work: Workload, model: str, features: Any, folder: Path
) -> dict[str, Round]:
    """Makes the sides; each trains one epoch from the same weights."""

    def ours(**sampling: Any) -> Measured:
        seed_everything(options.seed, verbose=False)
        data = data_module(work, folder / "ours", batch_size=options.batch_size, data_seed=options.seed, **sampling)
        meter = Meter()
        trainer = lightning_trainer(options.accelerator, LightningMeter(meter), max_epochs=1)
        trainer.fit(TextClassificationModule(model_name_or_path=model), data)
        return meter.measured()

    def theirs(**sampling: Any) -> Measured:
        meter, collator = Meter(), DataCollatorWithPadding(load_tokenizer(work))
        settings = {"num_train_epochs": 1, **sampling}
        given = {"train_dataset": features, "data_collator": collator}
        hugging_face_trainer(options, load(model), folder, meter, settings, **given).train()
        return meter.measured()

    sides: dict[str, Round] = {OURS: ours, DEFAULT: theirs, GROUPED: partial(theirs, **GROUPING)}
    if GROUPING.keys() <= inspect.signature(TransformerDataModule).parameters.keys():
        sides[OURS_GROUPED] = partial(ours, **GROUPING)
    return sides


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Checks, times, writes the report."""
    made = parser(__doc__, rows=3200)
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--accelerator", choices=["cpu", "gpu"], default="gpu" if torch.cuda.is_available() else "cpu")
    made.add_argument("--check_steps", type=int, default=5, help="steps whose losses must agree (default 5)")
    options = made.parse_args(arguments)
    report = Report("classification_step", options)
    with work_folder(options) as folder:
        work = workload(options, folder, options.rows)
        rows, tokenizer = load_rows(work, folder / "theirs"), load_tokenizer(work)
        features, labels = map_rows(rows, work, tokenizer), label_names(rows, work)
        models = [start_folder(work, folder / str(on), labels, options.seed, on) for on in (False, True)]
        report.checks.append(check_losses(options, work, models[0], folder))
        data = data_module(work, folder / "ours", batch_size=1000)
        data.setup("fit")
        found = digests(data.train_dataloader()), digests(reference_loader(features, tokenizer, 1000))
        report.checks.append(check_equal(*found, "map(batched=True)"))
        measured = alternate(contestants(options, work, models[1], features, folder), options.rounds, options.warmup)
    tokens = {int(each["epoch_tokens"]) for rounds in measured.values() for each in rounds}
    if len(tokens) != 1:
        raise RuntimeError(f"the epochs are not the same work: {sorted(tokens)} real tokens")
    report.checks.append(f"every epoch of every side trains on {tokens.pop():,} real tokens")
    report.comparisons = [
        compare(measured, "rows", "examples", "1/s", "higher"),
        compare(measured, "tokens", "real tokens (no padding)", "1/s", "higher"),
        compare(measured, "steps", f"steps of {options.batch_size} rows", "1/s", "higher"),
    ]
    padding = ", ".join(
        f"{name} {median([each['padding'] for each in rounds]):.2f}" for name, rounds in measured.items()
    )
    report.notes += [
        f"tokens of the padded batches per real token: {padding}",
        "float32, fused AdamW, learning rate 5e-5 with linear decay, clipping 1.0, dropout on; a round is one epoch "
        "from the same weights, timed from the first batch to the last step, loader included, building excluded",
        "group_by_length changes which rows meet in a batch, and so the training; the others draw batches by chance",
    ]
    return report.write()


if __name__ == "__main__":
    main()
