"""Ways to run a model that skips padding: recomputed, in half precision, compiled; and what backward keeps."""

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from lit_ft.ops.padding_free.running import make_padding_free
from tests.ops.test_padding_free import (
    ROWS,
    assert_same_gradients,
    assert_same_outputs,
    labels_for,
    outputs_of,
    padded_batch,
    trained,
)
from tests.ops.test_padding_free_uses import MODELS, made


@pytest.mark.parametrize(("model_type", "head"), MODELS)
def test_gradient_checkpointing(model_type: str, head: str) -> None:
    model, batch = made(model_type, head), padded_batch(ROWS["right"])
    labels = labels_for(head, batch)
    expected = trained(model, batch, **labels)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with make_padding_free(model) as free:
        assert free.reason is None
        outputs = outputs_of(model, batch, **labels)
    outputs["loss"].backward()  # layers run again when the context is over
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    torch.testing.assert_close(outputs["loss"].detach(), expected[0]["loss"], rtol=1e-6, atol=0)
    assert_same_gradients(found, expected[1])


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_bfloat16(weights: torch.dtype, dropout: float) -> None:
    batch = padded_batch(ROWS["right"])
    for model_type, rate in (("bert", "attention_probs_dropout_prob"), ("llama", "attention_dropout")):
        model = made(model_type, "sequence", **{rate: dropout}).to(weights)
        labels = labels_for("sequence", batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=weights == torch.float32):
            expected = outputs_of(model.eval(), batch, **labels)
            with make_padding_free(model) as free:
                assert free.reason is None
                assert_same_outputs(outputs_of(model, batch, **labels), expected, 0.03)
                outputs_of(model.train(), batch, **labels)["loss"].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_compiled_models_are_not_compiled_for_each_batch() -> None:
    torch._dynamo.reset()
    model = made("bert", "token")
    batches = [padded_batch([[1] * (n + 3) + [0] * 9, [1] * 5 + [0] * (n + 7)]) for n in range(1, 9)]
    expected = [outputs_of(model, batch)["logits"] for batch in batches]
    counter = CompileCounter()
    with make_padding_free(model) as free:
        assert free.reason is None
        model.compile(backend=counter, dynamic=True)
        found, counts = [], []
        for batch in batches:
            found.append(outputs_of(model, batch)["logits"])
            counts.append(counter.frame_count)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert counts[0] > 0
    assert counts[-1] == counts[2], counts


def saved_bytes(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """What backward keeps, each storage once, weights left out."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(**batch)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    assert output[0].requires_grad
    return sum(size for place, size in storages.items() if place not in weights)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("model_type", ["bert", "llama", "modernbert"])
def test_less_is_kept_for_backward(model_type: str, dropout: float) -> None:
    rate = "attention_probs_dropout_prob" if model_type == "bert" else "attention_dropout"
    model = made(model_type, "sequence", hidden_size=64, num_attention_heads=4, **{rate: dropout})
    lengths = torch.randint(3, 150, (12,), generator=torch.Generator().manual_seed(0)).tolist()
    mixed, full = padded_batch([[1] * n + [0] * (150 - n) for n in lengths]), padded_batch([[1] * 60] * 8)
    padded = [saved_bytes(model, batch) for batch in (mixed, full)]
    with make_padding_free(model) as free:
        assert free.reason is None
        flat = [saved_bytes(model, batch) for batch in (mixed, full)]
    assert flat[0] < 0.7 * padded[0]
    # where there is nothing to save, two states `[tokens, hidden]` of the whole model are all it costs
    assert flat[1] < padded[1] + 2 * 8 * 60 * 64 * 4
