"""What a batch says is taken apart to rows, and put together again."""

import pytest
import torch

from lit_ft.data.batching.parts import knowing, side_by_side, stacked, taken_apart


def test_rows_taken_apart_are_put_together_again() -> None:
    scores, labels = torch.rand(3, 2), torch.tensor([0, -100, 1])
    rows = taken_apart(3, scores=scores, label=labels, info=None)
    assert [row["info"] for row in rows] == [None] * 3
    found = stacked(rows, "scores", "label")
    assert found is not None
    assert torch.equal(found[0], scores)
    assert torch.equal(found[1], labels)
    assert stacked(rows, "scores", "info") is None
    assert stacked([], "scores") is None
    other = taken_apart(2, scores=torch.rand(2, 2), label=None, info=None)
    assert stacked([*rows, *other], "label") is None
    assert knowing([*other, *rows], "label") == rows
    with pytest.raises(ValueError, match="zip"):
        taken_apart(2, scores=scores)


def test_replies_beside_each_other() -> None:
    rewards, tokens = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([5, 6, 7, 8])
    first, second = ({name: float(value) for name, value in row.items()} for row in side_by_side(r=rewards, n=tokens))
    assert first == {"chosen_r": 1, "rejected_r": 3, "chosen_n": 5, "rejected_n": 7}
    assert second == {"chosen_r": 2, "rejected_r": 4, "chosen_n": 6, "rejected_n": 8}
