"""Documents side by side give what each gives alone, in logits and gradients, and never see each other."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from lit_ft.ops.heads.split_model import SplitModel
from lit_ft.ops.padding_free.attention import PREFIX
from lit_ft.ops.padding_free.isolation import isolate, undo
from lit_ft.ops.padding_free.layout import Layout
from lit_ft.ops.padding_free.sequences import Sequences, running_flat
from tests.ops.architectures import VOCABULARY, tiny_language_model

ISOLATED = [
    "llama",
    "gpt2",
    "qwen3",
    "mistral",
    "gemma2",
    "gemma3_text",
    "phi3",
    "gpt_neox",
    "opt",
    "olmo2",
    "smollm3",
    "cohere",
    "granite",
    "phi",
]
REFUSED = ["mamba", "falcon", "bloom", "mpt", "xlnet"]
LENGTHS = [10, 1, 3, 6, 6, 6, 6, 2]


def documents() -> list[Tensor]:
    return [torch.randint(5, VOCABULARY, (length,)) for length in LENGTHS]


def packed(texts: list[Tensor]) -> dict[str, Tensor]:
    """Two rows of 20 tokens, each with documents whose positions restart."""
    return {
        "input_ids": torch.cat(texts).view(2, 20),
        "position_ids": torch.cat([torch.arange(len(text)) for text in texts]).view(2, 20),
    }


def sum_of_losses(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5 * largest, msg=name)


def grouped(model_type: str) -> PreTrainedModel:
    """With fewer keys than queries where the architecture has that."""
    more = {} if model_type in ("gpt2", "gpt_neox", "opt") else {"num_attention_heads": 4, "num_key_value_heads": 2}
    return tiny_language_model(model_type, **more)


def flat_inputs(texts: list[Tensor]) -> dict[str, Any]:
    return {
        "input_ids": torch.cat(texts)[None],
        "position_ids": torch.cat([torch.arange(len(text)) for text in texts])[None],
        "sequence_lengths": Sequences([len(text) for text in texts]),
    }


def flat_logits(model: PreTrainedModel, texts: list[Tensor]) -> Tensor:
    with running_flat():
        logits: Tensor = model(**flat_inputs(texts), use_cache=False).logits[0]
    return logits


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("model_type", ISOLATED)
def test_side_by_side_equals_alone(model_type: str, implementation: str) -> None:
    model, texts = grouped(model_type), documents()
    if not (implementation == "sdpa" and model_type == "gemma2"):
        model.set_attn_implementation(implementation)
    targets = torch.randint(VOCABULARY, (sum(LENGTHS),))
    alone = torch.cat([model(input_ids=text[None], use_cache=False).logits[0] for text in texts])
    sum_of_losses(alone, targets).backward()
    expected = gradients(model)

    assert isolate(model) is None
    logits = flat_logits(model, texts)
    torch.testing.assert_close(logits, alone, rtol=1e-5, atol=1e-5)
    sum_of_losses(logits, targets).backward()
    assert_same_gradients(gradients(model), expected)

    model.gradient_checkpointing_enable()
    logits = flat_logits(model, texts)
    sum_of_losses(logits, targets).backward()  # recomputes outside of `running_flat`
    assert_same_gradients(gradients(model), expected)


@pytest.mark.parametrize("model_type", ISOLATED)
def test_a_document_knows_nothing_of_the_others(model_type: str) -> None:
    model, texts = grouped(model_type), documents()
    assert isolate(model) is None
    with torch.no_grad():
        before = flat_logits(model, texts).split(LENGTHS)
        texts[2] = (texts[2] - 4) % VOCABULARY
        after = flat_logits(model, texts).split(LENGTHS)
    for number in range(len(LENGTHS)):
        if number == 2:
            assert not torch.allclose(before[2], after[2])
        else:
            torch.testing.assert_close(after[number], before[number], rtol=0, atol=1e-6)


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma2", "gemma3_text"])
def test_equals_transformers_mask_of_packed_positions(model_type: str) -> None:
    model, texts = grouped(model_type), documents()
    expected = model(**packed(texts), use_cache=False).logits.flatten(0, 1)
    assert isolate(model) is None
    torch.testing.assert_close(flat_logits(model, texts), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model_type", REFUSED)
def test_architectures_that_cannot_say_why_and_stay_as_they_are(model_type: str) -> None:
    model = tiny_language_model(model_type)
    ids, before = torch.randint(5, VOCABULARY, (2, 9)), model.config._attn_implementation
    expected = model(input_ids=ids).logits
    assert isolate(model)
    assert model.config._attn_implementation == before
    assert torch.equal(model(input_ids=ids).logits, expected)


def test_windows_that_only_the_mask_knows_are_refused() -> None:
    model = tiny_language_model("llama4_text", attention_chunk_size=64, intermediate_size=32, intermediate_size_mlp=32)
    assert isolate(model)


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "mistral"])
def test_without_lengths_and_after_undo_the_model_is_as_before(model_type: str, tmp_path: Path) -> None:
    model = tiny_language_model(model_type)
    inputs = {
        "input_ids": torch.randint(5, VOCABULARY, (2, 9)),
        "attention_mask": torch.tensor([[0] * 3 + [1] * 6, [1] * 9]),
    }
    expected, before = model(**inputs).logits, model.config._attn_implementation
    assert isolate(model) is None
    assert isolate(model) is None  # it is there already
    assert model.training
    assert torch.equal(model(**inputs).logits, expected)
    model.save_pretrained(tmp_path)
    assert PREFIX not in (tmp_path / "config.json").read_text()
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path).train()(**inputs).logits, expected)
    undo(model)
    assert model.config._attn_implementation == before
    assert torch.equal(model(**inputs).logits, expected)


def test_split_models_run_flat() -> None:
    model, texts = grouped("llama"), documents()
    assert isolate(model) is None
    split = SplitModel.of(model)
    assert split is not None
    with running_flat():
        hidden = split.hidden(**flat_inputs(texts))
    assert hidden.shape == (1, sum(LENGTHS), 32)
    torch.testing.assert_close(split.logits(hidden[0]), flat_logits(model, texts))


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=6), min_size=1, max_size=4))
def test_lengths_are_read_from_positions(rows: list[list[int]]) -> None:
    """Rows of any documents; short rows end in padding at position 0, each a document of its own."""
    width = max(map(sum, rows))
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    for number, lengths in enumerate(rows):
        positions[number, : sum(lengths)] = torch.cat([torch.arange(length) for length in lengths])
    found = Layout.of_documents(positions)
    documents = [length for row in rows for length in row if length > 1]
    if not documents:
        assert found.index.tolist() == [0]  # a model cannot run on nothing
        return
    assert list(found.sequences.lengths) == documents
    assert sorted(n for each in found.sequences.buckets for n in each.lengths.tolist()) == sorted(documents)
    starts = (positions == 0) & torch.cat([positions[:, 1:] == 1, torch.zeros(len(rows), 1, dtype=torch.bool)], 1)
    assert torch.equal(found.flatten(positions)[0], torch.cat([torch.arange(length) for length in documents]))
    assert found.row_of_token()[0][found.flatten(starts)[0]].tolist() == starts.nonzero()[:, 0].tolist()
