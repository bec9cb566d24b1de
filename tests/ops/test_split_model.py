"""Both halves of a model give its own logits, for many architectures, and leave it as it was."""

import copy

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from lit_ft.ops.heads.split_model import SplitModel, split_or_reason
from tests.ops.architectures import CAUSAL, MASKED, VOCABULARY, tiny_language_model

ALL = [*((name, True) for name in [*CAUSAL, "xlnet"]), *((name, False) for name in MASKED)]


@pytest.mark.parametrize(("model_type", "causal"), ALL)
def test_head_of_hidden_is_the_models_own_logits(model_type: str, causal: bool) -> None:
    model = tiny_language_model(model_type, causal)
    split = SplitModel.of(model)
    assert split is not None
    ids = torch.randint(5, VOCABULARY, (3, 11))
    expected = model(input_ids=ids).logits
    hidden = split.hidden(input_ids=ids)
    assert hidden.shape[:2] == ids.shape
    assert hidden.requires_grad
    torch.testing.assert_close(split.logits(hidden.flatten(0, 1)).view_as(expected), expected)
    rows = torch.rand(3, 11) < 0.3
    torch.testing.assert_close(split.logits_at(rows, input_ids=ids), expected[rows])


@pytest.mark.parametrize(("model_type", "causal"), ALL)
def test_head_parameters_are_those_that_logits_have_gradients_for(model_type: str, causal: bool) -> None:
    model = tiny_language_model(model_type, causal)
    split = SplitModel.of(model)
    assert split is not None
    hidden = split.hidden(input_ids=torch.tensor([[5, 6, 7]])).detach()
    split.logits(hidden[0]).square().sum().backward()
    used = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert set(split.head_names) == used
    model.requires_grad_(False)
    assert split.head_parameters() == []


def test_model_is_left_as_it_was() -> None:
    model = tiny_language_model("llama")
    model.model.layers[0].eval()  # a frozen part keeps its own mode
    modes, weights = [module.training for module in model.modules()], copy.deepcopy(model.state_dict())
    modules, random = list(model.named_modules()), torch.get_rng_state()
    split = SplitModel.of(model)
    assert split is not None
    with pytest.raises(RuntimeError):
        split.logits(torch.zeros(2, 7))
    with pytest.raises(IndexError):
        split.hidden(input_ids=torch.tensor([[VOCABULARY]]))
    assert [module.training for module in model.modules()] == modes
    assert list(model.named_modules()) == modules
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)


def test_hidden_pass_shows_the_head_one_token() -> None:
    model = tiny_language_model("gpt2")
    split = SplitModel.of(model)
    assert split is not None
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda _, __, logits: rows.append(logits.numel() // VOCABULARY))
    split.hidden(input_ids=torch.ones(4, 9, dtype=torch.long))
    assert rows == [1]


def test_xlnet_query_stream_and_extra_inputs_pass_through() -> None:
    model = tiny_language_model("xlnet")
    split = SplitModel.of(model)
    assert split is not None
    ids = torch.randint(5, VOCABULARY, (2, 8))
    inputs = {
        "input_ids": ids,
        "perm_mask": torch.triu(torch.ones(8, 8)).expand(2, 8, 8),
        "target_mapping": torch.eye(8)[[1, 4, 6]].expand(2, 3, 8),
    }
    hidden = split.hidden(**inputs)
    assert hidden.shape == (2, 3, 32)
    torch.testing.assert_close(split.logits(hidden.flatten(0, 1)).view(2, 3, -1), model(**inputs).logits)


def test_linear_heads_are_told_from_others() -> None:
    heads = {name: SplitModel.of(tiny_language_model(name)) for name in ("llama", "phi", "gemma2", "cohere", "granite")}
    linear = {name: split.linear for name, split in heads.items() if split is not None}
    assert linear["llama"] is not None
    assert (linear["llama"].weight, linear["llama"].bias, linear["llama"].softcap) == ("lm_head.weight", None, None)
    assert linear["phi"] is not None
    assert linear["phi"].bias == "lm_head.bias"
    assert linear["gemma2"] is not None
    assert linear["gemma2"].softcap == 30.0
    assert linear["cohere"] is None  # scales its logits
    assert linear["granite"] is None


class MixingHead(BertForMaskedLM):
    """A head that looks at neighbours: no function of single rows."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.cls = nn.Sequential(nn.Conv1d(3, 3, 1), self.cls)


def test_a_head_that_mixes_rows_is_refused_with_a_reason() -> None:
    config = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    split, reason = split_or_reason(MixingHead(config))
    assert split is None
    assert reason


def test_router_losses_are_not_lost_silently() -> None:
    model = tiny_language_model("mixtral", intermediate_size=32, output_router_logits=True)
    split, reason = split_or_reason(model)
    assert split is None
    assert "output_router_logits" in reason
