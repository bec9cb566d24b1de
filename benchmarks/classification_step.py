"""Training speed of text classification: lit_ft under Lightning against Hugging Face's Trainer, one epoch a round.

    python benchmarks/classification_step.py --rows 3200

An epoch, not some steps: length grouping begins with the longest rows, so that only whole epochs are the same work.
The Trainer groups within 50 batches, and within fewer where the rows are fewer than 4 x 50 batches: 6,400 rows give it
all that grouping can give (1.04 tokens of padded batches per real one), 3,200 nearly so (1.08), 1,600 not (1.19).
"""

import argparse
import inspect
import time
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from harness import OURS, Measured, Report, Round, alternate, compare, parser, work_folder
from lightning.pytorch import Callback, Trainer, seed_everything
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, TrainerCallback, TrainingArguments
from transformers import Trainer as HuggingFaceTrainer
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


class Meter:
    """Counts rows and real tokens of the steps, and times the epoch; asks the device for nothing in between."""

    def __init__(self) -> None:
        self.rows = self.steps = self.padded = 0
        self.tokens = torch.tensor(0)
        self.started = self.seconds = 0.0
        self.losses: list[float] = []

    def start(self) -> None:
        """An epoch begins."""
        self.started = self._now()

    def stop(self) -> None:
        """The epoch has ended."""
        self.seconds = self._now() - self.started

    def count(self, batch: Any) -> None:
        """A step begins."""
        self.steps += 1
        self.rows += len(batch["input_ids"])
        self.padded += batch["input_ids"].numel()
        self.tokens = self.tokens + batch["attention_mask"].sum()

    def measured(self) -> Measured:
        """Returns rates of the epoch."""
        counts = {"steps": self.steps, "rows": self.rows, "tokens": int(self.tokens)}
        rates = {name: count / self.seconds for name, count in counts.items()}
        return {**rates, "epoch_tokens": float(self.tokens), "padding": self.padded / int(self.tokens)}

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


class LightningMeter(Callback):
    """Tells a meter what Lightning's Trainer does."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_epoch_start(self, *_: Any) -> None:
        """An epoch begins."""
        self.meter.start()

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, number: int) -> None:
        """A step begins."""
        self.meter.count(batch)

    def on_train_epoch_end(self, *_: Any) -> None:
        """The epoch has ended."""
        self.meter.stop()


class LossKeeper(Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        """A step has ended."""
        self.losses.append(float(outputs["loss"]))


class HuggingFaceMeter(TrainerCallback):
    """Tells a meter when Hugging Face's Trainer begins and ends an epoch."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """An epoch begins."""
        self.meter.start()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """The epoch has ended."""
        self.meter.stop()


class CountingTrainer(HuggingFaceTrainer):
    """Hugging Face's Trainer, counting; on given batches where there are some, keeping the losses."""

    def __init__(self, meter: Meter, batches: list[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(callbacks=[HuggingFaceMeter(meter)], **kwargs)
        self.meter, self.batches = meter, batches

    def get_train_dataloader(self) -> Any:
        """Returns the Trainer's own loader, or the given batches."""
        return super().get_train_dataloader() if self.batches is None else DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Counts and steps."""
        self.meter.count(inputs)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.batches is not None:
            self.meter.losses.append(float(loss))
        return loss


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
        for name, value in model.config.to_dict().items():
            if "drop" in name and isinstance(value, float):
                setattr(model.config, name, 0.0)
    model.save_pretrained(folder)
    load_tokenizer(work).save_pretrained(folder)
    return str(folder)


def lightning_trainer(options: argparse.Namespace, *callbacks: Callback, **limits: Any) -> Trainer:
    """Makes a Trainer that writes nothing."""
    return Trainer(
        accelerator=options.accelerator,
        devices=1,
        precision="32-true",
        gradient_clip_val=1.0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **limits,
    )


def hugging_face_trainer(
    options: argparse.Namespace, model: str, folder: Path, meter: Meter, settings: dict[str, Any], **given: Any
) -> CountingTrainer:
    """Makes a Trainer with its defaults (fused AdamW, linear decay, clipping 1.0, float32), which writes nothing."""
    arguments = TrainingArguments(
        str(folder / "trainer"),
        per_device_train_batch_size=options.batch_size,
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        seed=options.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=options.accelerator == "cpu",
        **settings,
    )
    loaded = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
    return CountingTrainer(meter, model=loaded, args=arguments, **given)


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
    keeper, meter = LossKeeper(), Meter()
    trainer = lightning_trainer(options, keeper, max_steps=steps)
    trainer.fit(TextClassificationModule(model_name_or_path=model), data)
    batches = list(islice(data.train_dataloader(), steps))
    hugging_face_trainer(options, model, folder, meter, {"max_steps": steps}, batches=batches).train()
    pairs = list(zip(keeper.losses, meter.losses, strict=True))
    furthest = max(abs(one - other) for one, other in pairs)
    if len(pairs) != steps or furthest > 1e-5:
        raise RuntimeError(f"losses of {len(pairs)} of {steps} steps differ by up to {furthest:.2e}: {pairs}")
    return f"losses of {steps} steps, dropout off, same batches: within {furthest:.1e} (allowed 1e-5)"


def contestants(
    options: argparse.Namespace, work: Workload, model: str, features: Any, folder: Path
) -> dict[str, Round]:
    """Makes the sides; each trains one epoch from the same weights."""

    def ours(**sampling: Any) -> Measured:
        seed_everything(options.seed, verbose=False)
        data = data_module(work, folder / "ours", batch_size=options.batch_size, data_seed=options.seed, **sampling)
        meter = Meter()
        trainer = lightning_trainer(options, LightningMeter(meter), max_epochs=1)
        trainer.fit(TextClassificationModule(model_name_or_path=model), data)
        return meter.measured()

    def theirs(**sampling: Any) -> Measured:
        meter, collator = Meter(), DataCollatorWithPadding(load_tokenizer(work))
        settings = {"num_train_epochs": 1, **sampling}
        given = {"train_dataset": features, "data_collator": collator}
        hugging_face_trainer(options, model, folder, meter, settings, **given).train()
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
