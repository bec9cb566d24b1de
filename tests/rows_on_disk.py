"""Rows as people keep them, on disk: as a data set of the hub is stored, or in files; and the words that name them."""

import csv
import json
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features

Rows = list[dict[str, Any]]


def saved(folder: Path, parts: dict[str, Rows], features: Features | None = None) -> list[str]:
    """Saves splits as the hub has them, and returns the words that name them."""
    made = {name: Dataset.from_list(rows, features=features) for name, rows in parts.items()}
    DatasetDict(made).save_to_disk(folder)
    return [f"--data.dataset_name={folder}", "--data.dataset_config_name=null"]


def written(folder: Path, parts: dict[str, Rows], ending: str = "jsonl") -> list[str]:
    """Writes splits to files, and returns the words that name them."""
    folder.mkdir(exist_ok=True)
    for name, rows in parts.items():
        with (folder / f"{name}.{ending}").open("w", newline="", encoding="utf-8") as file:
            if ending == "csv":
                table = csv.DictWriter(file, rows[0])
                table.writeheader()
                table.writerows(rows)
            else:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    return [f"--data.{name}_file={folder / name}.{ending}" for name in parts]
