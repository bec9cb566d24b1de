"""Encoder-decoders whose encoder skips padding give what transformers gives with it: losses, gradients, texts."""

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from lit_ft.ops.padding_free.attention import PREFIX
from lit_ft.ops.padding_free.relative_bias import bias_per_sequence
from lit_ft.ops.padding_free.running import PaddingFree, make_padding_free
from tests.ops.test_padding_free import ROWS, assert_same_gradients, padded_batch, tokens_worked_on
from tests.pairs import FAMILIES, make_tokenizer, tiny_seq2seq

FLAT = [family for family in FAMILIES if family != "led"]
MODELS: dict[str, PreTrainedModel] = {}


def made(family: str, **overrides: Any) -> PreTrainedModel:
    if overrides:
        return tiny_seq2seq(family, make_tokenizer(family), **overrides).train()
    if family not in MODELS:
        MODELS[family] = tiny_seq2seq(family, make_tokenizer(family)).train()
    return MODELS[family]


def batch_of(model: PreTrainedModel, rows: list[list[int]], seed: int = 1) -> dict[str, Tensor]:
    batch = padded_batch(rows, seed)
    padding = model.config.pad_token_id
    ids = batch["input_ids"].where(batch["attention_mask"] > 0, padding)
    labels = padded_batch([[1] * (2 + number % 5) + [0] * (4 - number % 5) for number in range(len(rows))], seed + 1)
    return {**batch, "input_ids": ids, "labels": labels["input_ids"].where(labels["attention_mask"] > 0, -100)}


def trained(model: PreTrainedModel, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model.zero_grad()
    outputs = model(**batch)
    # the states of the encoder, too: a decoder that hardly looks at them would hide what differs
    real = batch["attention_mask"] > 0
    states = outputs.encoder_last_hidden_state[real]
    (outputs.loss + states.sin().square().mean()).backward()
    found = {"loss": outputs.loss.detach(), "logits": outputs.logits.detach(), "states": states.detach()}
    return found, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_as_with_padding(model: PreTrainedModel, batch: dict[str, Tensor]) -> None:
    expected = trained(model, batch)
    with make_padding_free(model) as free:
        assert free.reason is None
        found = trained(model, batch)
    for name, value in expected[0].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-5, atol=1e-5 * float(value.abs().max()), msg=name)
    assert_same_gradients(found[1], expected[1])


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("side", ROWS)
@pytest.mark.parametrize("family", FLAT)
def test_losses_and_gradients_equal_those_with_padding(family: str, side: str, implementation: str) -> None:
    model = made(family)
    model.set_attn_implementation(implementation)
    batch = batch_of(model, ROWS[side])
    assert_as_with_padding(model, batch)
    with make_padding_free(model):
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        assert int(batch["attention_mask"].sum()) in tokens_worked_on(model, inputs)


@pytest.mark.parametrize("family", ["t5", "mt5", "bart", "m2m_100"])
def test_recomputed_activations(family: str) -> None:
    model = copy.deepcopy(made(family))
    batch = batch_of(model, ROWS["both"])
    expected = trained(model, batch)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with make_padding_free(model) as free:
        assert free.reason is None
        found = trained(model, batch)
    assert_same_gradients(found[1], expected[1])


def test_biases_are_made_for_the_longest_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("t5")
    attention = model.encoder.block[0].layer[0].SelfAttention
    sizes: list[tuple[int, int]] = []
    before = type(attention).compute_bias

    def noting(self: Any, query: int, key: int, **more: Any) -> Tensor:
        sizes.append((query, key))
        return before(self, query, key, **more)

    monkeypatch.setattr(type(attention), "compute_bias", noting)
    batch = batch_of(model, ROWS["right"])
    with make_padding_free(model) as free:
        assert free.reason is None
        sizes.clear()
        model(**batch)
    assert sizes == [(12, 12), (6, 6)]  # encoder, decoder; the flat row has 32 tokens


@pytest.mark.parametrize("family", ["t5", "bart", "m2m_100"])
def test_undone_it_is_what_it_was(family: str) -> None:
    model = made(family)
    batch = batch_of(model, ROWS["right"])
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    expected = trained(model, batch)
    free = make_padding_free(model)
    assert free.reason is None
    assert not free.whole
    trained(model, batch)
    free.undo()
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert not any(hook is bias_per_sequence for hook in module._forward_pre_hooks.values())
        assert PREFIX not in str(getattr(getattr(module, "config", None), "_attn_implementation", ""))
    found = trained(model, batch)
    assert torch.equal(found[0]["logits"], expected[0]["logits"])


@pytest.mark.parametrize("way", ["copy", "pickle"])
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_copies_are_models_of_their_own(family: str, way: str) -> None:
    model = made(family, tie_word_embeddings=True)
    batch = batch_of(model, ROWS["right"])
    expected = model(**batch).loss
    with make_padding_free(model):
        other = copy.deepcopy(model) if way == "copy" else pickle.loads(pickle.dumps(model))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        assert float(other(**batch).loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", FLAT)
def test_texts_are_the_same(family: str, beams: int) -> None:
    model = copy.deepcopy(made(family)).eval()
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id or 2
    batch = batch_of(model, ROWS["right"])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 7, "num_beams": beams, "do_sample": False}
    expected = model.generate(**inputs, **options)
    with make_padding_free(model) as free:
        assert free.reason is None
        assert torch.equal(model.generate(**inputs, **options), expected)
        assert int(batch["attention_mask"].sum()) in tokens_worked_on_generating(model, inputs, options)


def tokens_worked_on_generating(model: PreTrainedModel, inputs: dict[str, Tensor], options: dict[str, Any]) -> set[int]:
    class Generating(torch.nn.Module):
        def forward(self, **given: Any) -> Any:
            return model.generate(**given, **options)

    return tokens_worked_on(Generating(), inputs)


PATTERN = st.tuples(st.integers(0, 5), st.integers(1, 12), st.integers(0, 5))


@given(st.sampled_from(["t5", "bart", "m2m_100"]), st.lists(PATTERN, min_size=1, max_size=5), st.integers(0, 9))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_any_lengths_with_padding_on_any_side(family: str, pattern: list[tuple[int, int, int]], seed: int) -> None:
    width = max(map(sum, pattern))
    rows = [[0] * left + [1] * real + [0] * (width - left - real) for left, real, _ in pattern]
    assert_as_with_padding(made(family), batch_of(made(family), rows, seed))


def test_dropout_is_drawn_for_real_tokens() -> None:
    for family, options in (("t5", {"dropout_rate": 0.4}), ("bart", {"dropout": 0.3, "attention_dropout": 0.3})):
        model = made(family, **options)
        batch = batch_of(model, ROWS["right"])
        with make_padding_free(model) as free:
            assert free.reason is None
            torch.manual_seed(1)
            first = model(**batch).encoder_last_hidden_state
            second = model(**batch).encoder_last_hidden_state
            torch.manual_seed(1)
            again = model(**batch).encoder_last_hidden_state
        assert torch.equal(first, again)
        assert not torch.equal(first, second)


def test_led_says_why_it_pads() -> None:
    free = PaddingFree.of(made("led"))
    assert free.reason == "LEDForConditionalGeneration computes attention without transformers' AttentionInterface"
