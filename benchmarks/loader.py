"""Rows a second of the training loader alone, and its share of a training step measured in the same run.

python benchmarks/loader.py --rows 20000 --steps 5
"""

import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from harness import OURS, Comparison, Measured, Report, alternate, compare, parser, work_folder
from transformers import AutoModelForSequenceClassification
from workload import (
    Workload,
    check_equal,
    data_module,
    digests,
    load_rows,
    load_tokenizer,
    map_rows,
    reference_loader,
    workload,
)

from lit_ft.data.reading.sources import resolve_path

REFERENCE, STEP = "Dataset + DataCollatorWithPadding", "step"


def loaders(work: Workload, folder: Path, batch_size: int, num_workers: int) -> dict[str, Any]:
    """Makes both sides' training loaders."""
    data = data_module(work, folder / "ours", batch_size=batch_size, num_workers=num_workers)
    data.prepare_data()
    data.setup("fit")
    tokenizer = load_tokenizer(work)
    features = map_rows(load_rows(work, folder / "theirs"), work, tokenizer)
    return {OURS: data.train_dataloader(), REFERENCE: reference_loader(features, tokenizer, batch_size, num_workers)}


def epoch(loader: Any) -> Measured:
    """Takes every batch of an epoch."""
    start, rows, batches = time.perf_counter(), 0, 0
    for batch in loader:
        rows, batches = rows + len(batch["input_ids"]), batches + 1
    seconds = time.perf_counter() - start
    return {"rows_per_second": rows / seconds, "batch": seconds / batches}


def training_step(work: Workload, batches: list[Any], labels: int) -> Callable[[], Measured]:
    """Makes a bare loop over a few batches: forward, backward, clipping, fused AdamW; no Trainer, no loader."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        resolve_path(work.model), num_labels=labels, dtype=torch.float32
    )
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)

    def run() -> Measured:
        start = time.perf_counter()
        for batch in batches:
            model(**{name: value.to(device) for name, value in batch.items()}).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return {"batch": (time.perf_counter() - start) / len(batches)}

    return run


def share(measured: dict[str, list[Measured]], num_workers: int) -> Comparison:
    """Compares what a batch costs with what a step costs, round by round."""
    steps = [each["batch"] for each in measured[STEP]]
    values = {
        name: [100 * each["batch"] / step for each, step in zip(rounds, steps, strict=True)]
        for name, rounds in measured.items()
        if name != STEP
    }
    return Comparison(f"a batch against a training step, num_workers {num_workers}", "%", "lower", values)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Checks, times, writes the report."""
    made = parser(__doc__, rows=20_000)
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--num_workers", type=int, nargs="+", default=[0, 2])
    made.add_argument("--steps", type=int, default=5, help="training steps a round, to compare with (default 5)")
    options = made.parse_args(arguments)
    torch.manual_seed(options.seed)
    report = Report("loader", options)
    with work_folder(options) as folder:
        work = workload(options, folder, options.rows)
        for number in options.num_workers:
            sides = loaders(work, folder, options.batch_size, number)
            ours, theirs = (digests(loader) for loader in sides.values())
            report.checks.append(f"num_workers {number}: {check_equal(ours, theirs, REFERENCE)}")
            batches = list(islice(sides[OURS], options.steps))
            labels = 1 + max(int(batch["labels"].max()) for batch in sides[REFERENCE])
            contestants: dict[str, Callable[[], Measured]] = {
                name: partial(epoch, loader) for name, loader in sides.items()
            }
            contestants[STEP] = training_step(work, batches, labels)
            measured = alternate(contestants, options.rounds, options.warmup)
            loading = {name: rounds for name, rounds in measured.items() if name != STEP}
            what = f"loader alone, batch {options.batch_size}, num_workers {number}"
            report.comparisons.append(compare(loading, "rows_per_second", what, "rows/s", "higher"))
            report.comparisons.append(share(measured, number))
            step = min(each["batch"] for each in measured[STEP]), max(each["batch"] for each in measured[STEP])
            report.notes.append(f"num_workers {number}: a step of the same rows {step[0]:.3f} - {step[1]:.3f} s")
    report.notes += [
        "a round is an epoch of the loader, then a bare loop of forward, backward, clipping and fused AdamW in float32",
        "worker processes persist from round to round; their start is in the warm-up. With workers a batch is mostly "
        "loaded during the step, so that the share is what it costs on cores that are busy anyway, not what it adds",
    ]
    return report.write()


if __name__ == "__main__":
    main()
