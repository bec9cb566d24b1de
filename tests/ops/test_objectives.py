"""Causal or masked: against models themselves, which see the token after the one they predict, or do not."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel, XLMWithLMHeadModel

from lit_ft.errors import UserError
from lit_ft.ops.building.objectives import check_causal, check_masked, is_permutation
from tests.ops.architectures import CAUSAL, MASKED, VOCABULARY, tiny_language_model

BOTH = [
    ("bert", {}),
    ("roberta", {"pad_token_id": 1}),
    ("electra", {"embedding_size": 16}),
    ("camembert", {"pad_token_id": 1}),
    ("bert-generation", {}),
]


def looks_ahead(model: PreTrainedModel) -> bool:
    torch.manual_seed(2)
    ids = torch.randint(6, VOCABULARY, (1, 8))
    other = ids.clone()
    other[0, -1] = 6 + (ids[0, -1] - 5) % (VOCABULARY - 6)
    assert other[0, -1] != ids[0, -1]
    with torch.no_grad():
        before, after = (model.eval()(input_ids=each).logits[0, :7] for each in (ids, other))
    return not torch.allclose(before, after, atol=1e-7)


@pytest.mark.parametrize("kind", CAUSAL)
def test_what_looks_back_alone_is_causal(kind: str) -> None:
    model = tiny_language_model(kind)
    assert not looks_ahead(model)
    check_causal(model.config)
    with pytest.raises(UserError, match=f"{kind} is a causal language model; use CausalLMModule"):
        check_masked(model.config)


@pytest.mark.parametrize("kind", MASKED)
def test_what_looks_both_ways_is_masked(kind: str) -> None:
    model = tiny_language_model(kind, causal=False)
    assert looks_ahead(model)
    check_masked(model.config)
    with pytest.raises(UserError, match="MaskedLMModule"):
        check_causal(model.config)


@pytest.mark.parametrize(("kind", "overrides"), BOTH)
def test_an_encoder_is_causal_as_a_decoder_only(kind: str, overrides: dict[str, Any]) -> None:
    encoder = tiny_language_model(kind, **overrides)
    assert looks_ahead(encoder)
    with pytest.raises(UserError, match=r"sees the tokens .* config_overrides: \{is_decoder: true\}"):
        check_causal(encoder.config)
    decoder = tiny_language_model(kind, is_decoder=True, **overrides)
    assert not looks_ahead(decoder)
    check_causal(decoder.config)
    with pytest.raises(UserError, match="MaskedLMModule"):
        check_masked(decoder.config)


@pytest.mark.parametrize("causal", [False, True])
def test_xlm_has_a_switch_of_its_own(causal: bool) -> None:
    config = tiny_language_model("xlm").config
    config.causal = causal
    assert looks_ahead(XLMWithLMHeadModel(config)) != causal
    fits, other = (check_causal, check_masked) if causal else (check_masked, check_causal)
    fits(config)
    with pytest.raises(UserError, match="causal: "):
        other(config)


def test_permutations() -> None:
    model = tiny_language_model("xlnet")
    assert looks_ahead(model)
    assert is_permutation(model.config)
    check_masked(model.config)
    with pytest.raises(UserError, match="use MaskedLMModule"):
        check_causal(model.config)
    assert not any(is_permutation(AutoConfig.for_model(kind)) for kind in [*CAUSAL, *MASKED])


def test_others_are_neither() -> None:
    for kind in ("t5", "vit", "clip"):
        config = AutoConfig.for_model(kind)
        with pytest.raises(UserError, match="choose one such as gpt2"):
            check_causal(config)
        with pytest.raises(UserError, match="choose an encoder"):
            check_masked(config)
    with pytest.raises(UserError, match="bart writes its output token by token"):
        check_masked(AutoConfig.for_model("bart"))


def test_code_beside_a_checkpoint_says_what_it_has() -> None:
    config = AutoConfig.for_model("vit")
    config.auto_map = {"AutoModelForCausalLM": "modeling.Mine"}
    check_causal(config)
    with pytest.raises(UserError):
        check_masked(config)
    config.auto_map = {"AutoModelForMaskedLM": "modeling.Mine"}
    check_masked(config)
