"""Prepared features as a data set: by key, by index, in a loader, with what belongs to their rows; fillers."""

import math
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from torch.utils.data import DataLoader

from lit_ft.data.batching.dataset import FeatureDataset
from lit_ft.data.features.store import FeatureStore, FeatureWriter
from lit_ft.data.ordering.samplers import FILLER

ROWS = Dataset.from_dict({"text": ["a", "b", "c"], "id": [10, 11, 12]})


@pytest.fixture
def features(tmp_path: Path):
    def make(**columns: list) -> FeatureStore:
        with FeatureWriter(tmp_path / "features.arrow") as writer:
            writer.add({"input_ids": [[1], [2, 2], [3], [4]], "row": [0, 1, 1, 2], **columns})
        return FeatureStore([tmp_path / "features.arrow"])

    return make


def plain(item: dict) -> dict:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in item.items()}


def test_lookup_by_key_and_by_index(features) -> None:
    data = FeatureDataset(features(labels=[5, 6, 6, 7]), ROWS.select_columns(["id"]))
    assert len(data) == 4
    assert plain(data[(3, 2)]) == {
        "input_ids": [3], "row": 1, "labels": 6, "key": (3, 2), "windows": 2, "info": {"id": 11}
    }  # fmt: skip
    assert [item["info"]["id"] for item in data.__getitems__([3, 0, 1])] == [12, 10, 11]
    assert [plain(item)["input_ids"] for item in data[[(0, 1), (0, 3)]]] == [[2, 2], [4]]
    assert "info" not in FeatureDataset(features())[0]


@pytest.mark.parametrize(("labels", "wanted"), [([1, 2, 3, 4], -100), ([[0.5], [1.0], [2.0], [3.0]], [math.nan])])
def test_a_filler_has_no_label(features, labels: list, wanted: object) -> None:
    item = plain(FeatureDataset(features(labels=np.array(labels)))[(1, FILLER)])
    assert (item["row"], item["key"], item["input_ids"]) == (FILLER, (1, FILLER), [1])
    assert str(item["labels"]) == str(wanted)


def test_a_filler_of_a_task_without_labels(features) -> None:
    assert FeatureDataset(features())[(0, FILLER)]["row"] == FILLER


@pytest.mark.parametrize("workers", [0, 1])
def test_in_a_loader(features, workers: int) -> None:
    loader = DataLoader(FeatureDataset(features()), batch_size=3, num_workers=workers, collate_fn=list)
    assert [[item["input_ids"].tolist() for item in batch] for batch in loader] == [[[1], [2, 2], [3]], [[4]]]
