"""What people do with a model that skips padding: it undoes itself, saves, generates, and takes any batch."""

import copy
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForSeq2SeqLM,
    BartConfig,
    PreTrainedModel,
    pipeline,
)

from lit_ft.ops.padding_free.attention import PREFIX
from lit_ft.ops.padding_free.running import make_padding_free
from tests.ops.architectures import VOCABULARY, tiny_model
from tests.ops.test_padding_free import (
    DOCUMENT,
    ROWS,
    assert_same_gradients,
    assert_same_outputs,
    labels_for,
    outputs_of,
    padded_batch,
    tokens_worked_on,
    trained,
    with_head,
)
from tests.tiny import make_tokenizer

MODELS = [
    ("bert", "sequence"),
    ("roberta", "token"),
    ("modernbert", "masked"),
    ("deberta-v2", "sequence"),
    ("llama", "sequence"),
    ("gemma3_text", "causal"),
]


def made(model_type: str, head: str, **overrides: Any) -> PreTrainedModel:
    model = with_head(model_type, head, **overrides)
    assert model is not None
    return model


def total(batch: dict[str, Tensor]) -> int:
    return int(batch["attention_mask"].sum())


def assert_as_with_padding(model: PreTrainedModel, batch: dict[str, Tensor], share: float = 1e-5, **more: Any) -> None:
    expected = trained(model, batch, **more)
    with make_padding_free(model) as free:
        assert free.reason is None
        found = trained(model, batch, **more)
    assert_same_outputs(found[0], expected[0], share)
    assert_same_gradients(found[1], expected[1], share)


# Undone, saved, copied


@pytest.mark.parametrize(("model_type", "head"), MODELS)
def test_undo_gives_the_model_back(model_type: str, head: str) -> None:
    model = made(model_type, head)
    batch = padded_batch(ROWS["right"])
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = {
        name: len(module._forward_hooks) + len(module._forward_pre_hooks) for name, module in model.named_modules()
    }
    config, expected, state = model.config.to_dict(), outputs_of(model, batch), torch.get_rng_state()
    free = make_padding_free(model)
    assert torch.equal(torch.get_rng_state(), state)
    outputs_of(model, batch)
    free.undo()
    free.undo()
    assert {name: vars(module).keys() for name, module in model.named_modules()} == {
        name: each.keys() for name, each in before.items()
    }
    assert hooks == {name: len(m._forward_hooks) + len(m._forward_pre_hooks) for name, m in model.named_modules()}
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.training
    assert model.config.to_dict() == config
    assert PREFIX not in str(model.config._attn_implementation)
    found = outputs_of(model, batch)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_context_ends_with_an_error_too() -> None:
    model, batch = made("bert", "token"), padded_batch(ROWS["right"])
    expected = model(**batch).logits
    with make_padding_free(model), pytest.raises(IndexError):
        model(input_ids=batch["input_ids"] + VOCABULARY, attention_mask=batch["attention_mask"])
    assert torch.equal(model(**batch).logits, expected)


def test_it_is_saved_and_serves_as_any_other(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    model = made("bert", "sequence", vocab_size=len(tokenizer)).eval()
    texts = ["what is my balance", "card", "I want to send money to my sister"]
    expected = pipeline("text-classification", model=model, tokenizer=tokenizer)(texts, batch_size=3)
    with make_padding_free(model) as free:
        assert free.reason is None
        model.save_pretrained(tmp_path)
        found = pipeline("text-classification", model=model, tokenizer=tokenizer)(texts, batch_size=3)
    tokenizer.save_pretrained(tmp_path)
    assert PREFIX not in (tmp_path / "config.json").read_text()
    of_saved = pipeline("text-classification", model=str(tmp_path))(texts, batch_size=3)
    for one in (found, of_saved):
        assert [row["label"] for row in one] == [row["label"] for row in expected]
        assert [row["score"] for row in one] == pytest.approx([row["score"] for row in expected], rel=1e-5)


def test_signatures_stay() -> None:
    # Hugging Face's Trainer drops the columns that forward does not name
    model = made("llama", "causal")
    before = inspect.signature(model.forward)
    with make_padding_free(model):
        assert inspect.signature(model.forward) == before


@pytest.mark.parametrize("way", ["copy", "pickle"])
def test_copies_are_models_of_their_own(way: str) -> None:
    model, batch = made("bert", "token"), padded_batch(ROWS["right"])
    expected = model(**batch).logits
    with make_padding_free(model):
        other = copy.deepcopy(model) if way == "copy" else pickle.loads(pickle.dumps(model))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
    real = batch["attention_mask"] > 0
    torch.testing.assert_close(other(**batch).logits[real], expected[real], rtol=1e-5, atol=1e-5)


# Everything else runs as before


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize(
    "model_type",
    [
        "llama",
        "gemma3_text",
        "gpt2",
    ],
)
def test_generation_is_unchanged(model_type: str, use_cache: bool) -> None:
    model, batch = made(model_type, "causal").eval(), padded_batch(ROWS["left"])
    options = {"max_new_tokens": 6, "do_sample": False, "use_cache": use_cache, "eos_token_id": None}
    expected = model.generate(**batch, **options)
    with make_padding_free(model) as free:
        assert free.reason is None
        assert torch.equal(model.generate(**batch, **options), expected)


@pytest.mark.parametrize(
    "where",
    ["call", "config"],
)
@pytest.mark.parametrize("name", ["output_attentions", "output_hidden_states"])
def test_states_and_attentions_come_as_before(name: str, where: str) -> None:
    model, batch = made("bert", "token", attn_implementation="eager"), padded_batch(ROWS["right"])
    asked = {name: True}
    if where == "config":
        setattr(model.config, name, True)
        asked = {}
    key = name.removeprefix("output_")
    expected = model(**batch, **asked)[key]
    with make_padding_free(model) as free:
        assert free.reason is None
        found = model(**batch, **asked)[key]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_cache_that_is_asked_for_is_that_of_the_padded_batch() -> None:
    model, batch = made("llama", "causal").eval(), padded_batch(ROWS["left"])
    expected = model(**batch, use_cache=True)
    with make_padding_free(model) as free:
        assert free.reason is None
        found = model(**batch, use_cache=True)
    assert found.past_key_values.get_seq_length() == expected.past_key_values.get_seq_length() == 12
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0)


def test_logits_to_keep_are_those_of_each_row() -> None:
    model, batch = made("llama", "causal"), padded_batch(ROWS["left"])
    expected = model(**batch, logits_to_keep=1).logits
    with make_padding_free(model):
        torch.testing.assert_close(model(**batch, logits_to_keep=1).logits, expected, rtol=1e-5, atol=1e-5)


def test_tuples_and_arguments_by_position() -> None:
    model, batch = made("bert", "token"), padded_batch(ROWS["right"])
    labels, real = labels_for("token", batch)["labels"], batch["attention_mask"] > 0
    expected = model(**batch, labels=labels, return_dict=False)
    with make_padding_free(model):
        loss, logits = model(batch["input_ids"], batch["attention_mask"], labels=labels, return_dict=False)
    torch.testing.assert_close(loss, expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(logits[real], expected[1][real], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int32])
def test_masks_of_any_type(dtype: torch.dtype) -> None:
    model, batch = made("bert", "token"), padded_batch(ROWS["both"])
    expected = outputs_of(model, batch)
    with make_padding_free(model):
        mask = batch["attention_mask"].to(dtype)
        assert_same_outputs(outputs_of(model, {**batch, "attention_mask": mask}), expected)


def test_batches_without_a_mask_or_with_a_square_one() -> None:
    model, ids = made("bert", "token"), padded_batch(ROWS["right"])["input_ids"]
    square = torch.ones(len(ids), 1, ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    expected = [model(input_ids=ids).logits, model(input_ids=ids, attention_mask=square).logits]
    with make_padding_free(model):
        assert torch.equal(model(input_ids=ids).logits, expected[0])
        assert torch.equal(model(input_ids=ids, attention_mask=square).logits, expected[1])


# Inputs


def test_token_types_and_positions() -> None:
    batch = padded_batch(ROWS["right"])
    types = (torch.arange(12) > 3).long().expand(5, 12).contiguous()
    for positions in (torch.arange(12).flip(0)[None], torch.randint(0, 30, (5, 12))):
        more = {"token_type_ids": types, "position_ids": positions}
        for model in (made("bert", "sequence"), made("electra", "token")):
            assert_as_with_padding(model, batch, **more)


def test_rows_without_tokens() -> None:
    batch = padded_batch([*ROWS["right"], [0] * 12])
    assert_as_with_padding(made("bert", "token"), batch)
    assert_as_with_padding(made("llama", "causal"), batch, **labels_for("causal", batch))


def test_batches_without_tokens() -> None:
    model = made("bert", "token")
    with make_padding_free(model):
        assert model(**padded_batch([[0] * 3] * 2)).logits.shape == (2, 3, 3)


HOLES = [[1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0], [1] * 12, [0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize(
    "model_type",
    [
        "bert",
        "gpt2",
        "llama",
        "modernbert",
        "gemma3_text",
    ],
)
def test_padding_within_rows(model_type: str) -> None:
    # windows count columns: two tokens with padding between them are further apart than without
    more = {"local_attention": 4} if model_type == "modernbert" else {}
    assert_as_with_padding(tiny_model(model_type, AutoModel, **more), padded_batch(HOLES))


def test_multiple_choice() -> None:
    model = tiny_model("bert", AutoModelForMultipleChoice)
    flat = padded_batch([*ROWS["right"], [0] * 12])
    batch = {name: value.view(2, 3, 12) for name, value in flat.items()}
    expected = model(**batch).logits
    with make_padding_free(model) as free:
        assert free.reason is None
        found = model(**batch).logits
        assert total(flat) in tokens_worked_on(model, batch)
    torch.testing.assert_close(found.flatten()[:-1], expected.flatten()[:-1], rtol=1e-5, atol=1e-5)


def test_models_that_count_the_mask_tokens_of_a_row() -> None:
    model = made("esm", "masked", mask_token_id=90, token_dropout=True)
    batch = padded_batch(ROWS["right"])
    batch["input_ids"][0, 2:5] = batch["input_ids"][4, 3] = 90
    expected = outputs_of(model, batch)
    with make_padding_free(model):
        assert_same_outputs(outputs_of(model, batch), expected)


def test_decoders_beside_encoders_have_tokens_of_their_own() -> None:
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes |= {"d_model": 32, "encoder_ffn_dim": 37, "decoder_ffn_dim": 37, "vocab_size": VOCABULARY, "dropout": 0.0}
    model = AutoModelForSeq2SeqLM.from_config(BartConfig(**sizes)).eval()
    batch = padded_batch(ROWS["right"])
    theirs = torch.randint(5, VOCABULARY, batch["input_ids"].shape)
    expected = model(**batch, decoder_input_ids=theirs).logits
    with make_padding_free(model):
        torch.testing.assert_close(model(**batch, decoder_input_ids=theirs).logits, expected, rtol=1e-5, atol=1e-5)


# Rows know nothing of each other


@pytest.mark.parametrize(("model_type", "head"), MODELS)
def test_other_rows_do_not_matter(model_type: str, head: str) -> None:
    model, rows = made(model_type, head).eval(), ROWS["right"]
    batch, others = padded_batch(rows), [0, 2, 3, 4]
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][1] = (changed["input_ids"][1] - 3) * batch["attention_mask"][1]
    shorter = {**changed, "attention_mask": batch["attention_mask"].clone()}
    shorter["attention_mask"][1, 2:] = 0
    with torch.no_grad(), make_padding_free(model) as free:
        assert free.reason is None
        before, after, last = (model(**each).logits for each in (batch, changed, shorter))
    assert not torch.equal(after[1], before[1])
    assert torch.equal(after[others], before[others])
    torch.testing.assert_close(last[others], before[others], rtol=0, atol=1e-6 * float(before.abs().max()))


BASES = {name: tiny_model(name, AutoModel) for name in ("bert", "modernbert", "llama", "gemma3_text", "mpnet")}
PATTERN = st.tuples(st.integers(0, 6), st.integers(1, 14), st.integers(0, 6))


@given(st.sampled_from(sorted(BASES)), st.lists(PATTERN, min_size=1, max_size=6), st.integers(0, 9))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_any_lengths_with_padding_on_any_side(model_type: str, pattern: list[tuple[int, int, int]], seed: int) -> None:
    width = max(map(sum, pattern))
    rows = [[0] * left + [1] * real + [0] * (width - left - real) for left, real, _ in pattern]
    assert_as_with_padding(BASES[model_type], padded_batch(rows, seed))


@given(
    st.sampled_from(["bert", "llama"]),
    st.lists(st.lists(st.integers(0, 1), min_size=9, max_size=9).filter(any), min_size=1),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_any_pattern_of_padding(model_type: str, rows: list[list[int]]) -> None:
    assert_as_with_padding(BASES[model_type], padded_batch(rows))


def test_the_example_of_the_documentation_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
