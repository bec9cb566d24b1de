"""Training speed of text classification: lit_ft under Lightning against Hugging Face's Trainer, one epoch a round.

    python benchmarks/classification_step.py --workload short

An epoch, not some steps: length grouping begins with the longest rows, so that only whole epochs are the same work.
The Trainer groups within 50 batches, and within fewer where the rows are fewer than 4 x 50 batches: 6,400 rows in
batches of 32 give it all that grouping can give, 3,200 nearly so, 1,600 not (the notes say how much it pads).
"""

import argparse
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from flops import PEAK, ModelCost, gemm_peak, utilisation, with_utilisation
from harness import MODEL, OURS, Comparison, Measured, Report, alternate, compare, parser, work_folder
from lightning.pytorch import seed_everything
from processes import in_own_process, status
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
    SHAPES,
    Workload,
    check_equal,
    data_module,
    describe_lengths,
    digests,
    label_names,
    load_rows,
    load_tokenizer,
    map_rows,
    reference_loader,
    workload,
)

from lit_ft import TextClassificationModule
from lit_ft.data.reading.sources import resolve_path

DEFAULT, GROUPED, OURS_GROUPED = "Trainer", "Trainer, group_by_length", "lit_ft, group_by_length"
OURS_PADDED = "lit_ft, padding_free off"
GROUPING = {"train_sampling_strategy": "group_by_length"}
HOW = (
    "fused AdamW, learning rate 5e-5 with linear decay, clipping 1.0, dropout on; a round is one epoch from the same "
    "weights, timed from the first batch to the last step, loader included, building excluded"
)
ENOUGH_TO_CHECK = 600
"""Rows from which their lengths must be as promised."""


@dataclass(frozen=True)
class Job:
    """What a side is told; plain values, for peak memory is looked at in processes of their own.

    Attributes:
        options: the command line.
        work: the rows.
        model: folder of the start weights.
        folder: with the rows that lit_ft prepared (`ours`), and those that were mapped (`mapped`).
        cost: of the model.
        max_steps: steps of the run; -1 = one epoch.
    """

    options: argparse.Namespace
    work: Workload
    model: str
    folder: Path
    cost: ModelCost
    max_steps: int = -1

    def data(self, **options: Any) -> Any:
        """Makes lit_ft's data module."""
        size, seed = self.options.batch_size, self.options.seed
        return data_module(self.work, self.folder / "ours", batch_size=size, data_seed=seed, **options)


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


def by_lit_ft(job: Job, sampling: dict[str, Any] | None = None, **module_options: Any) -> tuple[Measured, list[Any]]:
    """Trains with lit_ft; returns what was measured, and the losses."""
    seed_everything(job.options.seed, verbose=False)
    data, meter = job.data(**(sampling or {})), Meter(cost=job.cost)
    limits = {"max_epochs": 1, "max_steps": job.max_steps, "precision": job.options.precision}
    trainer = lightning_trainer(job.options.accelerator, LightningMeter(meter), **limits)
    trainer.fit(TextClassificationModule(model_name_or_path=job.model, **module_options), data)
    return meter.measured(), meter.losses


def by_trainer(job: Job, **settings: Any) -> tuple[Measured, list[Any]]:
    """Trains with the Trainer: on lit_ft's batches, or, where there are settings, on batches of its own."""
    from datasets import load_from_disk

    meter = Meter(cost=job.cost)
    given: dict[str, Any] = {}
    if settings:
        given["train_dataset"] = load_from_disk(str(job.folder / "mapped"))
        given["data_collator"] = DataCollatorWithPadding(load_tokenizer(job.work))
    else:
        data = job.data()
        data.setup("fit")
        given["batches"] = list(islice(data.train_dataloader(), None if job.max_steps < 0 else job.max_steps))
    settings |= {"num_train_epochs": 1, "max_steps": job.max_steps}
    hugging_face_trainer(job.options, load(job.model), job.folder, meter, settings, **given).train()
    return meter.measured(), meter.losses


def sides() -> dict[str, Any]:
    """Returns the contestants, each a function of a job."""
    return {
        OURS: by_lit_ft,
        DEFAULT: by_trainer,
        GROUPED: partial(by_trainer, **GROUPING),
        OURS_GROUPED: partial(by_lit_ft, sampling=GROUPING),
        OURS_PADDED: partial(by_lit_ft, padding_free="off"),
    }


def _memory(side: Any, job: Job) -> tuple[Measured, float]:
    loaded = status("self", "RssAnon")
    return side(job)[0], loaded


def peak_memory(job: Job, start_method: str) -> tuple[Comparison, str]:
    """Trains some steps of each side in a process of its own, untimed."""
    values, libraries = {}, {}
    for name, side in sides().items():
        (measured, libraries[name]), peak = in_own_process(_memory, side, job, start_method=start_method)
        values[name] = [measured.get("device_memory", peak.anonymous)]
    where = "the device's greatest allocation" if job.options.accelerator == "gpu" else "anonymous, libraries included"
    held = ", ".join(f"{name} {value:.0f} MB" for name, value in libraries.items())
    note = f"peak memory: {where}; {job.max_steps} steps in a process of their own, once; libraries hold {held}"
    return Comparison("peak memory", "MB", "lower", values), note


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line; what is not given is the workload's."""
    made = parser(__doc__, rows=None)
    made.add_argument("--workload", choices=SHAPES, default="short", help="lengths of the rows (default short)")
    made.add_argument("--rows", type=int, help="rows of an epoch (default 3,200; intents 6,400; long 640)")
    made.add_argument("--batch_size", type=int, help="rows of a step (default 32; long 16)")
    made.add_argument("--accelerator", choices=["cpu", "gpu"], default="gpu" if torch.cuda.is_available() else "cpu")
    made.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    made.add_argument("--check_steps", type=int, default=5, help="steps whose losses must agree (default 5)")
    made.add_argument("--memory_steps", type=int, default=10, help="steps for peak memory, 0 = none (default 10)")
    made.set_defaults(max_seq_length=None)
    options = made.parse_args(arguments)
    for name in ("rows", "batch_size", "max_seq_length"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(SHAPES[options.workload], name))
    return options


def checks(job: Job, without: str, features: Any, tokenizer: Any) -> list[str]:
    """Finds losses without dropout, token ids and labels equal.

    Args:
        job: what is trained.
        without: folder of the start weights without dropout.
        features: the mapped rows.
        tokenizer: their tokenizer.

    Raises:
        RuntimeError: they are not; a loss may differ by 1e-5.
    """
    data = job.data()
    data.prepare_data()
    data.setup("fit")
    steps = min(job.options.check_steps, len(data.train_dataloader()))
    exact = argparse.Namespace(**{**vars(job.options), "precision": "32-true"})
    few = replace(job, options=exact, model=without, max_steps=steps)
    (_, mine), (_, other) = by_lit_ft(few), by_trainer(few)
    found = digests(data.train_dataloader()), digests(reference_loader(features, tokenizer, 1000))
    return [
        compare_losses(mine, other, steps, 1e-5, "dropout off, same batches"),
        check_equal(*found, "map(batched=True)"),
    ]


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Checks, times, writes the report."""
    options = read_options(arguments)
    shape = SHAPES[options.workload]
    report = Report("classification_step" if options.train_file else f"classification_step_{options.workload}", options)
    with work_folder(options) as folder:
        work = workload(options, folder, options.rows, shape)
        rows, tokenizer = load_rows(work, folder / "theirs"), load_tokenizer(work)
        features, labels = map_rows(rows, work, tokenizer), label_names(rows, work)
        features.save_to_disk(str(folder / "mapped"))
        promised = not options.train_file and options.model == MODEL and options.max_seq_length == shape.max_seq_length
        expected = shape if promised and options.rows >= ENOUGH_TO_CHECK else None
        lengths = describe_lengths([len(ids) for ids in features["input_ids"]], expected)
        report.notes.append(f"{lengths}, {len(labels)} labels")
        models = [start_folder(work, folder / str(on), labels, options.seed, on) for on in (False, True)]
        job = Job(options, work, models[1], folder, ModelCost.of(load(models[1])))
        report.checks += checks(job, models[0], features, tokenizer)
        contestants: dict[str, Any] = {name: partial(_measured, side, job) for name, side in sides().items()}
        contestants[PEAK] = gemm_peak("cuda" if options.accelerator == "gpu" else "cpu", options.precision)
        measured = alternate(contestants, options.rounds, options.warmup)
        report.notes.append(with_utilisation(measured))
        report.comparisons = comparisons(measured, options.batch_size)
        if options.memory_steps:
            memory, note = peak_memory(replace(job, max_steps=options.memory_steps), start_method)
            report.comparisons.append(memory)
            report.notes.append(note)
    tokens = {int(each["epoch_tokens"]) for rounds in measured.values() for each in rounds}
    if len(tokens) != 1:
        raise RuntimeError(f"the epochs are not the same work: {sorted(tokens)} real tokens")
    report.checks.append(f"every epoch of every side trains on {tokens.pop():,} real tokens")
    report.notes += [*padding(measured), f"{options.precision}, {HOW}"]
    return report.write()


def _measured(side: Any, job: Job) -> Measured:
    return side(job)[0]  # type: ignore[no-any-return]


def comparisons(measured: dict[str, list[Measured]], batch_size: int) -> list[Comparison]:
    """Compares rates and utilisation."""
    return [
        compare(measured, "rows", "examples", "1/s", "higher"),
        compare(measured, "tokens", "real tokens (no padding)", "1/s", "higher"),
        compare(measured, "steps", f"steps of {batch_size} rows", "1/s", "higher"),
        utilisation(measured),
    ]


def padding(measured: dict[str, list[Measured]]) -> list[str]:
    """Says how much padding the batches have, whether it is computed on or not."""
    said = ", ".join(f"{name} {median([each['padding'] for each in rounds]):.2f}" for name, rounds in measured.items())
    return [
        f"tokens of the batches, as they are padded, per real token: {said}",
        f"{OURS} and {DEFAULT} train on the very same random batches; the Trainer is handed them ready-made, so that "
        "its own loader takes no time",
        "group_by_length changes which rows meet in a batch, and so the training; the others draw batches by chance",
    ]


if __name__ == "__main__":
    main()
