"""Peak memory of preparing rows, and of reading 1,000 batches of them, over the number of rows; fresh processes.

python benchmarks/memory.py --rows 20000 200000 2000000
"""

import argparse
import shutil
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from harness import OURS, Comparison, Measured, Report, alternate, compare, parser, work_folder
from processes import in_own_process, status
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

REFERENCE = "load_dataset + map(batched=True)"
SIZES = [20_000, 200_000, 2_000_000]
BATCH, BATCHES = 32, 1000
LIBRARIES = "libraries"


def ours(work: Workload, folder: Path, batches: int) -> Measured:
    """Prepares the rows with lit_ft, or finds them prepared, and reads batches."""
    from lit_ft import TextClassificationDataModule  # noqa: F401

    loaded = status("self", "RssAnon")
    data = data_module(work, folder, batch_size=BATCH)
    data.prepare_data()
    if batches:
        data.setup("fit")
        _read(data.train_dataloader(), batches)
    return {LIBRARIES: loaded}


def theirs(work: Workload, folder: Path, batches: int) -> Measured:
    """The same by the scripts' way."""
    import datasets  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoTokenizer, DataCollatorWithPadding  # noqa: F401

    loaded = status("self", "RssAnon")
    tokenizer = load_tokenizer(work)
    features = map_rows(load_rows(work, folder), work, tokenizer)
    if batches:
        _read(reference_loader(features, tokenizer, BATCH), batches)
    return {LIBRARIES: loaded}


def _read(loader: Any, batches: int) -> None:
    epochs = (batch for _ in cycle([None]) for batch in loader)
    for _ in islice(epochs, batches):
        pass


def all_rows(work: Workload, folder: Path) -> tuple[Any, Any]:
    """Reads every row both ways, to compare them; runs in a process of its own."""
    data = data_module(work, folder / "ours", batch_size=1000)
    data.setup("fit")
    tokenizer = load_tokenizer(work)
    features = map_rows(load_rows(work, folder / "theirs"), work, tokenizer)
    return digests(data.train_dataloader()), digests(reference_loader(features, tokenizer, 1000))


def prepared(fresh: Any, side: Callable[..., Measured], work: Workload, folder: Path, batches: int) -> Measured:
    """Runs one side in a process of its own and returns its peaks in MB."""
    measured, peak = fresh(side, work, folder, batches)
    return {"anonymous": peak.anonymous, "rss": peak.rss, **measured}


def one_size(options: argparse.Namespace, rows: int, folder: Path, fresh: Any, report: Report) -> list[Comparison]:
    """Measures both phases for one number of rows."""
    work = workload(options, folder, rows)
    name = Path(options.train_file).name if options.train_file else f"{rows:,} rows"
    sides = {OURS: (ours, folder / "ours"), REFERENCE: (theirs, folder / "theirs")}
    comparisons = []
    for batches, phase in ((0, "preparation"), (options.batches, f"opening and reading {options.batches:,} batches")):

        def contestant(side: Any, place: Path, batches: int = batches) -> Measured:
            if not batches and place.exists():
                shutil.rmtree(place)
            return prepared(fresh, side, work, place, batches)

        contestants = {which: partial(contestant, side, place) for which, (side, place) in sides.items()}
        measured = alternate(contestants, options.rounds, options.warmup)
        comparisons += [
            compare(measured, "anonymous", f"{name}: {phase}, peak anonymous memory", "MB", "lower"),
            compare(measured, "rss", f"{name}: {phase}, peak resident memory", "MB", "lower"),
        ]
        if not report.checks:
            (mine, other), _ = fresh(all_rows, work, folder)
            report.checks.append(check_equal(mine, other, REFERENCE))
            libraries = {which: each[0][LIBRARIES] for which, each in measured.items()}
            report.notes.append(
                "anonymous memory after the imports, in the numbers: "
                + ", ".join(f"{which} {value:.0f} MB" for which, value in libraries.items())
            )
    return comparisons


def growth(comparisons: list[Comparison]) -> list[str]:
    """Says how far each peak grows from the first to the last number of rows."""
    by_peak: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_peak.setdefault(comparison.what.split(": ", 1)[1], []).append(comparison)
    notes = []
    for peak, sizes in by_peak.items():
        first, last = sizes[0], sizes[-1]
        if first is not last:
            grown = {name: median(last.values[name]) - median(values) for name, values in first.values.items()}
            said = ", ".join(f"{name} {more:+.0f} MB" for name, more in grown.items())
            notes.append(f"{peak}, {first.what.split(':')[0]} -> {last.what.split(':')[0]}: {said}")
    return notes


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Measures every size, writes the report."""
    made = parser(__doc__, rows=None, rounds=1, warmup=0)
    made.add_argument("--rows", type=int, nargs="+", default=SIZES, help="numbers of rows to generate")
    made.add_argument("--batches", type=int, default=BATCHES, help=f"batches of {BATCH} to read (default {BATCHES})")
    options = made.parse_args(arguments)
    report = Report("memory", options, rounds_needed=1)
    fresh = partial(in_own_process, start_method=start_method)
    with work_folder(options) as folder:
        for rows in [0] if options.train_file else options.rows:
            place = folder / str(rows)
            place.mkdir()
            report.comparisons += one_size(options, rows, place, fresh, report)
    report.notes += growth(report.comparisons)
    report.notes += [
        "anonymous: what the process and those it starts hold for themselves (RssAnon, looked at every 10 ms)",
        "resident: the kernel's own peak of the process (VmHWM); pages of memory-mapped files count in it, though the "
        "kernel drops them when it needs the room",
        "memory, unlike time, hardly differs between rounds: one round is the default here",
    ]
    return report.write()


if __name__ == "__main__":
    main()
