"""Seconds of `fit --help`, and from the start of `fit` to the end of its first step, against a bare LightningCLI.

    python benchmarks/startup.py

The bare one is a script of seventy lines, written into a temporary folder: plain Lightning, transformers and datasets,
the same model on the same rows, prepared before by both. Every start is a new process, ended after the first step.
"""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from classification_step import start_folder
from harness import OURS, Measured, Report, alternate, common_parser, compare, work_folder
from training import compare_losses
from workload import SHAPES, Workload, label_names, load_rows, write_rows

REFERENCE = "bare LightningCLI"
RESULT = "first_step.json"

STOPWATCH = """
import json, os, time
from lightning.pytorch import Callback

class FirstStep(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        ended = time.time()
        with open(os.environ["FIRST_STEP"], "w") as file:
            json.dump({"ended": ended, "loss": float(outputs["loss"])}, file)
        os._exit(0)
"""

BARE = """
import datasets
import torch
import torchmetrics
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers import get_linear_schedule_with_warmup

class Classifier(LightningModule):
    def __init__(self, model_name_or_path: str, learning_rate: float = 5e-5):
        super().__init__()
        self.save_hyperparameters()
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=2)
        self.model = None

    def configure_model(self):
        if self.model is None:
            name = self.hparams.model_name_or_path
            self.model = AutoModelForSequenceClassification.from_pretrained(name, dtype=torch.float32).train()

    def training_step(self, batch, batch_idx):
        loss = self.model(**batch).loss
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.learning_rate, weight_decay=0.0, fused=True)
        schedule = get_linear_schedule_with_warmup(optimizer, 0, self.trainer.estimated_stepping_batches)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

class Rows(LightningDataModule):
    def __init__(self, model_name_or_path: str, train_file: str, cache_dir: str, batch_size: int = 32):
        super().__init__()
        self.save_hyperparameters()

    def rows(self):
        options, tokenizer = self.hparams, AutoTokenizer.from_pretrained(self.hparams.model_name_or_path)
        rows = datasets.load_dataset(
            "json", data_files=options.train_file, split="train", cache_dir=options.cache_dir
        )
        labels = {name: number for number, name in enumerate(sorted(rows.unique("label")))}

        def tokenize(batch):
            made = tokenizer(batch["text"], truncation=True, max_length=128)
            made["labels"] = [labels[each] for each in batch["label"]]
            return made

        return rows.map(tokenize, batched=True, remove_columns=rows.column_names), DataCollatorWithPadding(tokenizer)

    def prepare_data(self):
        self.rows()

    def setup(self, stage):
        self.data, self.collate = self.rows()

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=self.hparams.batch_size, collate_fn=self.collate)

if __name__ == '__main__':
    LightningCLI(
        LightningModule, LightningDataModule, subclass_mode_model=True, subclass_mode_data=True,
        seed_everything_default=42, save_config_kwargs={"overwrite": True},
    )
"""


def configurations(folder: Path, work: Workload, accelerator: str) -> dict[str, dict[str, Any]]:
    """Returns both sides' YAML as plain values."""
    trainer = {
        "accelerator": accelerator,
        "devices": 1,
        "max_epochs": 1,
        "gradient_clip_val": 1.0,
        "callbacks": [{"class_path": "stopwatch.FirstStep"}],
    }
    data = {"train_file": str(work.file), "batch_size": 32}
    ours = {
        **data,
        "validation_split_percentage": 0,
        "train_sampling_strategy": "sequential",
        "max_seq_length": work.max_seq_length,
        "preparation_dir": str(folder / "ours"),
    }
    theirs = {**data, "model_name_or_path": work.model, "cache_dir": str(folder / "theirs")}
    sides = {
        OURS: ("TextClassificationModule", "TextClassificationDataModule", ours),
        REFERENCE: ("bare.Classifier", "bare.Rows", theirs),
    }
    return {
        name: {
            "trainer": {**trainer, "default_root_dir": str(folder / f"runs_{number}")},
            "model": {"class_path": module, "init_args": {"model_name_or_path": work.model}},
            "data": {"class_path": rows, "init_args": options},
        }
        for number, (name, (module, rows, options)) in enumerate(sides.items())
    }


def run(command: list[str], folder: Path, result: Path) -> float:
    """Runs a command to its end and returns the time at which it was started.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "FIRST_STEP": str(result)}
    started = time.time()
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return started


def start(entry: list[str], config: Path, folder: Path, losses: list[float]) -> Measured:
    """Asks for help, then starts up to the first step."""
    result = folder / RESULT
    result.unlink(missing_ok=True)
    asked = run([*entry, "fit", "--help"], folder, result)
    helped = time.time() - asked
    started = run([*entry, "fit", "--config", str(config)], folder, result)
    if not result.exists():
        raise RuntimeError(f"{' '.join(entry)} fit made no step")
    found = json.loads(result.read_text())
    losses.append(found["loss"])
    return {"help": helped, "first_step": found["ended"] - started}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Times, checks, writes the report."""
    made = common_parser(__doc__)
    made.add_argument("--rows", type=int, default=2000, help="rows of the data (default 2,000)")
    made.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    options = made.parse_args(arguments)
    report = Report("startup", options)
    with work_folder(options) as folder:
        file = folder / "rows.jsonl"
        write_rows(file, options.rows, options.seed, shape=SHAPES["short"])
        given = Workload(file, "text", "label", options.model, 128)
        labels = label_names(load_rows(given, folder / "names"), given)
        model = start_folder(given, folder / "model", labels, options.seed, dropout=False)
        work = Workload(file, "text", "label", model, 128)
        (folder / "stopwatch.py").write_text(STOPWATCH)
        (folder / "bare.py").write_text(BARE)
        entries = {OURS: ["-m", "lit_ft"], REFERENCE: ["bare.py"]}
        losses: dict[str, list[float]] = {name: [] for name in entries}
        contestants: dict[str, Any] = {}
        for number, (name, config) in enumerate(configurations(folder, work, options.accelerator).items()):
            place = folder / f"config_{number}.yaml"
            place.write_text(json.dumps(config))
            contestants[name] = partial(start, entries[name], place, folder, losses[name])
        measured = alternate(contestants, options.rounds, options.warmup)
    rounds = options.rounds + options.warmup
    report.checks.append(compare_losses(losses[OURS], losses[REFERENCE], rounds, 1e-5, "the first step, dropout off"))
    report.comparisons = [
        compare(measured, "help", "fit --help", "s", "lower"),
        compare(measured, "first_step", "from the start of fit to the end of its first step", "s", "lower"),
    ]
    report.notes += [
        f"every start is a new process; the rows were prepared in the {'warm-up' if options.warmup else 'first'} round",
        "lit_ft with everything that `lit-ft fit` does: run folder, reports, checks of rows and options",
    ]
    return report.write()


if __name__ == "__main__":
    main()
