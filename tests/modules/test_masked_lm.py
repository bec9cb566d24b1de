"""Masked language models: training as Hugging Face's Trainer, scores by hand, and filling in as the pipeline does."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from transformers import AutoModelForMaskedLM, AutoTokenizer, TrainingArguments, pipeline

from lit_ft import MaskedLMDataModule, MaskedLMModule
from lit_ft.errors import UserError
from tests.modules.conftest import NO_DROPOUT
from tests.modules.given_batches import TrainerOnGivenBatches
from tests.modules.test_training_parity import Recorder, furthest, weights
from tests.tiny import texts


@pytest.fixture(scope="module", params=["bert", "roberta", "distilbert"])
def encoder(request: Any, tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny encoder with its head, larger weights (so that tokens get different scores), dropout off."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(1)
    off = {"dropout": 0.0, "attention_dropout": 0.0} if request.param == "distilbert" else NO_DROPOUT
    model = AutoModelForMaskedLM.from_pretrained(tiny(request.param), **off)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embeddings" not in name:
                weight.mul_(8)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny(request.param)).save_pretrained(folder)
    return str(folder)


def rows(start: int, stop: int) -> list[dict[str, str]]:
    return [{"text": text} for text in texts()[start:stop]]


def make_data(model: str, **options: Any) -> MaskedLMDataModule:
    parts = {"train": rows(0, 200), "validation": rows(200, 260)}
    return MaskedLMDataModule(
        **{"model_name_or_path": model, "dataset": parts, "max_seq_length": 32, "batch_size": 8, **options}
    )


@pytest.mark.parametrize("options", [{}, {"line_by_line": True, "whole_word_mask": True}], ids=["blocks", "lines"])
def test_twenty_steps_equal_hugging_faces_trainer(
    encoder: str, options: dict[str, Any], tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    seed_everything(1)
    optimizer = {"learning_rate": 1e-3, "weight_decay": 0.01, "adam_epsilon": 1e-4}
    data, recorder = make_data(encoder, **options), Recorder()
    ours = MaskedLMModule(model_name_or_path=encoder, **optimizer)
    trainer(max_steps=20, gradient_clip_val=1.0, callbacks=[recorder], limit_val_batches=0).fit(ours, data)
    batches = [batch for batch, _ in zip(data.train_dataloader(), range(20), strict=False)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=20, max_grad_norm=1.0, save_strategy="no", report_to="none", use_cpu=True,
        disable_tqdm=True, **optimizer,
    )  # fmt: skip
    theirs = TrainerOnGivenBatches(batches, model=AutoModelForMaskedLM.from_pretrained(encoder), args=arguments)
    theirs.train()
    assert len(theirs.losses) == 20
    np.testing.assert_allclose(recorder.losses, theirs.losses, atol=1e-4)
    assert furthest(weights(ours), AutoModelForMaskedLM.from_pretrained(encoder).state_dict()) > 5e-3
    assert furthest(weights(ours), theirs.model.state_dict()) < 1e-5


def test_scores_are_those_of_the_model_itself_and_always_the_same(
    encoder: str, trainer: Callable[..., Trainer]
) -> None:
    data, module = make_data(encoder), MaskedLMModule(model_name_or_path=encoder)
    first, second = (trainer().validate(module, data, verbose=False)[0] for _ in range(2))
    assert first == second
    model = AutoModelForMaskedLM.from_pretrained(encoder).eval()
    loss = tokens = right = 0.0
    for batch in data.val_dataloader()[0]:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            logits = model(**inputs).logits
        wanted = batch["labels"] != -100
        loss += float(torch.nn.functional.cross_entropy(logits[wanted], batch["labels"][wanted], reduction="sum"))
        tokens += int(wanted.sum())
        right += int((logits[wanted].argmax(-1) == batch["labels"][wanted]).sum())
    assert first["val_loss"] == pytest.approx(loss / tokens, rel=1e-5)
    assert first["val_perplexity"] == pytest.approx(math.exp(loss / tokens), rel=1e-4)
    assert first["val_accuracy"] == pytest.approx(right / tokens)


def test_pseudo_perplexity_masks_tokens_one_by_one(encoder: str, trainer: Callable[..., Trainer]) -> None:
    sentences = [{"text": "where is my order"}, {"text": "thank you"}]
    data = make_data(encoder, dataset={"train": rows(0, 9), "validation": sentences}, line_by_line=True)
    module = MaskedLMModule(model_name_or_path=encoder, pseudo_perplexity=True)
    (scores,) = trainer().validate(module, data, verbose=False)
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    loss = tokens = 0.0
    for row in sentences:
        ids = tokenizer(row["text"], return_tensors="pt")["input_ids"]
        for place in range(1, ids.shape[1] - 1):
            masked = ids.clone()
            masked[0, place] = tokenizer.mask_token_id
            with torch.no_grad():
                loss -= float(model(masked).logits[0, place].log_softmax(-1)[ids[0, place]])
            tokens += 1
    assert scores["val_pseudo_perplexity"] == pytest.approx(math.exp(loss / tokens), rel=1e-4)


def test_masks_are_filled_in_as_by_the_pipeline(encoder: str, trainer: Callable[..., Trainer]) -> None:
    prompts = ["where is my [MASK]", "i want to [MASK] my [MASK] today", "[MASK]"]
    data = make_data(encoder, dataset={"predict": [{"id": n, "text": text} for n, text in enumerate(prompts)]})
    module = MaskedLMModule(model_name_or_path=encoder, top_k=4)
    written = [row for batch in trainer().predict(module, data) or [] for row in batch]
    pipe = pipeline("fill-mask", encoder, device="cpu", top_k=4)
    for row, prompt in zip(written, prompts, strict=True):
        answer = pipe(prompt)
        answer = answer if isinstance(answer[0], list) else [answer]
        assert len(row["predictions"]) == prompt.count("[MASK]")
        for ours, theirs in zip(row["predictions"], answer, strict=True):
            assert [each["token"] for each in ours] == [each["token"] for each in theirs]
            assert [each["token_str"] for each in ours] == [each["token_str"] for each in theirs]
            assert [each["sequence"] for each in ours] == [each["sequence"] for each in theirs]
            np.testing.assert_allclose([e["score"] for e in ours], [e["score"] for e in theirs], rtol=1e-4)


def test_a_causal_model_is_named(tiny: Callable[..., str], trainer: Callable[..., Trainer]) -> None:
    # the data module would say it first
    data = make_data(tiny("bert"))
    with pytest.raises(UserError, match="CausalLMModule"):
        trainer(max_steps=1).fit(MaskedLMModule(model_name_or_path=tiny("llama")), data)


@pytest.fixture
def permuting(tiny: Callable[..., str]) -> dict[str, Any]:
    """Options of a tiny XLNet from scratch, dropout off."""
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 37, "dropout": 0.0, "initializer_range": 0.3}
    return {"model_type": "xlnet", "config_overrides": sizes, "tokenizer_name": tiny("bert")}


def test_xlnet_learns_permutations_from_scratch_and_fills_in(
    permuting: dict[str, Any], tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    parts = {"train": rows(0, 200), "validation": rows(200, 240), "predict": [{"text": "where is my [MASK] today"}]}
    data = make_data(None, dataset=parts, tokenizer_name=permuting["tokenizer_name"], permutation=True)  # type: ignore[arg-type]
    module = MaskedLMModule(learning_rate=3e-3, num_warmup_steps=5, **permuting)
    run = trainer(max_epochs=4)
    run.fit(module, data)
    assert run.callback_metrics["val_loss"] < math.log(len(data.tokenizer)) - 0.3
    batch = next(iter(data.val_dataloader()[0]))
    assert {"perm_mask", "target_mapping"} <= batch.keys()
    wanted = batch["labels"] != -100
    model = module.model
    assert model is not None
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "perm_mask", "target_mapping")}
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(
            model.eval()(**inputs).logits[wanted], batch["labels"][wanted], reduction="sum"
        )
    parts = module.decode(module.outputs(batch), batch)
    assert float(sum(part["loss"] for part in parts)) == pytest.approx(float(expected), rel=1e-5)

    run.save_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    loaded = MaskedLMModule.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    first, second = ([r for b in trainer().predict(each, data) or [] for r in b] for each in (module, loaded))
    assert first == second
    assert len(first[0]["predictions"]) == 1


def test_an_xlnet_needs_permutations(permuting: dict[str, Any], trainer: Callable[..., Trainer]) -> None:
    data = make_data(None, tokenizer_name=permuting["tokenizer_name"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"set data\.permutation: true"):
        trainer(max_steps=1).fit(MaskedLMModule(**permuting), data)
