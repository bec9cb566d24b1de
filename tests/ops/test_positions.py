"""How long an input may be, against models that are given inputs of that length and one token more."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from lit_ft.errors import UserError
from lit_ft.ops.building.positions import check_length, hard_limit, is_rotary, longest_input, usual_length
from tests.ops.architectures import CAUSAL, MASKED, VOCABULARY, tiny_language_model

DEBERTA_V3 = {
    "position_biased_input": False,
    "relative_attention": True,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
}
CASES: list[tuple[str, bool, dict[str, Any], int | None]] = [
    ("gpt2", True, {}, 160),
    ("opt", True, {}, 160),
    ("gptj", True, {}, 160),
    ("mpt", True, {"max_seq_len": 40}, 40),
    ("llama", True, {}, None),
    ("gemma2", True, {}, None),
    ("gemma3_text", True, {}, None),
    ("bloom", True, {}, None),
    ("mamba", True, {}, None),
    ("falcon", True, {}, None),
    ("falcon", True, {"alibi": True}, None),
    ("gpt_neox", True, {}, None),
    ("xglm", True, {"d_model": 32, "ffn_dim": 8, "num_layers": 1, "attention_heads": 2}, None),
    ("xlnet", True, {}, None),
    ("bert", False, {}, 160),
    ("roberta", False, {"pad_token_id": 1}, 158),
    ("roberta", False, {"pad_token_id": 5}, 154),
    ("mpnet", False, {"pad_token_id": 1}, 158),
    ("distilbert", False, {}, 160),
    ("electra", False, {}, 160),
    ("deberta-v2", False, {}, 160),
    ("deberta-v2", False, DEBERTA_V3, None),
    ("modernbert", False, {}, None),
    ("esm", False, {"pad_token_id": 1, "mask_token_id": 4}, 158),
    ("esm", False, {"pad_token_id": 1, "mask_token_id": 4, "position_embedding_type": "rotary"}, None),
]


@pytest.mark.parametrize(("model_type", "causal", "overrides", "limit"), CASES)
def test_the_hard_limit_is_where_the_model_fails(
    model_type: str, causal: bool, overrides: dict[str, Any], limit: int | None
) -> None:
    model = tiny_language_model(model_type, causal, **overrides).eval()
    assert hard_limit(model.config) == limit
    ids = torch.randint(6, VOCABULARY, (1, 200))
    with torch.no_grad():
        model(ids[:, : limit or 200])
        if limit is not None:
            with pytest.raises((IndexError, RuntimeError, ValueError)):
                model(ids[:, : limit + 1])


def test_rotary() -> None:
    rotary = {kind for kind in [*CAUSAL, *MASKED, "roformer", "t5", "xlnet"] if is_rotary(AutoConfig.for_model(kind))}
    none = {"gpt2", "opt", "mamba", "bloom", "mpt", "t5", "xlnet", *MASKED, "roformer", "gptj"} - {"modernbert"}
    # RoFormer and GPT-J rotate, but by a table that ends
    assert rotary == ({*CAUSAL} - none) | {"modernbert"}
    assert not is_rotary(AutoConfig.for_model("esm"))
    assert is_rotary(AutoConfig.for_model("esm", position_embedding_type="rotary"))


def test_what_a_model_was_made_for(tiny: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny())
    tokenizer.model_max_length = int(1e30)
    lengths = {"llama": 2048, "gpt2": 1024, "roberta": 510, "falcon": 2048, "mpt": 2048, "opt": 2048, "bert": 512}
    for kind, length in lengths.items():
        assert longest_input(AutoConfig.for_model(kind), tokenizer) == length
    for kind in ("t5", "xlnet", "bloom", "mamba"):
        assert longest_input(AutoConfig.for_model(kind), tokenizer) is None
    composite = AutoConfig.for_model("gemma3")
    assert longest_input(composite, tokenizer) == composite.text_config.max_position_embeddings
    assert hard_limit(AutoConfig.for_model("t5")) is None


def test_lengths_by_option_and_by_the_model() -> None:
    config, tokenizer = AutoConfig.for_model("gpt2", n_positions=160), SimpleNamespace(model_max_length=10**30)
    assert usual_length(config, tokenizer, 1024) == 160
    assert usual_length(config, tokenizer, 100) == usual_length(None, tokenizer, 100) == 100
    assert check_length("block_size", 160, config) == 160
    assert check_length("block_size", 161, None) == 161
    with pytest.raises(UserError, match="block_size 161 is above the model's 160 positions"):
        check_length("block_size", 161, config)
