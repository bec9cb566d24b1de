"""Steps on blocks of text, each side in a process of its own: what it is told, how it trains, what it says."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus import text_parser
from harness import Comparison, Measured, Round, alternate, compare
from processes import in_own_process, status

if TYPE_CHECKING:
    from flops import EncoderDecoderCost, ModelCost

WARMUP_STEPS = 1
"""Steps of a process that are not counted."""
LIBRARIES = "libraries"


@dataclass(frozen=True)
class TextWork:
    """What one side is told about a run of training; plain values, for it runs in a process of its own.

    Attributes:
        model: folder of the start weights and of the tokenizer.
        file: the text.
        folder: with the blocks that lit_ft prepared (`ours`), and the same as a data set (`theirs`).
        block_size: tokens of a block.
        batch_size: blocks a step.
        steps: steps that count; `WARMUP_STEPS` come before them.
        seed: of training.
        accelerator: Lightning's word for where it runs.
        isolated: whether documents of a block are kept apart.
        cost: of the model.
        precision: Lightning's word.
    """

    model: str
    file: Path
    folder: Path
    block_size: int
    batch_size: int
    steps: int
    seed: int
    accelerator: str
    isolated: bool = False
    cost: "EncoderDecoderCost | ModelCost | None" = None
    precision: str = "32-true"

    @property
    def all_steps(self) -> int:
        """Steps of a run, those that are not counted included."""
        return WARMUP_STEPS + self.steps

    @property
    def tokens(self) -> int:
        """Tokens of all steps."""
        return self.all_steps * self.batch_size * self.block_size


Side = Callable[[TextWork], tuple[Measured, list[float]]]


def step_parser(doc: str | None, steps: int) -> argparse.ArgumentParser:
    """Makes the command line of a benchmark of steps on text.

    Args:
        doc: the benchmark's docstring.
        steps: steps of a round that count unless the user says otherwise.
    """
    made = text_parser(doc, warmup=0)
    made.add_argument("--steps", type=int, default=steps, help=f"steps of a round that count (default {steps})")
    made.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    made.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    return made


def cost_of(folder: str, auto_class: Any) -> "ModelCost":
    """Returns what a pass of the model in a folder costs."""
    from flops import ModelCost

    return ModelCost.of(auto_class.from_pretrained(folder))


def by_lightning(work: TextWork, module: Any, data: Any) -> tuple[Measured, list[float]]:
    """Trains with lit_ft; returns what was measured and all losses."""
    from lightning.pytorch import seed_everything
    from training import LightningMeter, Meter, lightning_trainer

    loaded, meter = status("self", "RssAnon"), Meter(WARMUP_STEPS, work.cost)
    seed_everything(work.seed, verbose=False)
    limits = {"max_steps": work.all_steps, "precision": work.precision}
    lightning_trainer(work.accelerator, LightningMeter(meter), **limits).fit(module, data)
    return {**meter.measured(), LIBRARIES: loaded}, [float(loss) for loss in meter.losses]


def by_trainer(work: TextWork, auto_class: Any, collator: Any, folder: str = "theirs") -> tuple[Measured, list[float]]:
    """Trains with Hugging Face's Trainer on the blocks saved in a folder, in their order."""
    import torch
    from datasets import load_from_disk
    from training import Meter, hugging_face_trainer

    loaded, meter = status("self", "RssAnon"), Meter(WARMUP_STEPS, work.cost)
    model = auto_class.from_pretrained(work.model, dtype=torch.float32)
    settings = {"max_steps": work.all_steps, "train_sampling_strategy": "sequential"}
    given = {"train_dataset": load_from_disk(str(work.folder / folder)), "data_collator": collator}
    hugging_face_trainer(work, model, work.folder, meter, settings, **given).train()
    return {**meter.measured(), LIBRARIES: loaded}, [float(loss) for loss in meter.losses]


def measure(
    sides: Mapping[str, Side], work: TextWork, options: argparse.Namespace, start_method: str
) -> tuple[dict[str, list[Measured]], dict[str, list[list[float]]], str]:
    """Trains in turn, and has the machine take its turn in this process.

    Returns:
        What `train_in_turn` returns; what the machine's peak was.
    """
    from flops import PEAK, gemm_peak, with_utilisation

    peak = gemm_peak("cuda" if work.accelerator == "gpu" else "cpu", work.precision)
    measured, losses = train_in_turn(sides, work, options, start_method, {PEAK: peak})
    return measured, losses, with_utilisation(measured)


def train_in_turn(
    sides: Mapping[str, Side],
    work: TextWork,
    options: argparse.Namespace,
    start_method: str,
    beside: Mapping[str, Round] | None = None,
) -> tuple[dict[str, list[Measured]], dict[str, list[list[float]]]]:
    """Trains in turn, every round of every side in a new process.

    Args:
        sides: the contestants.
        work: what they are told.
        options: `rounds` and `warmup`.
        start_method: of processes.
        beside: what takes its turn in this process.

    Returns:
        What was measured, and all losses, of every round, by side.
    """
    losses: dict[str, list[list[float]]] = {name: [] for name in sides}

    def contestant(name: str) -> Measured:
        (measured, found), peak = in_own_process(sides[name], work, start_method=start_method)
        losses[name].append(found)
        return {**measured, "memory": measured.get("device_memory", peak.anonymous)}

    contestants: dict[str, Round] = {name: partial(contestant, name) for name in sides}
    return alternate({**contestants, **(beside or {})}, options.rounds, options.warmup), losses


def comparisons(measured: Mapping[str, list[Measured]], name: str) -> list[Comparison]:
    """Compares time, rate, memory and utilisation."""
    from flops import utilisation

    return [*step_comparisons(measured, name), utilisation(measured, f"{name}: ")]


def step_comparisons(measured: Mapping[str, list[Measured]], name: str) -> list[Comparison]:
    """Compares time, rate and memory."""
    return [
        compare(measured, "step", f"{name}: a step", "s", "lower"),
        compare(measured, "tokens", f"{name}: tokens", "1/s", "higher"),
        compare(measured, "memory", f"{name}: peak memory", "MB", "lower"),
    ]


def process_notes(measured: Mapping[str, list[Measured]], work: TextWork) -> list[str]:
    """Says how the numbers came about."""
    libraries = ", ".join(f"{name} {rounds[0][LIBRARIES]:.0f} MB" for name, rounds in measured.items())
    where = "the device's greatest allocation" if work.accelerator == "gpu" else "anonymous (RssAnon every 10 ms)"
    return [
        f"every round of every side is a new process; {WARMUP_STEPS} step comes before the {work.steps} that count; "
        "loading the model and preparing the text are not timed, the loader is",
        f"peak memory: {where}, of the whole process; after the imports it held {libraries}",
        f"{work.precision}, fused AdamW, learning rate 5e-5 with linear decay, clipping 1.0",
    ]
