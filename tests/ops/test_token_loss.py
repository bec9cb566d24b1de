"""The chunked loss equals cross-entropy on all logits, in value and in every gradient, and never makes all logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from lit_ft.ops.building.sharding import is_sharded
from lit_ft.ops.heads import token_loss as module
from lit_ft.ops.heads.logits_only import LogitsOnly
from lit_ft.ops.heads.split_model import SplitModel
from lit_ft.ops.heads.token_loss import token_loss, token_scores
from tests.ops.architectures import CAUSAL, MASKED, VOCABULARY, tiny_language_model

ROWS = 7
ALL = [*((name, True) for name in [*CAUSAL, "xlnet"]), *((name, False) for name in MASKED)]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CPU_ROWS", ROWS)


def split_of(model: PreTrainedModel) -> SplitModel:
    split = SplitModel.of(model)
    assert split is not None
    return split


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def labels_with(count: int, shape: tuple[int, int] = (3, 11)) -> Tensor:
    labels = torch.full(shape, -100)
    chosen = torch.randperm(labels.numel())[:count]
    labels.view(-1)[chosen] = torch.randint(VOCABULARY, (count,))
    return labels


def plain(model: PreTrainedModel, ids: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    logits = model(input_ids=ids).logits
    loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="sum")
    (loss * 0.3).backward()
    return loss.detach(), gradients(model)


def chunked(model: PreTrainedModel, ids: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    split = split_of(model)
    hidden = split.hidden(input_ids=ids)
    loss = token_loss(split, hidden[labels != -100], labels[labels != -100])
    (loss * 0.3).backward()
    return loss.detach(), gradients(model)


def assert_same(
    found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]], share: float
) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=share, atol=0)
    assert found[1].keys() == expected[1].keys()
    # attention's key biases have a gradient of zero but for rounding: all is measured by the largest gradient
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).abs().max()) <= share * largest, name


@pytest.mark.parametrize(("model_type", "causal"), ALL)
def test_equals_cross_entropy_on_all_logits(model_type: str, causal: bool) -> None:
    model = tiny_language_model(model_type, causal)
    ids, labels = torch.randint(5, VOCABULARY, (3, 11)), labels_with(18)
    assert_same(chunked(model, ids, labels), plain(model, ids, labels), 1e-6)


@pytest.mark.parametrize("count", [0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS])
def test_chunk_boundaries(count: int) -> None:
    model = tiny_language_model("bert", causal=False)
    ids, labels = torch.randint(5, VOCABULARY, (3, 11)), labels_with(count)
    assert_same(chunked(model, ids, labels), plain(model, ids, labels), 1e-6)


def test_gradient_checkpointing() -> None:
    model = tiny_language_model("llama")
    ids, labels = torch.randint(5, VOCABULARY, (3, 11)), labels_with(20)
    expected = plain(model, ids, labels)
    model.gradient_checkpointing_enable()
    assert_same(chunked(model, ids, labels), expected, 1e-6)


@pytest.mark.parametrize("frozen", ["head", "body", "all but the head's norm"])
def test_frozen_parts_get_no_gradient_and_change_no_other(frozen: str) -> None:
    if frozen == "all but the head's norm":
        model = tiny_language_model("roberta", causal=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lm_head.layer_norm" in name)
    else:
        model = tiny_language_model("qwen3", tie_word_embeddings=False)
        (model.lm_head if frozen == "head" else model.model).requires_grad_(False)
    ids, labels = torch.randint(5, VOCABULARY, (3, 11)), labels_with(20)
    expected = plain(model, ids, labels)
    assert expected[1]
    assert_same(chunked(model, ids, labels), expected, 1e-6)


def test_autocast_makes_logits_as_the_model_would() -> None:
    model = tiny_language_model("gpt2")
    ids, labels = torch.randint(5, VOCABULARY, (3, 11)), labels_with(20)
    exact = plain(model, ids, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        split = split_of(model)
        hidden = split.hidden(input_ids=ids)
        assert split.logits(hidden[0]).dtype == torch.bfloat16
        expected, found = plain(model, ids, labels), chunked(model, ids, labels)
    assert not torch.equal(expected[0], exact[0])  # bfloat16 was at work
    assert found[0].dtype == torch.float32
    assert_same(found, expected, 1e-2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_position_counts_by_its_weight(smoothing: float) -> None:
    model = tiny_language_model("bert", causal=False)
    ids, labels = torch.randint(5, VOCABULARY, (3, 11)), labels_with(2 * ROWS + 3)
    labelled, weights = labels != -100, torch.rand(2 * ROWS + 3)
    split = split_of(model)
    loss = token_loss(split, split.hidden(input_ids=ids)[labelled], labels[labelled], smoothing, weights)
    (loss * 0.3).backward()
    found = loss.detach(), gradients(model)
    logits = model(input_ids=ids).logits[labelled].float()
    losses = F.cross_entropy(logits, labels[labelled], reduction="none", label_smoothing=smoothing)
    expected = (losses * weights).sum()
    (expected * 0.3).backward()
    assert_same(found, (expected.detach(), gradients(model)), 1e-6)


def test_bfloat16_weights_get_bfloat16_gradients() -> None:
    model = tiny_language_model("llama").to(torch.bfloat16)
    ids, labels = torch.randint(5, VOCABULARY, (3, 11)), labels_with(20)
    found, expected = chunked(model, ids, labels), plain(model, ids, labels)
    assert {gradient.dtype for gradient in found[1].values()} == {torch.bfloat16}
    assert_same(found, expected, 2e-2)


def test_without_gradients_and_row_by_row() -> None:
    model = tiny_language_model("albert", causal=False)
    split, ids, labels = split_of(model), torch.randint(5, VOCABULARY, (3, 11)), labels_with(17)
    with torch.no_grad():
        hidden, targets = split.hidden(input_ids=ids)[labels != -100], labels[labels != -100]
        loss = token_loss(split, hidden, targets)
        losses, correct = token_scores(split, hidden, targets)
        logits = model(input_ids=ids).logits[labels != -100]
    torch.testing.assert_close(losses, F.cross_entropy(logits, targets, reduction="none"))
    torch.testing.assert_close(loss, losses.sum())
    assert torch.equal(correct, logits.argmax(-1) == targets)
    empty, none = token_scores(split, hidden[:0], targets[:0])
    assert empty.shape == none.shape == (0,)


def test_a_model_that_does_not_split_gives_the_same_sum() -> None:
    model = tiny_language_model("llama")
    ids, labels = torch.randint(5, VOCABULARY, (3, 11)), labels_with(17)
    expected = plain(model, ids, labels)
    whole, rows = LogitsOnly.of(model), labels != -100
    loss = token_loss(whole, whole.logits_at(rows, input_ids=ids), labels[rows])
    (loss * 0.3).backward()
    assert_same((loss.detach(), gradients(model)), expected, 1e-6)


def test_under_ddp_every_parameter_gets_its_gradient_in_every_step(tmp_path: Path) -> None:
    """DDP raises in the next step where a parameter took no part in one; a step may have no labels at all."""
    model = tiny_language_model("roberta", causal=False)
    split = split_of(model)
    batches = [(torch.randint(5, VOCABULARY, (3, 11)), labels_with(count)) for count in (18, 0, 5)]
    expected = [plain(model, *batch) for batch in batches]

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
            return token_loss(split, split.hidden(input_ids=ids)[labels != -100], labels[labels != -100])

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        step = DistributedDataParallel(Step())
        for batch, wanted in zip(batches, expected, strict=True):
            loss = step(*batch)
            (loss * 0.3).backward()
            assert_same((loss.detach(), gradients(model)), wanted, 1e-6)
    finally:
        distributed.destroy_process_group()


def test_sharded_weights(tmp_path: Path) -> None:
    model = tiny_language_model("llama")
    split, ids = split_of(model), torch.randint(5, VOCABULARY, (3, 11))
    labels = labels_with(18)
    expected = plain(model, ids, labels)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for part in [*model.model.layers, model]:
            fully_shard(part, mesh=mesh)
        assert is_sharded(model)
        rows = labels != -100
        loss = token_loss(LogitsOnly(split.logits_at), split.logits_at(rows, input_ids=ids), labels[rows])
        (loss * 0.3).backward()
        found = {name: gradient.full_tensor() for name, gradient in gradients(model).items()}
    finally:
        distributed.destroy_process_group()
    assert_same((loss.detach(), found), expected, 1e-6)


class Largest(TorchDispatchMode):
    """Records the most elements that any tensor made under it had, apart from parameters' own shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.dim() and made.shape[-1] == VOCABULARY:
            self.elements = max(self.elements, made.numel())
        return made


@pytest.mark.parametrize("model_type", ["llama", "bert"])
def test_all_logits_never_exist(model_type: str) -> None:
    model = tiny_language_model(model_type, model_type == "llama")
    split, ids, labels = split_of(model), torch.randint(5, VOCABULARY, (3, 33)), labels_with(90, (3, 33))
    with Largest() as largest:
        hidden = split.hidden(input_ids=ids)
        token_loss(split, hidden[labels != -100], labels[labels != -100]).backward()
    assert ROWS * VOCABULARY <= largest.elements <= 32 * VOCABULARY  # 32: the head's weight, transposed


class Projections(TorchDispatchMode):
    """Counts the places in memory that logits and gradients of the vocabulary's weight were written to."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden, self.logits, self.gradients = hidden, set[int](), 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if "mm" in str(function) and isinstance(made, Tensor):
            if made.shape[1:] == (VOCABULARY,) and made.shape[0] <= ROWS:
                self.logits.add(made.data_ptr())
            self.gradients += made.shape == (VOCABULARY, self.hidden) and "addmm_" not in str(function)
        return made


@pytest.mark.parametrize(("model_type", "causal"), [("llama", True), ("gemma2", True), ("bert", False), ("gpt2", True)])
def test_chunks_share_memory(model_type: str, causal: bool) -> None:
    model = tiny_language_model(model_type, causal)
    split = split_of(model)
    hidden = torch.randn(4 * ROWS + 1, model.config.hidden_size, requires_grad=True)
    with Projections(model.config.hidden_size) as seen:
        token_loss(split, hidden, torch.randint(VOCABULARY, (len(hidden),)))
    assert len(seen.logits) == 1
    assert seen.gradients == 1


def test_a_second_backward_is_refused() -> None:
    model = tiny_language_model("llama")
    split = split_of(model)
    loss = token_loss(split, split.hidden(input_ids=torch.tensor([[5, 6, 7]]))[0], torch.tensor([6, 7, 8]))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once per forward"):
        loss.backward()
