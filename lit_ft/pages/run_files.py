"""What a run left in its folder, read from there alone: a run that was killed has as much to show."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

CONFIG, METRICS, RECORD = "config.yaml", "metrics.csv", "run.json"
SUMMARY, SAMPLES = "data_summary.json", "samples.jsonl"
"""What the files are called; what writes them takes the names from here."""
Series = list[tuple[int, float]]
"""Step and value."""
STAGES = ("val", "test")
STEP = "step"
COLUMNS = (
    "label", "precision", "recall", "f1", "support", "question_type", "count", "answerable", "exact_match",
)  # fmt: skip
"""Those of a table of labels, or of types of questions, that people see."""


@dataclass
class RunFiles:
    """A run.

    Attributes:
        folder: where it lies.
        series: what was logged, by name.
        commands: what was run, with machine and end.
        versions: of packages.
        config: as the run had it; empty = it is not there.
        evaluations: by stage: step, metrics, and sets with intervals, mistakes, and how well each label is found.
        samples: texts that were generated of prompts.
        data: what the sets hold, and findings.
    """

    folder: Path
    series: dict[str, Series] = field(default_factory=dict)
    commands: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.folder.name

    @property
    def title(self) -> str:
        """What was trained from what."""
        model = self.config.get("model") or {}
        options = model.get("init_args") or {}
        base = options.get("model_name_or_path") or options.get("model_type") or "a model"
        module = str(model.get("class_path") or "").rpartition(".")[2] or "run"
        return f"{module}: {str(base).removeprefix('package://')}"

    @property
    def status(self) -> str:
        """How its last command ended."""
        if not self.commands:
            return "nothing is known of its commands"
        last = self.commands[-1]
        if last["ended"] is None:
            return f"{last['command']} did not end: it is running, or was killed"
        return f"{last['command']}: {last['status']}"

    @property
    def final(self) -> dict[str, float]:
        """Each metric of an evaluation, those of tests first: as the record has it, else its last value."""
        last = {name: self.series[name][-1][1] for name in in_order(self.series) if name.startswith(("val_", "test_"))}
        return {name: recorded if (recorded := self._recorded(name)) is not None else last[name] for name in last}

    def step(self, metric: str) -> int | None:
        """Returns the step of the weights that a metric on record is of."""
        return None if self._recorded(metric) is None else int(self.evaluations[metric.partition("_")[0]][STEP])

    def _recorded(self, metric: str) -> float | None:
        value = self.evaluations.get(metric.partition("_")[0], {}).get("metrics", {}).get(metric, math.nan)
        return float(value) if math.isfinite(value) else None

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Returns between what another such set would score by a metric, where that is known."""
        stage, _, rest = metric.partition("_")
        sets = self.evaluations.get(stage, {}).get("sets", [])
        for one in sets:
            name = rest.removeprefix(f"{one['name']}_") if len(sets) > 1 and one["name"] else rest
            found = one.get("intervals", {}).get(name)
            if found and (one is sets[0] or name != rest):
                return found[0], found[1]
        return None


def evaluation_file(stage: str) -> str:
    """Returns what the record of an evaluation is called."""
    return f"evaluation.{stage}.json"


def in_order(metrics: Iterable[str]) -> list[str]:
    """Returns names of metrics, those of tests first."""
    return sorted(metrics, key=lambda name: (not name.startswith("test_"), name))


def read_run(folder: Path) -> RunFiles:
    """Reads a run's folder; what is not there is empty."""
    record = _json(folder / RECORD, {})
    config = folder / CONFIG
    return RunFiles(
        folder,
        read_metrics(folder / METRICS),
        record.get("commands", []),
        record.get("versions", {}),
        yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else {},
        {stage: found for stage in STAGES if (found := _json(folder / evaluation_file(stage), None))},
        _lines(folder / SAMPLES),
        _json(folder / SUMMARY, {}),
    )


def read_metrics(path: Path) -> dict[str, Series]:
    """Reads `metrics.csv`: a series for each column, without gaps and what is no number."""
    found: dict[str, Series] = {}
    for row in _rows(path):
        if not (row.get(STEP) or "").isdecimal():
            continue
        for name, cell in row.items():
            if name in (None, STEP) or not cell:
                continue
            value = float(cell)
            if math.isfinite(value):
                found.setdefault(name, []).append((int(row[STEP]), value))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _json(path: Path, missing: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else missing


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
