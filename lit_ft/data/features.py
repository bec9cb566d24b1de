"""Prepared features as a torch data set, memory-mapped, looked up by the samplers' keys."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset

from lit_ft.data.labels import IGNORED
from lit_ft.data.samplers import FILLER, Key


class FeatureDataset(TorchDataset[dict[str, Any]]):
    """Features of one split, each with its `row`, the number of `windows` of that row, and its `key`.

    Args:
        features: columns of the model's inputs plus `row` (ascending).
        rows: the raw rows that the features came from.
        info_columns: raw columns handed along as `info`; `None` hands nothing along.
    """

    def __init__(self, features: Dataset, rows: Dataset, info_columns: list[str] | None = None) -> None:
        self.features, self.rows = features, rows
        self.info = None if info_columns is None else rows.select_columns(info_columns)
        self.row_of_feature = np.asarray(features.with_format("numpy")["row"][:], dtype=np.int64)
        self.windows = np.bincount(self.row_of_feature, minlength=len(rows))

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: Key | int) -> dict[str, Any]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key | int]) -> list[dict[str, Any]]:
        pairs = [key if isinstance(key, tuple) else (0, key) for key in keys]
        columns = self.features[[0 if index == FILLER else index for _, index in pairs]]
        items = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        for (epoch, index), item in zip(pairs, items, strict=True):
            item["key"] = (epoch, index)
            item["windows"] = int(self.windows[item["row"]])
            if index == FILLER:
                item["row"] = FILLER
                if "labels" in item:
                    item["labels"] = _unlabelled(item["labels"])
        if self.info is not None:
            info = self.info[[item["row"] for item in items]]
            for number, item in enumerate(items):
                item["info"] = {name: values[number] for name, values in info.items()}
        return items


def _unlabelled(label: Any) -> Any:
    if isinstance(label, list):
        return [_unlabelled(part) for part in label]
    return math.nan if isinstance(label, float) else IGNORED
