"""Dropout of ours against what its definition says, and against torch's."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lit_ft.ops.dropout import drop_bits, dropout, fast_dropout

DRAWS = 1 << 20


def _within(share: float, expected: float, draws: int, deviations: float = 4.5) -> bool:
    return abs(share - expected) <= deviations * math.sqrt(expected * (1 - expected) / draws)


# 25.6 / 256 and others need hits beside the bytes; 0.25 needs none, 0.999 more hits than elements
@pytest.mark.parametrize("p", [0.001, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_every_byte_of_a_number_drops_with_the_probability(p: float) -> None:
    torch.manual_seed(1)
    dropped = 1 - drop_bits(DRAWS, p).long()
    assert set(dropped.unique().tolist()) == {0, 1}
    assert _within(dropped.double().mean().item(), p, DRAWS)
    for share in dropped.view(-1, 8).double().mean(0).tolist():
        assert _within(share, p, DRAWS // 8)


def test_the_probability_is_exact_and_not_rounded_to_bytes() -> None:
    torch.manual_seed(2)
    draws = 1 << 25
    share = 1 - drop_bits(draws, 0.1).double().mean().item()
    assert _within(share, 0.1, draws)
    assert not _within(share, 26 / 256, draws)
    assert not _within(share, 25 / 256, draws)


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 7, 8, 16, 384])
def test_elements_are_dropped_independently(distance: int) -> None:
    torch.manual_seed(3)
    dropped = 1 - drop_bits(DRAWS, 0.1).double()
    both = (dropped[:-distance] * dropped[distance:]).mean().item()
    assert _within(both, 0.01, DRAWS - distance)


def test_numbers_of_dropped_elements_scatter_as_binomials() -> None:
    torch.manual_seed(4)
    counts = torch.stack([1000 - drop_bits(1000, 0.1).sum() for _ in range(4000)]).double()
    # the variance of n * p * (1 - p) = 90 is itself known to sqrt(2 / 4000) = 2.2 %
    assert abs(counts.mean().item() - 100) < 4.5 * math.sqrt(90 / 4000)
    assert abs(counts.var().item() / 90 - 1) < 4.5 * 0.0224


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_values_and_gradients_have_the_mask_and_the_scale(dtype: torch.dtype) -> None:
    x = torch.randn(7, 5, 33, dtype=dtype).requires_grad_()
    gradient = torch.randn(7, 5, 33, dtype=dtype)
    torch.manual_seed(5)
    y = dropout(x, 0.3)
    y.backward(gradient)
    torch.manual_seed(5)
    keep = drop_bits(x.shape, 0.3).double()
    assert y.dtype == dtype
    assert x.grad is not None
    assert 0 < keep.mean() < 1
    torch.testing.assert_close(y, (x.double() * keep / 0.7).to(dtype))
    torch.testing.assert_close(x.grad, (gradient.double() * keep / 0.7).to(dtype))


def test_the_mean_stays_in_bfloat16() -> None:
    torch.manual_seed(6)
    mean = dropout(torch.ones(1 << 24, dtype=torch.bfloat16), 0.1).double().mean().item()
    # 1 / 0.9 is 1.1094 in bfloat16; five deviations of the mean are 4e-4
    assert mean == pytest.approx(0.9 * float(torch.tensor(1 / 0.9, dtype=torch.bfloat16)), abs=4e-4)


def test_layouts_shapes_and_second_gradients() -> None:
    x = torch.randn(6, 40, dtype=torch.float64)
    torch.manual_seed(7)
    plain = dropout(x.T.contiguous(), 0.5)
    torch.manual_seed(7)
    torch.testing.assert_close(dropout(x.T, 0.5), plain)
    assert dropout(torch.ones(()), 0.5).shape == ()
    assert dropout(torch.ones(3, 0), 0.5).shape == (3, 0)
    assert not dropout(x, 0.5).requires_grad

    def seeded(values: Tensor) -> Tensor:
        torch.manual_seed(8)
        return dropout(values**2, 0.5)

    assert torch.autograd.gradcheck(seeded, x.requires_grad_())
    assert torch.autograd.gradgradcheck(seeded, x)


def test_nothing_is_drawn_where_nothing_is_dropped() -> None:
    x = torch.randn(50)
    state = torch.get_rng_state()
    assert dropout(x, 0.1, training=False) is x
    assert dropout(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(dropout(x, 1.0), torch.zeros(50))
    with pytest.raises(ValueError, match="between 0 and 1"):
        dropout(x, 1.5)


def test_seeds_and_saved_states_reproduce_it() -> None:
    x = torch.ones(1000)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    first, second = dropout(x, 0.1), dropout(x, 0.1)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x, 0.1), first)


def test_autocast_drops_what_it_is_given() -> None:
    layer, x = nn.Linear(32, 32), torch.randn(64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        y = dropout(layer(x), 0.5)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert 0.3 < (y == 0).float().mean() < 0.7
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop = nn.Linear(16, 16), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(torch.tanh(self.layer(x)))


def _model() -> nn.Sequential:
    torch.manual_seed(10)
    return nn.Sequential(_Block(), nn.Sequential(_Block(), nn.Dropout(0.5, inplace=True)), nn.AlphaDropout(0.1))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_recomputes_the_same_mask(reentrant: bool) -> None:
    x, found = torch.randn(8, 16), []
    for again in (False, True):
        model = _model()[0]
        fast_dropout(model)
        torch.manual_seed(11)
        given = x.clone().requires_grad_()
        for _ in range(2):
            y = checkpoint(model, given, use_reentrant=reentrant) if again else model(given)
            y.square().sum().backward()
        found.append([y.detach(), given.grad, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_model_drops_by_it_until_undone() -> None:
    model, plain = _model(), _model()
    before = [dict(vars(module)) for module in model.modules()]
    undo = fast_dropout(model)
    assert repr(model) == repr(plain)
    assert model.state_dict().keys() == plain.state_dict().keys()
    x = torch.ones(4, 16)
    torch.manual_seed(12)
    ours = model[0](x)
    torch.manual_seed(12)
    assert torch.equal(dropout(torch.tanh(model[0].layer(x)), 0.3), ours)
    fast_dropout(model)()  # the second finds nothing to do, and so undoes nothing
    assert "forward" in vars(model[0].drop)
    undo()
    undo()
    assert [vars(module) for module in model.modules()] == before
    torch.manual_seed(12)
    expected = plain[0](x)
    torch.manual_seed(12)
    assert torch.equal(model[0](x), expected)
    assert not torch.equal(expected, ours)


def test_evaluation_draws_nothing() -> None:
    model = _model()
    fast_dropout(model)
    model.eval()
    state = torch.get_rng_state()
    assert torch.equal(model(torch.ones(4, 16)), _model().eval()(torch.ones(4, 16)))
    torch.set_rng_state(state)  # _model seeds
    model(torch.ones(4, 16))
    assert torch.equal(torch.get_rng_state(), state)


def test_copies_are_models_of_their_own() -> None:
    model = _model()
    fast_dropout(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other[0].drop.p = 0.0
        assert torch.equal(other[0].drop(torch.ones(100)), torch.ones(100))
        assert (model[0].drop(torch.ones(100)) == 0).any()
        model.eval()
        assert (other[1][0].drop(torch.ones(100)) == 0).any()
        model.train()


def test_other_dropouts_stay_as_they_are() -> None:
    class Own(nn.Dropout):
        def forward(self, input: Tensor) -> Tensor:
            return input + 1

    replaced = nn.Dropout(0.5)
    replaced.forward = lambda input: input + 2  # type: ignore[method-assign]
    model = nn.ModuleList([Own(0.5), replaced, nn.Dropout(0.5, inplace=True), nn.Dropout1d(0.5)])
    undo = fast_dropout(model)
    assert model[0](torch.zeros(1)) == 1
    assert model[1](torch.zeros(1)) == 2
    assert ["forward" in vars(module) for module in model] == [False, True, False, False]
    undo()
    assert model[1](torch.zeros(1)) == 2


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models_drop_too(backend: str) -> None:
    model = _model()[0]
    fast_dropout(model)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    torch.manual_seed(13)
    y = compiled(torch.randn(200, 16))
    y.sum().backward()
    assert _within((y == 0).double().mean().item(), 0.3, 3200)
    assert model.layer.weight.grad is not None
    compiled.eval()
    assert not (compiled(torch.randn(200, 16)) == 0).any()


def test_other_devices_and_integers_take_torchs_own_way() -> None:
    meta = torch.empty(5, device="meta")
    assert dropout(meta, 0.5).device.type == "meta"
    whole = torch.ones(3, dtype=torch.int64)
    with pytest.raises(RuntimeError) as theirs:
        F.dropout(whole, 0.5)
    with pytest.raises(RuntimeError) as ours:
        dropout(whole, 0.5)
    assert str(ours.value) == str(theirs.value)
