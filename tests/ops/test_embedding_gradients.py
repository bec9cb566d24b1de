"""Gradients of embeddings equal those of plain backward, whatever else adds to them."""

import copy

import pytest
import torch
from torch import Tensor, nn

from lit_ft.ops import embedding_gradients
from lit_ft.ops.embedding_gradients import lean_embedding_gradients
from tests.ops.architectures import VOCABULARY, tiny_language_model

BATCHES = [[3, 5, 3, 0, 9], [0, 0, 0, 0, 0], [9, 1, 1, 1, 2]]


@pytest.fixture(autouse=True)
def _small_embeddings_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_gradients, "LEAST", 1)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 4, padding_idx=0)
        self.layer = nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.layer(self.table(ids)).sin().sum()


def step(model: nn.Module, *batches: list[int]) -> Tensor:
    model.zero_grad()
    for batch in batches:
        model(torch.tensor(batch)).backward()
    return model.table.weight.grad.clone()


def test_each_batch_and_sums_of_batches() -> None:
    model = Words()
    plain = copy.deepcopy(model)
    undo = lean_embedding_gradients(model)
    for batches in [[batch] for batch in BATCHES] + [BATCHES, BATCHES[:2]]:  # what was there must not come again
        assert torch.equal(step(model, *batches), step(plain, *batches))
        assert model.table.weight.grad.layout is torch.strided
    undo()
    model.zero_grad()
    seen = []
    model.table.weight.register_hook(lambda gradient: seen.append(gradient.is_sparse))
    model(torch.tensor(BATCHES[0])).backward()
    assert seen == [False]


def test_memory_is_used_again_and_not_trusted() -> None:
    model = Words()
    plain = copy.deepcopy(model)
    lean_embedding_gradients(model)
    step(model, BATCHES[0])
    first = model.table.weight.grad.data_ptr()
    model.table.weight.grad.fill_(float("nan"))  # as clipping by a norm that is none leaves it
    assert torch.equal(step(model, BATCHES[2]), step(plain, BATCHES[2]))
    assert model.table.weight.grad.data_ptr() == first


@pytest.mark.parametrize(("model_type", "tied"), [("llama", True), ("llama", False), ("gpt2", True), ("opt", True)])
def test_tied_and_untied_language_models(model_type: str, tied: bool) -> None:
    model = tiny_language_model(model_type, tie_word_embeddings=tied)
    ids = torch.randint(5, VOCABULARY, (3, 11))

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        for _ in range(2):
            model(input_ids=ids, labels=ids).loss.backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    expected = gradients()
    lean_embedding_gradients(model)
    found = gradients()
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_embeddings_that_mean_something_else_stay() -> None:
    model = nn.ModuleList([nn.Embedding(9, 3, max_norm=1.0), nn.Embedding(9, 3, scale_grad_by_freq=True)])
    model += [nn.Embedding(9, 3).requires_grad_(False), nn.Embedding(9, 3), nn.Linear(3, 9)]
    model[-1].weight = model[-2].weight  # tied
    lean_embedding_gradients(model)
    assert not any(getattr(each, "sparse", False) for each in model)
