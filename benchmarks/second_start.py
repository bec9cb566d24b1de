"""Seconds from "imports done" to the first training batch when the rows were prepared before, in fresh processes.

python benchmarks/second_start.py --rows 1000000
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness import OURS, Measured, Report, alternate, compare, parser, work_folder
from processes import in_own_process
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

REFERENCE = "load_dataset + map, cached"
BATCH = 32


def ours(work: Workload, folder: Path) -> tuple[Measured, Any]:
    """Starts lit_ft's data module; returns seconds and the loader."""
    start = time.perf_counter()
    from lit_ft import TextClassificationDataModule  # noqa: F401

    imported = time.perf_counter()
    data = data_module(work, folder, batch_size=BATCH)
    data.prepare_data()
    data.setup("fit")
    loader = data.train_dataloader()
    next(iter(loader))
    return _seconds(start, imported), loader


def theirs(work: Workload, folder: Path) -> tuple[Measured, Any]:
    """Starts the scripts' way; returns seconds and the loader."""
    start = time.perf_counter()
    import datasets  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoTokenizer, DataCollatorWithPadding  # noqa: F401

    imported = time.perf_counter()
    tokenizer = load_tokenizer(work)
    loader = reference_loader(map_rows(load_rows(work, folder), work, tokenizer), tokenizer, BATCH)
    next(iter(loader))
    return _seconds(start, imported), loader


def _seconds(start: float, imported: float) -> Measured:
    return {"imports": imported - start, "start": time.perf_counter() - imported}


def started(side: Callable[..., tuple[Measured, Any]], work: Workload, folder: Path) -> Measured:
    """Starts one side and forgets the loader; runs in a process of its own."""
    return side(work, folder)[0]


def started_and_read(side: Callable[..., tuple[Measured, Any]], work: Workload, folder: Path) -> tuple[Measured, Any]:
    """Starts one side and reads every row; runs in a process of its own."""
    seconds, loader = side(work, folder)
    return seconds, digests(loader)


def arrow_files(folder: Path) -> dict[Path, int]:
    """Returns the prepared files below a folder, with the time of their last change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.arrow")}


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Prepares and checks once, times the starts after that, writes the report."""
    options = parser(__doc__, rows=1_000_000).parse_args(arguments)
    report = Report("second_start", options)
    fresh = partial(in_own_process, start_method=start_method)
    with work_folder(options) as folder:
        work = workload(options, folder, options.rows)
        sides = {OURS: (ours, folder / "ours"), REFERENCE: (theirs, folder / "theirs")}
        read = []
        for name, (side, place) in sides.items():
            (first, found), _ = fresh(started_and_read, side, work, place)
            read.append(found)
            report.notes.append(f"first start, which prepares the rows: {name} {first['start']:.1f} s (once, untimed)")
        report.checks.append(check_equal(read[0], read[1], REFERENCE))
        before = arrow_files(folder)
        contestants = {
            name: partial(_start, fresh, side, work, place)  # a fresh process each time
            for name, (side, place) in sides.items()
        }
        measured = alternate(contestants, options.rounds, options.warmup)
        if arrow_files(folder) != before:
            raise RuntimeError("a second start wrote Arrow files: it was no second start")
        report.checks.append("no second start wrote or changed a prepared file: all found what the first had left")
    report.comparisons = [
        compare(measured, "start", "from imports done to the first batch of 32", "s", "lower"),
        compare(measured, "imports", "imports (lit_ft's include Lightning)", "s", "lower"),
    ]
    return report.write()


def _start(fresh: Any, side: Any, work: Workload, place: Path) -> Measured:
    return fresh(started, side, work, place)[0]  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
