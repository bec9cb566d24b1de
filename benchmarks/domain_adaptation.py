"""Does an encoder learn a domain's language as fast with lit_ft as with Hugging Face's Trainer? Accuracy over steps.

    python benchmarks/domain_adaptation.py --train_file train.csv --validation_file test.csv --text text
    python benchmarks/domain_adaptation.py --train_file train.csv --validation_file test.csv --classify --label label

Both start from the same weights (the head is fresh) and train on the same blocks; orders, masks and dropout differ by
seed and side, and each round has a seed of its own. Both are scored by the same lines on the same masked batches.
With `--classify`, what lit_ft adapted is then trained to classify the same rows, against what it began with.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
import trainer_parity
from corpus import own_model
from harness import OURS, Comparison, Measured, Report, alternate, common_parser, compare, work_folder
from lightning.pytorch import Callback, seed_everything
from training import Meter, hugging_face_trainer, lightning_trainer
from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling, TrainerCallback

from lit_ft import MaskedLMDataModule, MaskedLMModule
from lit_ft.data.labels import IGNORED

REFERENCE = "Trainer"
TRAIN, VALIDATION = (f"package://lit_ft/sample_data/{name}.jsonl" for name in ("train", "validation"))


class Curve:
    """Scores a model after some steps, and times the training between them.

    Args:
        steps: after which it scores.
        batches: masked, the same for all.
    """

    def __init__(self, steps: list[int], batches: list[Any]) -> None:
        self.steps, self.batches = steps, batches
        self.scores: dict[int, float] = {}
        self.seconds = self.started = 0.0

    def start(self) -> None:
        """Training begins."""
        self.started = time.perf_counter()

    def stepped(self, step: int, model: Any) -> None:
        """Step number `step` has ended."""
        if step in self.steps:
            self.seconds += time.perf_counter() - self.started
            self.scores[step] = masked_accuracy(model, self.batches)
            self.started = time.perf_counter()

    def measured(self) -> Measured:
        """Returns the accuracy after each of the steps, and the seconds of training."""
        return {**{f"accuracy {step}": self.scores[step] for step in self.steps}, "seconds": self.seconds}


class LightningCurve(Callback):
    """Tells a curve what Lightning's Trainer does."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    def on_train_start(self, *_: Any) -> None:
        """Training begins."""
        self.curve.start()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        """A step has ended."""
        self.curve.stepped(trainer.global_step, module.model)


class HuggingFaceCurve(TrainerCallback):
    """Tells a curve what Hugging Face's Trainer does."""

    def __init__(self, curve: Curve) -> None:
        self.curve = curve

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Training begins."""
        self.curve.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """A step has ended."""
        self.curve.stepped(state.global_step, given["model"])


@torch.no_grad()
def masked_accuracy(model: Any, batches: list[Any]) -> float:
    """Returns in how many of a hundred masked places the likeliest token is the right one."""
    training, right, places = model.training, 0, 0
    model.eval()
    for batch in batches:
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        labels = batch["labels"].to(model.device)
        predicted = model(**inputs).logits.argmax(-1)
        right += int((predicted == labels).sum())
        places += int((labels != IGNORED).sum())
    model.train(training)
    return 100 * right / places


def data_module(options: argparse.Namespace, model: str, folder: Path, seed: int) -> MaskedLMDataModule:
    """Makes lit_ft's data module; `seed` is that of orders and masks."""
    return MaskedLMDataModule(
        model_name_or_path=model,
        train_file=options.train_file,
        validation_file=options.validation_file,
        text_column_name=options.text,
        max_seq_length=options.max_seq_length,
        batch_size=options.batch_size,
        data_seed=seed,
        preparation_dir=str(folder / "ours"),
    )


def ours(options: argparse.Namespace, model: str, folder: Path, curve: Curve, seed: int) -> None:
    """Trains with lit_ft, and saves what came of it."""
    seed_everything(seed, verbose=False)
    module = MaskedLMModule(model_name_or_path=model, learning_rate=options.learning_rate)
    limits = {"max_epochs": options.epochs, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    lightning_trainer("cpu", LightningCurve(curve), **limits).fit(module, data_module(options, model, folder, seed))
    assert module.model is not None
    module.model.save_pretrained(folder / f"adapted-{seed}")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / f"adapted-{seed}")


def theirs(options: argparse.Namespace, model: str, folder: Path, curve: Curve, seed: int) -> None:
    """Trains with the Trainer and the collator of run_mlm on the same blocks."""
    from datasets import load_from_disk

    loaded = AutoModelForMaskedLM.from_pretrained(model, dtype=torch.float32)
    trainer = hugging_face_trainer(
        argparse.Namespace(batch_size=options.batch_size, seed=seed, accelerator="cpu", precision="32-true"),
        loaded,
        folder,
        Meter(),
        {"num_train_epochs": options.epochs, "learning_rate": options.learning_rate},
        train_dataset=load_from_disk(str(folder / "theirs")),
        data_collator=DataCollatorForLanguageModeling(AutoTokenizer.from_pretrained(model)),
    )
    trainer.add_callback(HuggingFaceCurve(curve))
    trainer.train()


def adapt(options: argparse.Namespace, model: str, folder: Path, report: Report) -> None:
    """Trains both sides round by round, and compares their accuracies."""
    data = data_module(options, model, folder, options.seed)
    data.prepare_data()
    data.setup("fit")
    batches = list(data.val_dataloader()[0])
    write_blocks(data, folder / "theirs")
    blocks = len(data.features["train"][""])
    total = math.ceil(blocks / options.batch_size) * options.epochs
    steps = sorted({math.ceil(total * number / options.evaluations) for number in range(1, options.evaluations + 1)})

    def contestant(train: Callable[..., None], seeds: Iterator[int]) -> Measured:
        curve = Curve(steps, batches)
        train(options, model, folder, curve, next(seeds))
        return curve.measured()

    sides = {name: partial(contestant, side, count(options.seed)) for name, side in ((OURS, ours), (REFERENCE, theirs))}
    measured = alternate(sides, options.rounds, warmup=0)
    adapted = str(folder / f"adapted-{options.seed}")
    report.checks.append(check_score(data, adapted, batches))
    report.comparisons += [
        compare(measured, f"accuracy {step}", f"masked accuracy after {step} steps", "%", "higher") for step in steps
    ]
    report.comparisons.append(
        compare(measured, "seconds", f"{total} steps of training, evaluation left out", "s", "lower")
    )
    start = masked_accuracy(AutoModelForMaskedLM.from_pretrained(model, dtype=torch.float32), batches)
    places = sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
    report.notes.append(
        f"{blocks:,} blocks of at most {options.max_seq_length} tokens to train on, {places:,} masked places to score; "
        f"accuracy before training {start:.2f} %"
    )


def write_blocks(data: MaskedLMDataModule, folder: Path) -> None:
    """Saves the training blocks as the Trainer takes them."""
    from datasets import Dataset

    blocks = data.features["train"][""]
    ids = [blocks[number]["input_ids"].tolist() for number in range(len(blocks))]
    Dataset.from_dict({"input_ids": ids}).save_to_disk(str(folder))


def check_score(data: MaskedLMDataModule, model: str, batches: list[Any]) -> str:
    """Scores the same weights with lit_ft's own metric.

    Raises:
        RuntimeError: it counts otherwise.
    """
    found = masked_accuracy(AutoModelForMaskedLM.from_pretrained(model, dtype=torch.float32), batches)
    [scores] = lightning_trainer("cpu").validate(MaskedLMModule(model_name_or_path=model), data, verbose=False)
    if abs(found - 100 * scores["val_accuracy"]) > 0.02:
        raise RuntimeError(f"masked accuracy {found:.3f} %, but val_accuracy is {scores['val_accuracy']:.5f}")
    return f"lit_ft's val_accuracy of adapted weights is what is counted here: {found:.2f} %"


def classify(options: argparse.Namespace, model: str, folder: Path) -> list[Comparison]:
    """Trains classifiers, one epoch each, from adapted weights and from those that they began with."""

    def contestant(start: Callable[[int], str], seeds: Iterator[int]) -> Measured:
        seed = next(seeds)
        asked = argparse.Namespace(
            model=start(seed),
            train=options.train_file,
            test=options.validation_file,
            text=options.text,
            label=options.label,
            pair=None,
            quoting="minimal",
            max_train_samples=options.classify_samples,
            max_eval_samples=None,
        )
        return {name: 100 * value for name, value in trainer_parity.ours(asked, seed).items()}

    sides = {
        "adapted": partial(contestant, lambda seed: str(folder / f"adapted-{seed}"), count(options.seed)),
        "not adapted": partial(contestant, lambda seed: model, count(options.seed)),
    }
    measured = alternate(sides, options.rounds, warmup=0)
    return [
        compare(measured, name, f"classification afterwards: {name}", "%", "higher")
        for name in ("accuracy", "f1_macro")
    ]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Trains, scores, writes the report."""
    made = common_parser(__doc__, rounds=3, warmup=0)
    made.add_argument("--train_file", default=TRAIN, help="texts (default: our sample messages)")
    made.add_argument("--validation_file", default=VALIDATION)
    made.add_argument("--text", default="text", help="column of the text")
    made.add_argument("--max_seq_length", type=int, default=128)
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--learning_rate", type=float, default=1e-4)
    made.add_argument("--epochs", type=int, default=1)
    made.add_argument("--evaluations", type=int, default=5, help="times that a run is scored (default 5)")
    made.add_argument("--classify", action="store_true", help="then train classifiers on the same rows")
    made.add_argument("--label", default="label", help="column of the label, to classify")
    made.add_argument("--classify_samples", type=int, help="rows to train classifiers on (default: all)")
    options = made.parse_args(arguments)
    report = Report("domain_adaptation", options, rounds_needed=3)
    with work_folder(options) as folder:
        model = own_model(options.model, folder / "start", AutoModelForMaskedLM, options.seed)
        adapt(options, model, folder, report)
        if options.classify:
            report.comparisons += classify(options, model, folder)
            report.notes.append(
                "classification: trainer_parity.py's settings; both starts lack the pooler, as MLM does"
            )
    report.notes += [
        "AdamW, linear decay, clipping 1.0, dropout on, float32, masks drawn anew each epoch, whole words off; a round "
        "is a seed, and ratios pair seeds that have nothing in common: look at the ranges",
    ]
    return report.write()


if __name__ == "__main__":
    main()
