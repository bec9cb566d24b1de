"""Causal language models: training as Hugging Face's Trainer, scores by hand, generating, and what a run leaves."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, TrainingArguments, pipeline

from lit_ft import CausalLMDataModule, CausalLMModule
from lit_ft.errors import UserError
from lit_ft.ops.decoding.generation import NEW_TOKENS, length_options
from lit_ft.ops.heads.token_loss import token_scores
from lit_ft.ops.padding_free.layout import in_documents
from tests.modules.given_batches import TrainerOnGivenBatches
from tests.modules.test_training_parity import Recorder, furthest, weights
from tests.tiny import texts

KINDS = ["llama", "gpt2"]
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


@pytest.fixture(scope="module", params=KINDS)
def decoder(request: Any, tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny decoder with its head, larger weights (so that tokens get different scores), dropout off."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = AutoTokenizer.from_pretrained(tiny(request.param))
    specials = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(
        tiny(request.param), **specials, **(NO_DROPOUT if request.param == "gpt2" else {})
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "wte" not in name and "wpe" not in name and "embed" not in name:
                weight.mul_(8)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def rows(start: int, stop: int) -> list[dict[str, str]]:
    return [{"text": text} for text in texts()[start:stop]]


def make_data(model: str, **options: Any) -> CausalLMDataModule:
    parts = {"train": rows(0, 200), "validation": rows(200, 260)}
    return CausalLMDataModule(
        **{"model_name_or_path": model, "dataset": parts, "block_size": 32, "batch_size": 4, **options}
    )


def their_losses(model: str, batches: list[dict[str, Any]], folder: Path, **options: Any) -> tuple[list[float], Any]:
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=len(batches), max_grad_norm=1.0, save_strategy="no", report_to="none",
        use_cpu=True, disable_tqdm=True, lr_scheduler_type="linear", **options,
    )  # fmt: skip
    theirs = TrainerOnGivenBatches(batches, model=AutoModelForCausalLM.from_pretrained(model), args=arguments)
    # it does not know of every architecture (GPT-2 is one) that the first label predicts nothing, and counts it
    theirs._loss_shifts_labels = True
    theirs.train()
    return theirs.losses, theirs.model


@pytest.mark.parametrize(
    "options",
    [
        {"document_separator": False, "isolate_documents": False},
        {"isolate_documents": True},
        {"packing": "best_fit"},
        {"packing": "none", "isolate_documents": False},
    ],
    ids=["as the scripts", "isolated", "packed", "padded"],
)
def test_twenty_steps_equal_hugging_faces_trainer(
    decoder: str, options: dict[str, Any], tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    seed_everything(1)
    data, recorder = make_data(decoder, **options), Recorder()
    # AdamW divides by the gradient's own size: without a larger epsilon it would blow float noise up to whole steps
    optimizer = {"learning_rate": 1e-3, "weight_decay": 0.01, "adam_epsilon": 1e-4}
    ours = CausalLMModule(model_name_or_path=decoder, **optimizer)
    trainer(max_steps=20, gradient_clip_val=1.0, callbacks=[recorder], limit_val_batches=0).fit(ours, data)
    batches = [batch for batch, _ in zip(data.train_dataloader(), range(20), strict=False)]
    losses, model = their_losses(decoder, batches, tmp_path, **optimizer)
    assert len(losses) == 20
    np.testing.assert_allclose(recorder.losses, losses, atol=1e-4)
    start = AutoModelForCausalLM.from_pretrained(decoder).state_dict()
    assert furthest(weights(ours), start) > 5e-3
    assert furthest(weights(ours), model.state_dict()) < 1e-5


def test_accumulation_counts_tokens(decoder: str, trainer: Callable[..., Trainer]) -> None:
    def trained(size: int, windows: int) -> dict[str, torch.Tensor]:
        seed_everything(1)
        module = CausalLMModule(model_name_or_path=decoder, learning_rate=1e-3, adam_epsilon=1e-3)
        data = make_data(decoder, packing="none", batch_size=size)
        run = trainer(max_steps=6, accumulate_grad_batches=windows, gradient_clip_val=1.0, limit_val_batches=0)
        run.fit(module, data)
        return weights(module)

    assert furthest(trained(8, 1), trained(2, 4)) < 1e-6


def test_scores_are_those_of_the_model_itself(decoder: str, trainer: Callable[..., Trainer]) -> None:
    data, module = make_data(decoder, isolate_documents=False), CausalLMModule(model_name_or_path=decoder)
    (scores,) = trainer().validate(module, data, verbose=False)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(decoder).eval(), data.tokenizer
    loss = tokens = right = size = 0.0
    store = data.features["validation"][""].store
    for number in range(len(store)):
        ids = torch.tensor(store[number]["input_ids"]).long()[None]
        with torch.no_grad():
            logits = model(ids).logits[0, :-1]
        loss += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        tokens += ids.shape[1] - 1
        right += float((logits.argmax(-1) == ids[0, 1:]).sum())
        pieces = tokenizer.convert_ids_to_tokens(ids[0, 1:].tolist())
        # a word piece stands for its letters, and for the space before it where it begins a word
        size += sum(
            0 if piece == "[SEP]" else len(piece.removeprefix("##").encode()) + (not piece.startswith("##"))
            for piece in pieces
            if piece != "[UNK]"
        )
    assert scores["val_loss"] == pytest.approx(loss / tokens, rel=1e-5)
    assert scores["val_perplexity"] == pytest.approx(math.exp(loss / tokens), rel=1e-4)
    assert scores["val_accuracy"] == pytest.approx(right / tokens)
    assert scores["val_bits_per_byte"] == pytest.approx(loss / math.log(2) / size, rel=0.02)


def test_sliding_windows_give_the_guides_perplexity(decoder: str, trainer: Callable[..., Trainer]) -> None:
    """Hugging Face's guide `Perplexity of fixed-length models`; its stride is how far windows move."""
    text, length, overlap = " ".join(texts()[:8]), 32, 20
    data = make_data(
        decoder, dataset={"train": rows(0, 9), "validation": [{"text": text}]}, stride=overlap, document_separator=False
    )
    (scores,) = trainer().validate(CausalLMModule(model_name_or_path=decoder), data, verbose=False)
    model = AutoModelForCausalLM.from_pretrained(decoder).eval()
    ids = data.tokenizer(text, return_tensors="pt")["input_ids"]
    total, count, before = 0.0, 0, 0
    for begin in range(0, ids.shape[1], length - overlap):
        end = min(begin + length, ids.shape[1])
        target = ids[:, begin:end].clone()
        target[:, : -(end - before)] = -100
        with torch.no_grad():
            loss = float(model(ids[:, begin:end], labels=target).loss)
        valid = int((target != -100).sum()) - (begin == 0)  # the model shifts by one
        total, count, before = total + loss * valid, count + valid, end
        if end == ids.shape[1]:
            break
    assert scores["val_loss"] == pytest.approx(total / count, rel=1e-5)


def test_a_document_does_not_see_another(decoder: str, trainer: Callable[..., Trainer]) -> None:
    def losses(first: str) -> list[float]:
        parts = {"train": rows(0, 9), "validation": [{"text": first}, {"text": "where is my order ?"}]}
        data = make_data(decoder, dataset=parts, batch_size=1, block_size=64)
        module = CausalLMModule(model_name_or_path=decoder)
        run = trainer()
        run.validate(module, data, verbose=False)
        (batch,) = data.val_dataloader()[0]
        outputs = module.outputs(batch)
        return token_scores(module.halves, outputs.hidden, outputs.targets)[0][-4:].tolist()

    # as many tokens in both: at equal lengths not even the last bit moves
    assert losses("can i cancel it") == losses("please do it now")


def test_padding_is_left_out() -> None:
    positions = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 0, 0]])
    assert in_documents(positions).tolist() == [[True] * 5 + [False], [True, True] + [False] * 4]
    assert in_documents(torch.zeros(2, 2)).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(
    "options",
    [{}, {"do_sample": False, "num_beams": 3}, {"num_return_sequences": 2, "num_beams": 2}, {"max_new_tokens": 3}],
)
def test_predictions_are_those_of_the_pipeline(
    decoder: str, options: dict[str, Any], trainer: Callable[..., Trainer]
) -> None:
    prompts = ["where is my order", "i want to cancel", "refund", "the parcel came damaged and the box was open"]
    data = make_data(
        decoder, dataset={"predict": [{"id": n, "text": each} for n, each in enumerate(prompts)]}, batch_size=3
    )
    generation = {"max_new_tokens": 12, **options}
    module = CausalLMModule(model_name_or_path=decoder, generation=generation)
    written = [row for batch in trainer().predict(module, data) or [] for row in batch]
    pipe = pipeline("text-generation", decoder, tokenizer=data.tokenizer, device="cpu")
    assert [row["id"] for row in written] == [0, 1, 2, 3]
    for row, prompt in zip(written, prompts, strict=True):
        answers = [
            each["generated_text"]
            for each in pipe(prompt, return_full_text=False, **{"do_sample": False, **generation})
        ]
        made = row["generated_text"]
        assert [text.strip() for text in (made if isinstance(made, list) else [made])] == [a.strip() for a in answers]
    assert len({str(row["generated_text"]) for row in written}) > 1


def test_how_many_tokens_is_said_by_the_user_else_the_model_else_us() -> None:
    own = GenerationConfig(max_new_tokens=7)
    for asked, model, most in (
        ({"max_new_tokens": 3}, own, 3), ({}, own, 7), ({}, GenerationConfig(), NEW_TOKENS), ({}, None, NEW_TOKENS),
        ({"max_new_tokens": None}, own, 7), ({"max_new_tokens": None}, None, NEW_TOKENS),
    ):  # fmt: skip
        said = length_options(asked, model)
        assert {"max_new_tokens": getattr(model, "max_new_tokens", None), **said}["max_new_tokens"] == most


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_token": 3}, "generation: there is no option 'max_new_token' — did you mean 'max_new_tokens'?"),
        ({"temperature": -1.0}, "temperature"),
        ({"output_scores": True}, "generation: there is no option 'output_scores'"),
    ],
)
def test_wrong_ways_of_generating_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        CausalLMModule(model_name_or_path="x", generation=options)
    assert message in str(error.value)


def test_prompts_keep_their_end_beside_the_new_tokens(decoder: str, trainer: Callable[..., Trainer]) -> None:
    if "gpt2" not in decoder:
        pytest.skip("positions are not learned")
    prompts, generation = rows(0, 4), {"max_new_tokens": 150, "min_new_tokens": 150, "do_sample": False}
    data = make_data(decoder, dataset={"predict": prompts})
    module = CausalLMModule(model_name_or_path=decoder, generation=generation)
    written = [row for batch in trainer().predict(module, data) or [] for row in batch]
    tokenizer, model = data.tokenizer, module.model
    assert model is not None
    for row, prompt in zip(written, prompts, strict=True):
        ids = tokenizer(prompt["text"], return_tensors="pt")["input_ids"][:, -10:]  # of 160 positions
        made = model.generate(ids, attention_mask=torch.ones_like(ids), **generation)[0, ids.shape[1] :]
        assert row["generated_text"] == tokenizer.decode(made, skip_special_tokens=True)


def test_a_checkpoint_brings_its_way_of_generating(
    decoder: str, tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    data, module = make_data(decoder), CausalLMModule(model_name_or_path=decoder)
    run = trainer(max_steps=1, limit_val_batches=0)
    run.fit(module, data)
    assert module.model is not None
    module.model.generation_config.repetition_penalty = 1.3
    run.save_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    loaded = CausalLMModule.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert loaded.model is not None
    assert loaded.model.generation_config.repetition_penalty == 1.3
    assert furthest(weights(module), weights(loaded)) == 0
    assert "within_sequences" not in (tmp_path / "run.ckpt").read_bytes().decode("latin-1")


def test_batches_of_a_foreign_loader(decoder: str, tmp_path: Path, trainer: Callable[..., Trainer]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    encoded = [tokenizer(text, return_tensors="pt")["input_ids"][0][:16] for text in texts()[:12]]
    batches = [{"input_ids": ids[None], "labels": ids[None]} for ids in encoded]
    recorder, module = Recorder(), CausalLMModule(model_name_or_path=decoder, learning_rate=1e-3)
    trainer(max_steps=12, gradient_clip_val=1.0, callbacks=[recorder]).fit(module, DataLoader(batches, batch_size=None))
    losses, _ = their_losses(decoder, batches, tmp_path, learning_rate=1e-3)
    np.testing.assert_allclose(recorder.losses, losses, atol=1e-4)
