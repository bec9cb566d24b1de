"""A validation split is cut from train, and sets are capped: by share, seed and label; groups stay together."""

from collections import Counter

import numpy as np
import pytest
from datasets import Dataset

from lit_ft.data.reading.raw import RawRows
from lit_ft.data.reading.splits import cut_validation, rows_kept, same_texts
from lit_ft.errors import UserError


@pytest.mark.parametrize("rows", [2, 3, 99, 100])
@pytest.mark.parametrize("percentage", [0.1, 5, 20, 50, 99, 100])
@pytest.mark.parametrize("strata", [False, True])
def test_cut_is_disjoint_complete_sorted_and_of_the_right_size(rows: int, percentage: float, strata: bool) -> None:
    train, validation = cut_validation(rows, percentage, 0, np.arange(rows) % 3 if strata else None)
    assert sorted([*train, *validation]) == list(range(rows))
    assert (train.tolist(), validation.tolist()) == (sorted(train), sorted(validation))
    assert len(validation) == min(max(1, round(rows * percentage / 100)), rows - 1)


def test_cut_is_a_function_of_the_seed() -> None:
    cuts = [cut_validation(100, 20, seed, None)[1].tolist() for seed in (1, 1, 2)]
    assert cuts[0] == cuts[1] != cuts[2]


def numbered(names: list[str]) -> np.ndarray:
    return np.unique(names, return_inverse=True)[1]


def test_strata_keep_their_proportions() -> None:
    strata = ["a"] * 600 + ["b"] * 300 + ["c"] * 100
    _, validation = cut_validation(1000, 10, 0, numbered(strata))
    assert Counter(strata[row] for row in validation) == {"a": 60, "b": 30, "c": 10}
    _, validation = cut_validation(1000, 1.5, 0, numbered(strata))  # 9, 4.5 and 1.5 of 15
    counts = Counter(strata[row] for row in validation)
    assert counts["a"] == 9
    assert sorted(counts.values()) in ([1, 5, 9], [2, 4, 9])


@pytest.mark.parametrize("seed", range(5))
def test_a_label_never_leaves_train_altogether(seed: int) -> None:
    strata = ["common"] * 51 + [f"rare {number}" for number in range(25)] + ["twice", "twice"]
    train, validation = cut_validation(len(strata), 10, seed, numbered(strata))
    assert {strata[row] for row in validation} <= {strata[row] for row in train}
    assert len(validation) == 8


def test_one_row_cannot_be_cut() -> None:
    with pytest.raises(UserError, match="from 1 row: set validation_file or validation_split_percentage: 0"):
        cut_validation(1, 5, 0, None)


@pytest.mark.parametrize("percentage", [0.1, 5, 20, 50, 99])
@pytest.mark.parametrize("seed", range(3))
def test_groups_are_never_cut(percentage: float, seed: int) -> None:
    names = [f"context {number % 37 % (1 + number // 60)}" for number in np.random.default_rng(5).permutation(600)]
    train, validation = cut_validation(600, percentage, seed, None, numbered(names))
    assert sorted([*train, *validation]) == list(range(600))
    assert (train.tolist(), validation.tolist()) == (sorted(train), sorted(validation))
    kept, held = ({names[row] for row in rows} for rows in (train, validation))
    assert kept
    assert held
    assert not kept & held
    sizes = Counter(names)
    wanted = max(1, round(6 * percentage))
    # nothing that is left would fit, unless even the smallest group is too large
    assert len(validation) <= wanted < len(validation) + min(sizes[name] for name in kept) or held == {
        min(sizes, key=lambda name: sizes[name])
    }
    assert cut_validation(600, percentage, seed, None, numbered(names))[1].tolist() == validation.tolist()


def test_groups_of_one_row_are_cut_as_rows_are() -> None:
    _, validation = cut_validation(1000, 5, 0, None, np.arange(1000))
    assert len(validation) == 50


def test_a_large_group_stays_in_train_and_one_alone_is_cut() -> None:
    train, validation = cut_validation(100, 5, 0, None, np.array([0] * 90 + [1] * 10))
    assert validation.tolist() == list(range(90, 100))
    assert train.tolist() == list(range(90))
    assert [part.tolist() for part in cut_validation(20, 10, 3, None, np.zeros(20, np.int64))] == [
        part.tolist() for part in cut_validation(20, 10, 3, None)
    ]


def test_equal_texts_are_a_group_and_empty_ones_are_none() -> None:
    groups = same_texts(["a", "", "b", None, "a", "", "ab"])
    assert groups[0] == groups[4]
    assert len(set(groups.tolist())) == 6


def cap(data: Dataset, limit: int | None, seed: int, head: bool) -> Dataset:
    return RawRows(data, "here").select(rows_kept(len(data), limit, seed, head)).data


def test_cap() -> None:
    data = Dataset.from_dict({"n": list(range(50))})
    assert cap(data, None, 0, False) is data
    assert cap(data, 50, 0, False) is data
    assert cap(data, 3, 0, head=True)["n"][:] == [0, 1, 2]
    chosen = [cap(data, 10, seed, False)["n"][:] for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert chosen[0] == sorted(set(chosen[0]))
    assert len(chosen[0]) == 10
