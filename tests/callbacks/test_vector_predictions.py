"""Predictions as an array: numpy reads what was written, in the order of the rows."""

from pathlib import Path

import numpy as np
import pytest

from lit_ft.callbacks.prediction_files import Vectors
from lit_ft.errors import UserError


def test_vectors_of_all_processes_are_one_array(tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    paths = [tmp_path / str(number) for number in range(3)]
    for path, part in zip(paths, (vectors[:3], vectors[:0], vectors[3:]), strict=True):
        file = Vectors(path, None, None)
        for row in part:
            file.write([{"text": "own", "embedding": row.tolist()}])
        file.close()
    Vectors.join(paths, tmp_path / "whole.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "whole.npy"), vectors)
    assert np.load(tmp_path / "whole.npy", mmap_mode="r").dtype == np.float32


def test_rows_without_one_vector(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"need one vector a row, but rows have \['anchor_embedding'\]: use parquet"):
        Vectors(tmp_path / "x", None, None).write([{"anchor_embedding": [1.0]}])
