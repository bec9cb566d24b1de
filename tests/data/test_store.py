"""Columns of features in memory and on disk: lists laid flat, as arrow sees them, joined, chosen, pickled."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lit_ft.data.features.ragged import Ragged, as_column, concatenate, from_arrow, to_arrow
from lit_ft.data.features.store import CHUNK, FeatureStore, FeatureWriter

LISTS = [[3, 1], [], [4], [1, 5, 9]]


def test_ragged_is_a_list_of_lists_laid_flat() -> None:
    ragged = Ragged.of(LISTS)
    assert (ragged.values.tolist(), ragged.offsets.tolist()) == ([3, 1, 4, 1, 5, 9], [0, 2, 2, 3, 6])
    assert (ragged.tolist(), ragged.lengths.tolist(), len(ragged)) == (LISTS, [2, 0, 1, 3], 4)
    assert ragged.sums(ragged.values == 1).tolist() == [1, 0, 0, 1]
    both = concatenate([ragged, Ragged.of([[7]])])
    assert isinstance(both, Ragged)
    assert both.tolist() == [*LISTS, [7]]


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float32])
def test_arrow_sees_the_same_lists(dtype: type) -> None:
    array = to_arrow(Ragged.of(LISTS, dtype))
    assert array.to_pylist() == LISTS
    back = from_arrow(array)
    assert isinstance(back, Ragged)
    assert (back.tolist(), back.values.dtype) == (LISTS, dtype)


def test_fixed_lists_and_numbers() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert to_arrow(vectors).to_pylist() == vectors.tolist()
    np.testing.assert_array_equal(from_arrow(to_arrow(vectors)), vectors)
    np.testing.assert_array_equal(from_arrow(to_arrow(np.arange(3))), np.arange(3))


def test_what_a_task_may_return() -> None:
    assert as_column([1, 2]).tolist() == [1, 2]
    assert as_column([[1], [2, 3]]).tolist() == [[1], [2, 3]]
    floats = as_column([[0.5], [1.0]])
    assert isinstance(floats, Ragged)
    assert floats.values.dtype == np.float32
    for lists in ([[0, 0.5], [0.7]], [[1], [0.5]], [np.array([0.5], np.float32)], [[], [0.5]]):
        made = as_column(lists)
        assert isinstance(made, Ragged)
        np.testing.assert_allclose(made.values, [float(value) for row in lists for value in row], rtol=1e-6)
    with pytest.raises(TypeError, match="flatten deeper lists"):
        as_column([[[1]]])


def test_what_cannot_be_stored_is_refused_when_it_is_written(tmp_path: Path) -> None:
    with FeatureWriter(tmp_path / "a.arrow") as writer:
        writer.add({"flag": [True, False], "flags": [[True], []], "row": [0, 1]})
        with pytest.raises(TypeError, match="column 'text' holds <U1"):
            writer.add({"text": ["a"], "row": [2]})
    store = FeatureStore([tmp_path / "a.arrow"])
    assert [(item["flag"], item["flags"].tolist()) for item in map(store.__getitem__, range(2))] == [(1, [1]), (0, [])]


def write(path: Path, start: int, count: int) -> Path:
    with FeatureWriter(path) as writer:
        for first in range(start, start + count, 1000):
            numbers = np.arange(first, min(first + 1000, start + count))
            writer.add({"ids": Ragged.of([[n] * (n % 4) for n in numbers]), "row": numbers})
    return path


def test_many_features_in_two_files(tmp_path: Path) -> None:
    size = CHUNK + 1500
    store = FeatureStore([write(tmp_path / "a.arrow", 0, size), write(tmp_path / "b.arrow", size, 700)])
    assert len(store) == size + 700
    assert len(store.chunks) == 3
    for number in (0, 1, CHUNK - 1, CHUNK, size - 1, size, size + 699):
        assert (store[number]["ids"].tolist(), store[number]["row"]) == ([number] * (number % 4), number)
    np.testing.assert_array_equal(store.column("row"), np.arange(size + 700))
    np.testing.assert_array_equal(store.lengths("ids"), np.arange(size + 700) % 4)
    with pa.ipc.open_file(str(tmp_path / "b.arrow")) as file:  # any reader of Arrow reads it
        assert file.read_all()["ids"].to_pylist()[:3] == [[n] * (n % 4) for n in range(size, size + 3)]


def test_a_choice_of_features_and_joined_stores(tmp_path: Path) -> None:
    whole = FeatureStore([write(tmp_path / "a.arrow", 0, 10)])
    some = FeatureStore([write(tmp_path / "b.arrow", 10, 10)], np.array([2, 9]))
    joined = FeatureStore.joined([some, whole, some])
    wanted = [12, 19, *range(20, 30), 30 + 12, 30 + 19]  # the rows of each store behind those of the stores before
    for store in (joined, pickle.loads(pickle.dumps(joined)), FeatureStore.joined([joined])):
        assert [int(store[number]["row"]) for number in range(len(store))] == wanted
        assert store.column("row").tolist() == wanted
        assert [row for (part,) in store.parts("row") for row in part.tolist()] == wanted
        assert [row for piece in store.pieces() for row in piece["row"].tolist()] == wanted
    assert joined.lengths("ids").tolist() == [number % 4 for number in [12, 19, *range(10), 12, 19]]
    assert FeatureStore.joined([whole, joined]).column("row").tolist() == [*range(10), *(10 + row for row in wanted)]
    assert joined.rows == 50
    assert FeatureStore([]).rows == 0


def test_pickles_as_its_paths(tmp_path: Path) -> None:
    store = FeatureStore([write(tmp_path / "a.arrow", 0, 5000)], np.arange(3))
    content = pickle.dumps(store)
    assert len(content) < 1000
    assert pickle.loads(content).column("row").tolist() == [0, 1, 2]
