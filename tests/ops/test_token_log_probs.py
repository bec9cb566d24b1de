"""Log-probabilities of tokens equal those of all logits, in value and in every gradient, whatever is made of them."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_ft.ops.heads import token_loss as module
from lit_ft.ops.heads.split_model import SplitModel
from lit_ft.ops.heads.token_log_probs import token_log_probs
from tests.ops.architectures import VOCABULARY, tiny_language_model


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPU_ROWS", 5)


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    found = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    return found


def made_of(log_probs: Tensor) -> Tensor:
    """Something that is no sum over tokens, with gradients of both signs."""
    return torch.sigmoid(log_probs[:9].sum() - 1.3 * log_probs[9:].mean()) + 0.1 * (log_probs**2).mean()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_values_and_gradients_are_those_of_all_logits(name: str) -> None:
    torch.manual_seed(0)
    model = tiny_language_model(name)
    ids = torch.randint(VOCABULARY, (3, 11))
    at = torch.randperm(33)[:17].sort().values
    targets = torch.randint(VOCABULARY, (17,))
    theirs = torch.log_softmax(model(input_ids=ids).logits.float().flatten(0, 1)[at], -1)
    theirs = theirs.gather(1, targets[:, None])[:, 0]
    (made_of(theirs) * 0.3).backward()
    expected = gradients(model)

    split = SplitModel.of(model)
    assert split is not None
    ours = token_log_probs(split, split.hidden(input_ids=ids).flatten(0, 1)[at], targets)
    torch.testing.assert_close(ours, theirs)
    (made_of(ours) * 0.3).backward()
    found = gradients(model)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)


def test_no_tokens_have_a_graph_all_the_same() -> None:
    model = tiny_language_model("llama")
    split = SplitModel.of(model)
    assert split is not None
    hidden = split.hidden(input_ids=torch.ones(1, 3, dtype=torch.long)).flatten(0, 1)[:0]
    made = token_log_probs(split, hidden, torch.zeros(0, dtype=torch.long))
    assert made.shape == (0,)
    made.sum().backward()
    assert all(value.grad is not None and not value.grad.any() for value in split.head_parameters())
