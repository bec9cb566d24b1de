"""What could go wrong in silence without padding: heads that hide it, and models that change afterwards."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from lit_ft import TextClassificationModule
from lit_ft.data.batching.twins import keep_twins, on_cpu
from lit_ft.errors import UserError
from lit_ft.ops.padding_free.position_rules import by_mask, by_padding_token
from lit_ft.ops.padding_free.running import PaddingFree, make_padding_free
from tests.ops.architectures import tiny_model
from tests.ops.test_padding_free import ROWS, padded_batch


def classifier(model_type: str, **overrides: Any) -> PreTrainedModel:
    return tiny_model(model_type, AutoModelForSequenceClassification, **overrides).eval()


def assert_as_padded(model: PreTrainedModel, change: Callable[[], Any] = lambda: None) -> None:
    batch = padded_batch(ROWS["right"])
    with torch.no_grad(), make_padding_free(model):
        change()
        found = model(**batch).logits
    with torch.no_grad():
        torch.testing.assert_close(found, model(**batch).logits, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("model_type", "rule"), [("roberta", by_padding_token), ("opt", by_mask)])
@pytest.mark.parametrize("bias", [0.0, 1000.0])
def test_a_head_that_says_nothing_hides_no_wrong_position(model_type: str, rule: Any, bias: float) -> None:
    model = classifier(model_type, num_labels=1)
    head = model.classifier.out_proj if model_type == "roberta" else model.score
    with torch.no_grad():
        head.weight.zero_()
        if head.bias is not None:
            head.bias.fill_(bias)
    assert PaddingFree.of(model).positions is rule


def test_another_attention_chosen_afterwards_runs_padded() -> None:
    model = classifier("bert")
    assert_as_padded(model, lambda: model.set_attn_implementation("eager"))


def test_another_padding_token_afterwards_changes_no_position() -> None:
    model = classifier("roberta")
    assert_as_padded(model, lambda: setattr(model.config, "pad_token_id", 3))


def test_one_row_may_stand_for_all() -> None:
    model, batch = classifier("bert"), padded_batch([[1] * 7 + [0] * 5, [1] * 5 + [0] * 7])  # 12 tokens, 12 columns
    batch["token_type_ids"] = (torch.arange(12) % 2)[None]
    expected = model(**batch).logits
    with make_padding_free(model):
        torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-5, atol=1e-6)


def test_a_failed_batch_leaves_no_trace() -> None:
    model, batch = classifier("bert"), padded_batch(ROWS["right"])
    expected = model(**batch).logits
    with make_padding_free(model):
        with pytest.raises((RuntimeError, IndexError)):
            model(**batch, position_ids=torch.zeros(7, 3, dtype=torch.long))
        torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-5, atol=1e-6)
        plain = model(input_ids=batch["input_ids"]).logits
    assert torch.equal(plain, model(input_ids=batch["input_ids"]).logits)


def test_contexts_within_each_other() -> None:
    model = classifier("bert")
    free = PaddingFree.of(model)
    with free:
        with free:
            pass
        assert "forward" in vars(model.bert)
    assert "forward" not in vars(model.bert)


def test_sparse_attention_stays_sparse() -> None:
    model = classifier("big_bird", attention_type="block_sparse", block_size=2, num_random_blocks=1)
    PaddingFree.of(model)
    assert model.bert.attention_type == "block_sparse"


def test_a_module_can_be_copied_after_a_pass() -> None:
    module = TextClassificationModule(model_type="bert")
    module.model, batch = classifier("bert"), padded_batch(ROWS["right"])
    expected = module(**batch).logits
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in module.model.parameters():
            parameter.zero_()
    torch.testing.assert_close(other(**batch).logits, expected)


@pytest.mark.parametrize("option", ["of", None, 1])
def test_unknown_options_are_named(option: Any) -> None:
    with pytest.raises(UserError, match=r"padding_free is .*; it must be auto, on or off"):
        TextClassificationModule(model_type="bert", padding_free=option)


@pytest.mark.parametrize(("option", "flat"), [(False, False), ("off", False), (True, True), ("auto", True)])
def test_yaml_reads_on_and_off_as_booleans(option: Any, flat: bool) -> None:
    module = TextClassificationModule(model_type="bert", padding_free=option)
    module.model = classifier("bert")
    assert (module.without_padding.reason is None) == flat


def test_a_twin_of_what_was_changed_is_none() -> None:
    tensor, there = torch.ones(3, device="meta"), torch.ones(3)
    keep_twins({"x": there}, {"x": tensor})
    assert on_cpu(tensor) is there
    tensor.add_(1)
    with pytest.raises(NotImplementedError):  # `meta` stands for a device; it has nothing to copy
        on_cpu(tensor)
