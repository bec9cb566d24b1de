"""Losses of preferences against TRL's own, and against formulas written down from the papers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lit_ft.ops.losses.preferences import Replies, kto_losses, pair_losses

SIZE = 6


def some(seed: int) -> tuple[Replies, Replies]:
    torch.manual_seed(seed)
    log_probs, reference = -40 * torch.rand(2 * SIZE) - 1, -40 * torch.rand(2 * SIZE) - 1
    return Replies(log_probs, torch.randint(1, 20, (2 * SIZE,)), reference).halves()


@pytest.mark.parametrize("seed", range(3))
def test_orpo_and_simpo_are_trls(seed: int) -> None:
    orpo = pytest.importorskip("trl.experimental.orpo").ORPOTrainer
    cpo = pytest.importorskip("trl.experimental.cpo").CPOTrainer
    chosen, rejected = some(seed)
    device = SimpleNamespace(device="cpu")
    theirs: Any = orpo.odds_ratio_loss(SimpleNamespace(beta=0.2, accelerator=device), chosen.mean, rejected.mean)
    torch.testing.assert_close(pair_losses("orpo", chosen, rejected, 0.2), -theirs[0])
    options = SimpleNamespace(
        beta=2.5, loss_type="simpo", simpo_gamma=0.7, label_smoothing=0.1, alpha=0.0, accelerator=device
    )
    theirs = cpo.cpo_loss(options, chosen.mean, rejected.mean)
    torch.testing.assert_close(pair_losses("simpo", chosen, rejected, 2.5, 0.1, 0.7), theirs[0])


def test_dpo_and_its_kin_are_the_papers() -> None:
    chosen, rejected = some(1)
    assert chosen.reference is not None
    assert rejected.reference is not None
    delta = (chosen.log_probs - rejected.log_probs) - (chosen.reference - rejected.reference)
    for row in range(SIZE):
        margin = 0.3 * float(delta[row])
        probability = 1 / (1 + torch.exp(torch.tensor(-margin, dtype=torch.float64)))
        right, wrong = -probability.log(), -torch.log1p(-probability)
        expected = {
            "sigmoid": 0.8 * right + 0.2 * wrong,
            "robust": (0.8 * right - 0.2 * wrong) / 0.6,
            "hinge": torch.tensor(max(0.0, 1 - margin)),
        }
        for name, value in expected.items():
            found = pair_losses(name, chosen[row : row + 1], rejected[row : row + 1], 0.3, 0.2)  # type: ignore[arg-type]
            torch.testing.assert_close(found[0].double(), value.double(), rtol=1e-4, atol=1e-5)
    per_token = [each.ratio / each.tokens for each in (chosen, rejected)]
    torch.testing.assert_close(
        pair_losses("ipo", chosen, rejected, 0.3), (per_token[0] - per_token[1] - 1 / 0.6).square()
    )


def test_kto_by_hand() -> None:
    replies = Replies(torch.tensor([-3.0, -5.0]), torch.tensor([2, 3]), torch.tensor([-4.0, -4.5]))
    found = kto_losses(replies, torch.tensor([True, False]), torch.tensor(0.5), 0.2, (2.0, 3.0))
    good = 2 * (1 - 1 / (1 + 2.718281828459045 ** -(0.2 * (1.0 - 0.5))))
    bad = 3 * (1 - 1 / (1 + 2.718281828459045 ** -(0.2 * (0.5 + 0.5))))
    torch.testing.assert_close(found, torch.tensor([good, bad]))


def test_a_reply_that_is_certain_or_hopeless_has_a_finite_odds_ratio() -> None:
    mean = torch.tensor([-1e-4, -60.0], requires_grad=True)
    chosen, rejected = Replies(mean, torch.ones(2)), Replies(mean.detach().flip(0), torch.ones(2))
    loss = pair_losses("orpo", chosen, rejected, 0.1)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert mean.grad is not None
    assert mean.grad.isfinite().all()
    assert F.relu(loss[0]) < loss[1]
