"""Does a run that goes on far within an epoch start later? From the start of fit to the end of its first step.

    python benchmarks/resume.py

A checkpoint of the first step of an epoch, and the same checkpoint moved to `--position` rows: nothing before the place
is read again, so both starts should take the same time.
"""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from classification_step import start_folder
from harness import Measured, Report, alternate, compare, parser, work_folder
from processes import in_own_process
from workload import SHAPES, Workload, label_names, load_rows, workload

NEAR, FAR = "at the epoch's first rows", "far within the epoch"
BATCH = 32


def fit(work: Workload, folder: Path, checkpoint: Path | None, steps: int) -> Measured:
    """Trains up to so many steps; returns seconds, and how many rows of the epoch lie behind."""
    from lightning.pytorch import Trainer

    from lit_ft import TextClassificationDataModule, TextClassificationModule

    os.environ["PL_GLOBAL_SEED"] = "1"
    start = time.perf_counter()
    data = TextClassificationDataModule(
        model_name_or_path=work.model, train_file=str(work.file), text_column_names=work.text,
        label_column_name=work.label, max_seq_length=work.max_seq_length, batch_size=BATCH,
        validation_split_percentage=0, preparation_dir=str(folder / "prepared"),
    )  # fmt: skip
    module = TextClassificationModule(model_name_or_path=work.model)
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=None if checkpoint is None else str(checkpoint))
    seconds = time.perf_counter() - start
    if checkpoint is None:
        trainer.save_checkpoint(folder / "near.ckpt")
    return {"seconds": seconds, "rows": float(data.state_dict()["units"])}


def moved(near: Path, far: Path, rows: int) -> None:
    """Writes a checkpoint whose place is so many rows into the epoch."""
    checkpoint = torch.load(near, weights_only=True)
    checkpoint["TextClassificationDataModule"]["units"] = rows
    torch.save(checkpoint, far)


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Prepares once, times the starts, writes the report."""
    made = parser(__doc__, rows=1_100_000)
    made.add_argument("--position", type=int, default=1_000_000, help="rows that lie behind (default 1,000,000)")
    options = made.parse_args(arguments)
    report = Report("resume", options)
    with work_folder(options) as folder:
        given = workload(options, folder, options.rows, SHAPES["short"])
        labels = label_names(load_rows(given, folder / "names"), given)
        model = start_folder(given, folder / "model", labels, options.seed, dropout=False)
        work = Workload(given.file, given.text, given.label, model, given.max_seq_length)

        def run(checkpoint: Path | None, steps: int) -> Measured:
            return in_own_process(fit, work, folder, checkpoint, steps, start_method=start_method)[0]

        run(None, 1)
        moved(folder / "near.ckpt", folder / "far.ckpt", options.position // BATCH * BATCH)
        contestants: dict[str, Any] = {
            NEAR: partial(run, folder / "near.ckpt", 2),
            FAR: partial(run, folder / "far.ckpt", 2),
        }
        measured = alternate(contestants, options.rounds, options.warmup)
    for name, rows in ((NEAR, 2 * BATCH), (FAR, options.position // BATCH * BATCH + BATCH)):
        places = {int(each["rows"]) for each in measured[name]}
        if places != {rows}:
            raise RuntimeError(f"{name}: {places} rows lie behind after the step, not {rows}")
    report.checks.append(f"after the step {2 * BATCH:,} and {rows:,} rows of the epoch lie behind")
    report.comparisons = [
        compare(measured, "seconds", "from the start of fit to the end of the first step", "s", "lower")
    ]
    report.notes.append("every start is a new process; imports are not timed; the rows were prepared before")
    return report.write()


if __name__ == "__main__":
    main()
