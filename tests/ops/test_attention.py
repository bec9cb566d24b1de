"""Our attention implementations against SDPA with the square mask of a flat row, and as what they are named after."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.models.llama import modeling_llama

from lit_ft.ops.padding_free.attention import PREFIX, UNDERLYING
from lit_ft.ops.padding_free.sequences import Sequences, running_flat

LENGTHS = [7, 1, 12, 7, 3, 0, 7]
SIGHTS = [(False, None), (True, None), (False, 3), (True, 3)]


def layer(causal: bool, groups: int) -> nn.Module:
    """What implementations look at in the attention layer of a model; eager ones belong to a modelling file."""
    made = type("Layer", (nn.Module,), {"__module__": modeling_llama.__name__})()
    made.is_causal, made.num_key_value_groups, made.config = causal, groups, SimpleNamespace()
    return made.train()


def states(key_heads: int, total: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, heads, total, 8, dtype=dtype, requires_grad=True) for heads in (4, key_heads, key_heads)]


def square(lengths: list[int], causal: bool, window: int | None) -> Tensor:
    """Which token of a flat row sees which, `[total, total]`."""
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    distance = torch.arange(len(rows))[:, None] - torch.arange(len(rows))
    seen = (rows[:, None] == rows) & (distance.abs() < (window or len(rows) + 1))
    return seen & (distance >= 0) if causal else seen


@pytest.mark.parametrize("lengths", [LENGTHS, [5, 5, 5], [9], [1, 1]], ids=str)
@pytest.mark.parametrize("sight", SIGHTS, ids=str)
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("underlying", UNDERLYING)
def test_equals_one_square_mask(underlying: str, key_heads: int, sight: Any, lengths: list[int]) -> None:
    causal, window = sight
    mine = states(key_heads, sum(lengths))
    with running_flat() as watch:
        found, _ = AttentionInterface()[PREFIX + underlying](
            layer(causal, 4 // key_heads), *mine, None, scaling=0.4, dropout=0.0, sliding_window=window,
            is_causal=causal, sequence_lengths=Sequences(lengths),
        )  # fmt: skip
    assert watch.told == {window}
    expected = F.scaled_dot_product_attention(
        *mine, attn_mask=square(lengths, causal, window), scale=0.4, enable_gqa=True
    ).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # eager's softmax is float32
    slope = torch.randn_like(expected)
    of_found = torch.autograd.grad(found, mine, slope)
    for one, other in zip(of_found, torch.autograd.grad(expected, mine, slope), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("underlying", UNDERLYING)
def test_whether_it_is_causal_is_known_from_the_layer(underlying: str) -> None:
    mine, lengths = states(4, sum(LENGTHS)), Sequences(LENGTHS)
    for causal in (True, False):
        attend = AttentionInterface()[PREFIX + underlying]
        found, _ = attend(layer(causal, 1), *mine, None, scaling=0.4, dropout=0.0, sequence_lengths=lengths)
        expected = F.scaled_dot_product_attention(*mine, attn_mask=square(LENGTHS, causal, None), scale=0.4)
        torch.testing.assert_close(found, expected.transpose(1, 2), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("underlying", UNDERLYING)
def test_dropout_has_the_mean_of_attention_without(underlying: str) -> None:
    mine, lengths = [state.detach() for state in states(2, sum(LENGTHS))], Sequences(LENGTHS)
    attend, draws = AttentionInterface()[PREFIX + underlying], 1500
    options: dict[str, Any] = {"scaling": 0.4, "sequence_lengths": lengths, "position_ids": torch.arange(3)}
    found = torch.stack([attend(layer(True, 2), *mine, None, dropout=0.2, **options)[0] for _ in range(draws)])
    expected, _ = attend(layer(True, 2), *mine, None, dropout=0.0, **options)
    assert ((found.mean(0) - expected).abs() <= 5 * found.std(0) / draws**0.5 + 1e-6).all()
    assert found.std(0).max() > 0.1


def test_rotary_positions_may_leave_queries_wider_than_values() -> None:
    query, key, value = states(4, sum(LENGTHS), torch.float32)
    options: dict[str, Any] = {"scaling": 0.4, "sequence_lengths": Sequences(LENGTHS)}
    attend = AttentionInterface()[PREFIX + "sdpa"]
    with torch.autocast("cpu", torch.bfloat16):
        found = [
            attend(layer(True, 1), query, key, value.bfloat16(), None, dropout=dropout, **options)[0]
            for dropout in (0.0, 1e-12)
        ]
    assert found[0].dtype == found[1].dtype == torch.bfloat16
    torch.testing.assert_close(found[0], found[1], rtol=0.03, atol=0.03)


@pytest.mark.parametrize("underlying", UNDERLYING)
def test_without_lengths_it_is_what_it_is_named_after(underlying: str) -> None:
    mine = states(2, 9, torch.float32)
    attend = AttentionInterface()[PREFIX + underlying]
    plain = modeling_llama.eager_attention_forward if underlying == "eager" else AttentionInterface()["sdpa"]
    mask = torch.zeros(1, 1, 9, 9).masked_fill(torch.ones(9, 9).tril() == 0, -1e9)
    options: dict[str, Any] = {"scaling": 0.4, "dropout": 0.0}
    assert torch.equal(
        attend(layer(True, 2), *mine, mask, **options)[0], plain(layer(True, 2), *mine, mask, **options)[0]
    )


def test_a_layer_that_is_not_told_of_lengths_while_the_model_runs_flat_is_an_error() -> None:
    with running_flat(), pytest.raises(AssertionError, match="not handed the lengths"):
        AttentionInterface()[PREFIX + "sdpa"](layer(True, 1), *states(4, 9), None)
