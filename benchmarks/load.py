"""Does memory stay flat under load? Rows prepared and 500 steps trained, for few rows and for two million.

python benchmarks/load.py --rows 20000 2000000
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

from classification_step import start_folder
from harness import Measured, Report, alternate, compare, parser, work_folder
from processes import in_own_process, status
from workload import SHAPES, Workload, label_names, load_rows, workload

BATCH, STEPS = 32, 500
SIZES = [20_000, 2_000_000]


def run(work: Workload, folder: Path, steps: int) -> Measured:
    """Prepares the rows, trains; returns what the process held for itself halfway and at the end, in MB."""
    from lightning.pytorch import Callback, Trainer

    from lit_ft import TextClassificationDataModule, TextClassificationModule

    held: Measured = {}

    class Look(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step in (steps // 2, steps):
                held["end" if trainer.global_step == steps else "halfway"] = status("self", "RssAnon")

    os.environ["PL_GLOBAL_SEED"] = "1"
    data = TextClassificationDataModule(
        model_name_or_path=work.model, train_file=str(work.file), text_column_names=work.text,
        label_column_name=work.label, max_seq_length=work.max_seq_length, batch_size=BATCH,
        validation_split_percentage=0, preparation_dir=str(folder / "prepared"),
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Look()],
    )  # fmt: skip
    trainer.fit(TextClassificationModule(model_name_or_path=work.model), data)
    return held


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Runs every size in a process of its own, writes the report."""
    made = parser(__doc__, rows=None, rounds=1, warmup=0)
    made.add_argument("--rows", type=int, nargs=2, default=SIZES, help="numbers of rows to generate")
    made.add_argument("--steps", type=int, default=STEPS, help=f"steps of {BATCH} rows (default {STEPS})")
    options = made.parse_args(arguments)
    report = Report("load", options, rounds_needed=1)
    with work_folder(options) as folder:

        def measured(rows: int) -> Measured:
            place = folder / str(rows)
            place.mkdir(exist_ok=True)
            given = workload(options, place, rows, SHAPES["short"])
            labels = label_names(load_rows(given, place / "names"), given)
            model = start_folder(given, place / "model", labels, options.seed, dropout=True)
            work = Workload(given.file, given.text, given.label, model, given.max_seq_length)
            held, peak = in_own_process(run, work, place, options.steps, start_method=start_method)
            # The looks from outside may miss the moment of those from inside.
            return {**held, "peak": max(peak.anonymous, *held.values())}

        found = alternate(
            {f"{rows:,} rows": partial(measured, rows) for rows in options.rows}, options.rounds, options.warmup
        )
    steps = f"{options.steps:,} steps"
    report.comparisons = [
        compare(found, "peak", f"preparation and {steps} of {BATCH}, peak anonymous memory", "MB", "lower"),
        compare(found, "halfway", "anonymous memory after half of the steps", "MB", "lower"),
        compare(found, "end", "anonymous memory after all of them", "MB", "lower"),
    ]
    report.notes.append(
        "anonymous: what the process holds for itself (RssAnon, looked at every 10 ms), libraries included"
    )
    return report.write()


if __name__ == "__main__":
    main()
