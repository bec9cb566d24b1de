"""Windows are put together to rows again, over the borders of batches and in the order of the input."""

import pytest
import torch

from lit_ft.data.batching.merging import Row, RowMerger
from lit_ft.data.ordering.samplers import FILLER

WINDOWS = [1, 3, 2, 1, 5]
OWNERS = [row for row, windows in enumerate(WINDOWS) for _ in range(windows)]


def merge(batch_size: int, owners: list[int]) -> list[Row]:
    merger, complete = RowMerger(), []
    for start in range(0, len(owners), batch_size):
        rows = owners[start : start + batch_size]
        batch = {
            "row": torch.tensor(rows),
            "windows": torch.tensor([1 if row == FILLER else WINDOWS[row] for row in rows]),
            "info": [{"id": row} for row in rows],
        }
        complete += merger.add([{"feature": start + place} for place in range(len(rows))], batch)
    return complete


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 12, 20])
def test_windows_over_batch_borders(batch_size: int) -> None:
    complete = merge(batch_size, OWNERS)
    assert [row.info["id"] for row in complete] == [0, 1, 2, 3, 4]
    assert [[OWNERS[part["feature"]] for part in row.parts] for row in complete] == [
        [row] * n for row, n in enumerate(WINDOWS)
    ]
    assert [part["feature"] for row in complete for part in row.parts] == list(range(12))
    assert [row.number for row in complete] == [0, 1, 2, 3, 4]
    last = [index for index, owner in enumerate(OWNERS) if OWNERS[index + 1 : index + 2] != [owner]]
    assert [row.at for row in complete] == [index % batch_size for index in last]


def test_rows_cut_open_and_fillers_never_come_out() -> None:
    assert [row.info["id"] for row in merge(2, [FILLER, *OWNERS[:5], FILLER])] == [0, 1]


def test_rows_out_of_order_wait_for_those_before_them() -> None:
    windows = [1, 2, 1, 1, 2]
    merger, came = RowMerger(), []
    for rows, settled in (([3, 1], 0), ([0, FILLER], 0), ([2, 1], 3), ([4, 4], 5)):
        batch = {
            "row": torch.tensor(rows),
            "windows": torch.tensor([1 if row == FILLER else windows[row] for row in rows]),
            "info": [{"id": row} for row in rows],
            "settled": settled,
        }
        came.append(merger.add([{"of": row} for row in rows], batch))
    assert [[row.info["id"] for row in batch] for batch in came] == [[], [], [0, 1, 2], [3, 4]]
    for row in (row for batch in came for row in batch):
        assert row.parts == [{"of": row.info["id"]}] * windows[row.info["id"]]


def test_a_row_that_a_batch_limit_cuts_open_holds_nothing_up() -> None:
    merger = RowMerger()
    batch = {"row": torch.tensor([2, 0, 1]), "windows": torch.tensor([2, 1, 1]), "settled": 2}
    assert [row.parts for row in merger.add([{"a": 2}, {"a": 0}, {"a": 1}], batch)] == [[{"a": 0}], [{"a": 1}]]


def test_batches_of_another_loader_have_one_feature_a_row() -> None:
    assert RowMerger().add([{"a": 1}, {"a": 2}], {"labels": None}) == [([{"a": 1}], {}, -1, 0), ([{"a": 2}], {}, -1, 1)]
