"""Prepared features as a torch data set, memory-mapped, looked up by the samplers' keys."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset

from lit_ft.data.features.store import FeatureStore
from lit_ft.data.labels import IGNORED
from lit_ft.data.ordering.samplers import FILLER, Key


class FeatureDataset(TorchDataset[Any]):
    """Features of one split, each with its `row`, the number of `windows` of that row, and its `key`.

    Looked up by one key it gives one feature, by a list of keys (a sampler of whole batches) a list.

    Args:
        store: columns of the model's inputs plus `row` (ascending).
        info: raw columns handed along as `info`, by row; `None` hands nothing along.
    """

    def __init__(self, store: FeatureStore, info: Dataset | None = None) -> None:
        self.store, self.info = store, info
        self.row_of_feature = store.column("row")
        # numbers of rows that have one feature each need no table
        single = len(self.row_of_feature) < 2 or bool((np.diff(self.row_of_feature) > 0).all())
        self.windows = None if single else np.bincount(self.row_of_feature)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, key: Key | int | list[Key]) -> Any:
        return self.__getitems__(key) if isinstance(key, list) else self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key | int]) -> list[dict[str, Any]]:
        items, rows = [], []
        for key in keys:
            epoch, index = key if isinstance(key, tuple) else (0, key)
            item = self.store[0 if index == FILLER else index]
            row = int(item["row"])
            rows.append(row)
            item |= {
                "key": (epoch, index),
                "row": row,
                "windows": 1 if self.windows is None else int(self.windows[row]),
            }
            if index == FILLER:
                item["row"] = FILLER
                if "labels" in item:
                    item["labels"] = _unlabelled(item["labels"])
            items.append(item)
        if self.info is not None:
            columns = self.info[rows]
            for number, item in enumerate(items):
                item["info"] = {name: cells[number] for name, cells in columns.items()}
        return items


def _unlabelled(label: Any) -> Any:
    label = np.asarray(label)
    return np.full_like(label, math.nan if label.dtype.kind == "f" else IGNORED)
