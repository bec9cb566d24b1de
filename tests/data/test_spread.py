"""Rows that are chosen out of an evaluation set: as many as asked for, evenly, of those that will be evaluated."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lit_ft.data.ordering.samplers import ContiguousSampler
from lit_ft.data.ordering.spread import spread


@given(
    st.lists(st.integers(0, 60), unique=True, max_size=40).map(sorted),
    st.integers(1, 12),
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(0, 9)),
)
def test_of_the_rows_that_processes_evaluate(rows: list[int], most: int, replicas: int, each: int | None) -> None:
    row_of_feature = np.array(rows, np.int64)
    seen = []
    for rank in range(replicas):
        keys = [index for _, index in ContiguousSampler(row_of_feature, replicas, rank) if index >= 0]
        seen += [rows[index] for index in keys[:each]]
    found = spread(row_of_feature, most, replicas, each).tolist()
    assert len(found) == len(set(found)) == min(most, len(seen))
    assert set(found) <= set(seen)
    places = [seen.index(row) for row in found]
    gaps = np.diff(places)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_evenly() -> None:
    assert spread(np.arange(12), 3).tolist() == [2, 6, 10]
    assert spread(np.arange(12), 3, each=6).tolist() == [1, 3, 5]
    assert spread(np.arange(0, 24, 2), 2, replicas=2, each=2).tolist() == [2, 14]
