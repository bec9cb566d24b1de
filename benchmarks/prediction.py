"""Speed of prediction: rows a second of lit_ft's `trainer.predict` against Hugging Face's `Trainer.predict`.

    python benchmarks/prediction.py --rows 20000

From the loader to every row's scores, prepared rows and a loaded model given. The Trainer predicts in input order, and
sorted by length as people do it by hand: sorted before, put back after, both timed.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from classification_step import Job, load, start_folder
from flops import PEAK, ModelCost, gemm_peak, utilisation, with_utilisation
from harness import OURS, Measured, Report, alternate, compare, parser, work_folder
from training import Meter, PredictionClock, hugging_face_trainer, lightning_trainer
from transformers import DataCollatorWithPadding
from workload import SHAPES, describe_lengths, label_names, load_rows, load_tokenizer, map_rows, workload

from lit_ft import TextClassificationModule

REFERENCE, SORTED = "Trainer.predict", "Trainer.predict, sorted by length"
OURS_PADDED = "lit_ft, padding_free off"
ALLOWED = {"32-true": 1e-5, "bf16-mixed": 3e-2}
"""How far probabilities may differ."""

Scores = dict[str, npt.NDArray[np.float64]]
Side = Callable[[Job, Any], tuple[float, Scores]]


def by_lit_ft(job: Job, features: Any, **module_options: Any) -> tuple[float, Scores]:
    """Predicts with lit_ft; returns seconds, and the probabilities of every text."""
    clock = PredictionClock()
    trainer = lightning_trainer(job.options.accelerator, clock, precision=job.options.precision)
    module = TextClassificationModule(model_name_or_path=job.model, **module_options)
    data = job.data(predict_file=str(job.work.file), max_predict_samples=len(features), sample_head=True)
    batches: Any = trainer.predict(module, data)
    scores = {row[job.work.text]: np.array(list(row["scores"].values())) for batch in batches for row in batch}
    return clock.seconds, scores


def by_trainer(job: Job, features: Any, by_length: bool = False) -> tuple[float, Scores]:
    """Predicts with the Trainer; see `by_lit_ft`."""
    settings = {"per_device_eval_batch_size": job.options.batch_size}
    collator = DataCollatorWithPadding(load_tokenizer(job.work))
    trainer = hugging_face_trainer(job.options, load(job.model), job.folder, Meter(), settings, data_collator=collator)
    rows = features.remove_columns([job.work.text])
    started = Meter.now()
    order = np.argsort([-len(ids) for ids in rows["input_ids"]], kind="stable") if by_length else np.arange(len(rows))
    found: Any = trainer.predict(rows.select(order) if by_length else rows)
    logits = np.empty_like(found.predictions)
    logits[order] = found.predictions
    scores = torch.from_numpy(logits).float().softmax(-1).double().numpy()
    seconds = Meter.now() - started
    return seconds, dict(zip(features[job.work.text], scores, strict=True))


def check(ours: Scores, theirs: Scores, name: str, allowed: float) -> str:
    """Returns the sentence that both predict the same.

    Raises:
        RuntimeError: a probability differs by more than is allowed, or a label does where no other is as probable.
    """
    if ours.keys() != theirs.keys():
        raise RuntimeError(f"{OURS} has {len(ours)} texts, {name} {len(theirs)}")
    furthest = max(float(np.abs(scores - theirs[text]).max()) for text, scores in ours.items())
    other = sum(float(theirs[text].max() - theirs[text][scores.argmax()]) > allowed for text, scores in ours.items())
    if not furthest <= allowed or other:
        raise RuntimeError(f"{OURS} and {name}: scores differ by up to {furthest:.2e}, {other} labels are others")
    return f"{name}: the labels of {len(ours)} texts are the same, their scores within {furthest:.1e}"


def sides() -> dict[str, Side]:
    """Returns the contestants."""
    padded, by_length = partial(by_lit_ft, padding_free="off"), partial(by_trainer, by_length=True)
    return {OURS: by_lit_ft, REFERENCE: by_trainer, SORTED: by_length, OURS_PADDED: padded}


def timed(side: Side, job: Job, features: Any, flops: float) -> Measured:
    """Predicts all rows."""
    seconds, _ = side(job, features)
    return {"rows": len(features) / seconds, "flops": flops / seconds}


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    made = parser(__doc__, rows=20_000)
    made.add_argument("--workload", choices=SHAPES, default="short", help="lengths of the rows (default short)")
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--accelerator", choices=["cpu", "gpu"], default="gpu" if torch.cuda.is_available() else "cpu")
    made.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    made.add_argument("--check_rows", type=int, default=200, help="rows whose scores must agree (default 200)")
    return made.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Checks, times, writes the report."""
    options = read_options(arguments)
    report = Report("prediction", options)
    with work_folder(options) as folder:
        work = workload(options, folder, options.rows, SHAPES[options.workload])
        rows = load_rows(work, folder / "theirs")
        features, labels = map_rows(rows, work, load_tokenizer(work)), label_names(rows, work)
        features = features.add_column(work.text, rows[work.text])
        model = start_folder(work, folder / "model", labels, options.seed, True)
        job = Job(options, work, model, folder, ModelCost.of(load(model)))
        few = features.select(range(min(options.check_rows, len(features))))
        (_, mine), *others = (side(job, few) for side in sides().values())
        for name, (_, scores) in zip(list(sides())[1:], others, strict=True):
            report.checks.append(check(mine, scores, name, ALLOWED[options.precision]))
        lengths = torch.tensor([len(ids) for ids in features["input_ids"]])
        counts = torch.stack(
            [torch.tensor(len(lengths)), lengths.sum(), (lengths**2).sum(), torch.tensor(len(lengths))]
        )
        contestants: dict[str, Any] = {
            name: partial(timed, side, job, features, job.cost.forward(counts)) for name, side in sides().items()
        }
        contestants[PEAK] = gemm_peak("cuda" if options.accelerator == "gpu" else "cpu", options.precision)
        measured = alternate(contestants, options.rounds, options.warmup)
    report.notes += [
        describe_lengths(lengths.numpy()),
        with_utilisation(measured),
        f"{options.precision}, batches of {options.batch_size}; timed from the loader to the scores of every row; "
        "loading the model and preparing the rows are not",
    ]
    report.comparisons = [compare(measured, "rows", "rows predicted", "1/s", "higher"), utilisation(measured)]
    return report.write()


if __name__ == "__main__":
    main()
