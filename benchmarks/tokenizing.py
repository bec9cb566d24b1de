"""Rows a second from a file to prepared rows, and of tokenization alone, against `Dataset.map`.

python benchmarks/tokenizing.py --rows 200000
python benchmarks/tokenizing.py --train_file train.csv --text text --label label
"""

import argparse
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import OURS, Measured, Report, Round, alternate, compare, parser, work_folder
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

BATCHED, ROWWISE, CALL = "map(batched=True)", "map, row by row", "tokenizer(), in batches"


def from_file(work: Workload, folder: Path, rowwise_rows: int | None) -> dict[str, Round]:
    """Makes the contestants that begin with the file and end with prepared rows on disk, nothing of which was there."""

    def ours() -> Measured:
        start = time.perf_counter()
        data = data_module(work, folder / "ours")
        data.prepare_data()
        seconds = time.perf_counter() - start
        data.setup("fit")
        rows = len(data.features["train"][""])
        shutil.rmtree(folder / "ours")
        return {"rows_per_second": rows / seconds}

    def theirs(batched: bool) -> Measured:
        start = time.perf_counter()
        rows = load_rows(work, folder / "theirs")
        if not batched and rowwise_rows is not None:
            rows = rows.select(range(min(rowwise_rows, len(rows))))
        map_rows(rows, work, load_tokenizer(work), batched)
        seconds = time.perf_counter() - start
        shutil.rmtree(folder / "theirs")
        return {"rows_per_second": len(rows) / seconds}

    return {OURS: ours, BATCHED: lambda: theirs(True), ROWWISE: lambda: theirs(False)}


def alone(work: Workload, folder: Path, batch_rows: int) -> dict[str, Round]:
    """Makes the contestants that begin with rows in memory and end with token ids in memory."""
    rows, tokenizer = load_rows(work, folder / "memory"), load_tokenizer(work)
    texts: list[str] = rows[work.text][:]
    encoder = data_module(work, folder / "ours").encoder

    def batches() -> Iterator[list[str]]:
        return (texts[start : start + batch_rows] for start in range(0, len(texts), batch_rows))

    def timed(run: Any) -> Round:
        def measured() -> Measured:
            start = time.perf_counter()
            kept = run()  # alive until the clock has stopped: nobody's freeing is timed
            seconds = time.perf_counter() - start
            del kept
            return {"rows_per_second": len(texts) / seconds}

        return measured

    def mapped() -> Any:
        return map_rows(rows, work, tokenizer, batch_size=batch_rows, keep_in_memory=True, load_from_cache_file=False)

    def called() -> Any:
        return [tokenizer(batch, truncation=True, max_length=work.max_seq_length) for batch in batches()]

    return {
        OURS: timed(lambda: [encoder(batch) for batch in batches()]),
        CALL: timed(called),
        BATCHED: timed(mapped),
    }


def check(work: Workload, folder: Path) -> str:
    """Prepares the rows both ways and compares all of them."""
    data = data_module(work, folder / "checked", batch_size=1000)
    data.prepare_data()
    data.setup("fit")
    tokenizer = load_tokenizer(work)
    features = map_rows(load_rows(work, folder / "memory"), work, tokenizer)
    said = check_equal(digests(data.train_dataloader()), digests(reference_loader(features, tokenizer, 1000)), BATCHED)
    shutil.rmtree(folder / "checked")
    return said


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Checks, times, writes the report."""
    made = parser(__doc__, rows=200_000)
    made.add_argument("--rowwise_rows", type=int, help="rows of the row-wise map, which is slow (default: all)")
    made.add_argument("--batch_rows", type=int, default=1000, help="rows a call of tokenization alone (default: map's)")
    options: argparse.Namespace = made.parse_args(arguments)
    report = Report("tokenizing", options)
    with work_folder(options) as folder:
        work = workload(options, folder, options.rows)
        report.checks.append(check(work, folder))
        for contestants, what in (
            (from_file(work, folder, options.rowwise_rows), "from the file to prepared rows on disk"),
            (alone(work, folder, options.batch_rows), "tokenization alone, from texts to token ids in memory"),
        ):
            measured = alternate(contestants, options.rounds, options.warmup)
            report.comparisons.append(compare(measured, "rows_per_second", what, "rows/s", "higher"))
    report.notes += [
        "from the file: every side loads its tokenizer, reads the file, writes prepared rows into an empty folder; "
        "lit_ft's time includes its checks of the rows",
        f"tokenization alone: {options.batch_rows:,} rows a call; lit_ft goes from strings to flat arrays, tokenizer() "
        "from strings to lists, map from an Arrow table to another in memory (it writes no file here), with the labels",
    ]
    if options.rowwise_rows is not None:
        report.notes.append(f"the row-wise map ran on the first {options.rowwise_rows:,} rows only")
    return report.write()


if __name__ == "__main__":
    main()
