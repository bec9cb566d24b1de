"""The loss of spans is that of transformers' heads on rows without padding; the best spans are all there are."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.loss.loss_utils import ForQuestionAnsweringLoss

from lit_ft.ops.decoding.spans import best_spans, span_loss
from lit_ft.ops.losses.classification import mean


def test_loss_without_padding_is_transformers() -> None:
    torch.manual_seed(0)
    start, end = torch.randn(2, 6, 11)
    starts, ends = torch.randint(0, 11, (2, 6))
    expected = ForQuestionAnsweringLoss(start, end, starts.clone(), ends.clone())
    torch.testing.assert_close(mean(*span_loss(start, end, starts, ends)), expected)
    torch.testing.assert_close(mean(*span_loss(start, end, starts, ends, torch.ones(6, 11))), expected)


def test_padding_has_no_share_and_rows_without_a_label_count_nowhere() -> None:
    torch.manual_seed(1)
    start, end = torch.randn(2, 4, 11, requires_grad=True).unbind()
    mask = torch.ones(4, 11, dtype=torch.long)
    mask[0, 7:], mask[1, :3] = 0, 0
    starts, ends = torch.tensor([2, 4, -100, 3]), torch.tensor([6, 10, -100, 11])  # the last ends outside
    total, count = span_loss(start, end, starts, ends, mask)
    assert count == 2
    alone = [
        ForQuestionAnsweringLoss(start[:1, :7], end[:1, :7], starts[:1], ends[:1]),
        ForQuestionAnsweringLoss(start[1:2, 3:], end[1:2, 3:], starts[1:2] - 3, ends[1:2] - 3),
    ]
    torch.testing.assert_close(total, sum(alone))
    grown = torch.cat([mask, torch.zeros(4, 5, dtype=torch.long)], 1)
    wide = [torch.cat([logits, torch.full((4, 5), 9.0)], 1) for logits in (start, end)]
    torch.testing.assert_close(span_loss(*wide, starts, ends, grown)[0], total)  # type: ignore[arg-type]
    at_padding = span_loss(start, end, torch.tensor([8, 4, 4, 4]), torch.tensor([9, 4, 4, 4]), mask)
    assert at_padding[1] == 3
    (gradient,) = torch.autograd.grad(total, start)
    assert (gradient[0, 7:] == 0).all()
    assert (gradient[2:] == 0).all()
    nothing = span_loss(start, end, torch.full((4,), -100), torch.full((4,), -100), mask)
    assert [float(each) for each in nothing] == [0, 0]


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000))
@settings(deadline=None, max_examples=80, derandomize=True)
def test_best_spans_are_those_of_a_search_over_all(width: int, size: int, longest: int, seed: int) -> None:
    torch.manual_seed(seed)
    start, end = torch.randn(2, 3, width)
    allowed = torch.rand(3, width) < 0.7
    scores, first, last = best_spans(start, end, allowed, size, longest)
    assert (last < width).all()  # places to gather from, also of spans that cannot be
    for row in range(3):
        every = [
            (float(start[row, one] + end[row, other]), one, other)
            for one, other in itertools.product(range(width), repeat=2)
            if one <= other < one + longest and allowed[row, one] and allowed[row, other]
        ]
        expected = sorted(every, reverse=True)[:size]
        there = scores[row].isfinite()
        found = list(
            zip(scores[row][there].tolist(), first[row][there].tolist(), last[row][there].tolist(), strict=True)
        )
        assert [span[1:] for span in found] == [span[1:] for span in expected]
        assert [span[0] for span in found] == pytest.approx([span[0] for span in expected])
