"""InstructionTuningModule: transformers' own loss, packed or not; replies that end; the export in a pipeline."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from transformers import AutoModelForCausalLM, pipeline
from transformers.integrations.neftune import neftune_post_forward_hook

from lit_ft import InstructionTuningDataModule, InstructionTuningModule, cli
from lit_ft.ops.neftune import noisy_embeddings
from lit_ft.ops.padding_free.sequences import Sequences
from tests.conversations import chat_rows, conversation, make_chat_model, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_chat_model(tmp_path_factory.mktemp("chat"))


@pytest.mark.parametrize("packing", ["none", "best_fit"])
def test_the_loss_is_transformers(model: str, tmp_path: Path, packing: Any) -> None:
    data = InstructionTuningDataModule(
        model_name_or_path=model, train_file=write_rows(tmp_path / "rows.jsonl", chat_rows(12)), batch_size=4,
        validation_split_percentage=0, packing=packing, max_seq_length=150,
    )  # fmt: skip
    data.prepare_data()
    data.setup("fit")
    module = InstructionTuningModule(model_name_or_path=model)
    module.description = data.description
    module.build()
    other = AutoModelForCausalLM.from_pretrained(model)
    other.resize_token_embeddings(len(data.tokenizer))
    assert module.model is not None
    other.load_state_dict(module.model.state_dict())
    for batch in data.train_dataloader():
        total, count = module.loss(module.outputs(batch), batch)
        given = {name: value for name, value in batch.items() if name in ("input_ids", "attention_mask", "labels")}
        if packing == "best_fit":
            given["position_ids"] = batch["position_ids"]
        expected = other(**given, use_cache=False).loss  # with a cache they keep nothing apart
        torch.testing.assert_close(total / count, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("packing", ["none", "best_fit"])
@pytest.mark.parametrize("padding_free", ["auto", "off"])
def test_conversations_may_count_alike(model: str, tmp_path: Path, packing: Any, padding_free: Any) -> None:
    if packing == "best_fit" and padding_free == "off":
        pytest.skip("documents are kept apart by running flat")
    rows = chat_rows(8)
    options: dict[str, Any] = {
        "model_name_or_path": model, "train_file": write_rows(tmp_path / "rows.jsonl", rows), "batch_size": 8,
        "validation_split_percentage": 0, "max_seq_length": 400,
    }  # fmt: skip
    data = InstructionTuningDataModule(packing=packing, **options)
    data.setup("fit")
    module = InstructionTuningModule(model_name_or_path=model, loss_weighting="example", padding_free=padding_free)
    module.description = data.description
    net = module.build()
    total, count = torch.zeros(()), torch.zeros(())
    for batch in data.train_dataloader():
        both = module.loss(module.outputs(batch), batch)
        total, count = total + both[0], count + both[1]
    (total / count).backward()
    found = {name: value.grad.clone() for name, value in net.named_parameters() if value.grad is not None}

    net.zero_grad()
    alone = InstructionTuningDataModule(packing="none", **{**options, "batch_size": 1})
    alone.setup("fit")
    net.train()
    losses = [net(**batch, use_cache=False).loss for batch in alone.train_dataloader()]
    assert int(count) == len(losses) == 8
    expected = torch.stack(losses).mean()
    expected.backward()
    torch.testing.assert_close(total / count, expected, rtol=1e-4, atol=1e-5)
    for name, value in net.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(found[name], value.grad, rtol=1e-3, atol=1e-5)


def test_conversations_count_alike_over_micro_batches(model: str, tmp_path: Path) -> None:
    found = []
    for size, windows in ((8, 1), (2, 4), (4, 2)):
        data = InstructionTuningDataModule(
            model_name_or_path=model, dataset={"train": chat_rows(16)}, batch_size=size, validation_split_percentage=0,
            max_seq_length=400,
        )  # fmt: skip
        module = InstructionTuningModule(model_name_or_path=model, loss_weighting="example", adam_epsilon=1e-3)
        seed_everything(5, verbose=False)
        Trainer(
            accelerator="cpu", max_epochs=1, accumulate_grad_batches=windows, gradient_clip_val=1.0, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        ).fit(module, data)  # fmt: skip
        found.append(dict(module.model.named_parameters()))
    before = dict(AutoModelForCausalLM.from_pretrained(model).named_parameters())
    for name, value in found[0].items():
        for other in found[1:]:
            torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6)
    assert any((value[: len(before[name])] - before[name]).abs().max() > 1e-5 for name, value in found[0].items())


def test_noise_on_embeddings_is_transformers_where_rows_are_full(model: str) -> None:
    net = AutoModelForCausalLM.from_pretrained(model)
    embeddings, ids = net.get_input_embeddings(), torch.randint(5, 90, (3, 11))
    embeddings.neftune_noise_alpha = 5.0
    torch.manual_seed(3)
    expected = neftune_post_forward_hook(embeddings.train(), None, embeddings(ids))
    torch.manual_seed(3)
    with noisy_embeddings(net.train(), 5.0, {"input_ids": ids}):
        torch.testing.assert_close(embeddings(ids), expected)
    plain = embeddings(ids)
    with noisy_embeddings(net.eval(), 5.0, {"input_ids": ids}):
        assert torch.equal(embeddings(ids), plain)


def test_noise_is_that_of_each_sequence_padded_or_end_to_end(model: str) -> None:
    net = AutoModelForCausalLM.from_pretrained(model).train()
    embeddings, lengths = net.get_input_embeddings(), [2, 50, 8]
    mask = (torch.arange(50) < torch.tensor(lengths)[:, None]).long()
    ids = torch.ones_like(mask)
    size = embeddings.weight.shape[1]
    with noisy_embeddings(net, 4.0, {"input_ids": ids, "attention_mask": mask}):
        padded, flat = embeddings(ids), embeddings(ids[mask.bool()][None])
    plain = embeddings(ids[:1, :1])[0, 0]
    for noise in (padded[mask.bool()] - plain, flat[0] - plain):
        for part, length in zip(noise.split(lengths), lengths, strict=True):
            most = 4.0 / (length * size) ** 0.5
            assert float(part.abs().max()) <= most
            assert float(part.abs().max()) > 0.9 * most
    with noisy_embeddings(net, 4.0, {"input_ids": ids, "sequence_lengths": Sequences(lengths)}):
        noise = embeddings(ids[mask.bool()][None])[0] - plain
    assert float(noise[:2].abs().max()) > 4 * float(noise[2:52].abs().max())


def test_noise_is_there_in_training_and_only_there(model: str, tmp_path: Path) -> None:
    data = InstructionTuningDataModule(
        model_name_or_path=model, train_file=write_rows(tmp_path / "rows.jsonl", chat_rows(4)), batch_size=4,
        validation_split_percentage=0, max_seq_length=400,
    )  # fmt: skip
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    module = InstructionTuningModule(model_name_or_path=model, neftune_noise_alpha=5.0)
    module.description = data.description
    net = module.build()
    losses = [float(module.loss(module.outputs(batch), batch)[0]) for _ in range(2)]
    assert losses[0] != losses[1]
    net.eval()
    losses = [float(module.loss(module.outputs(batch), batch)[0]) for _ in range(2)]
    assert losses[0] == losses[1]


def test_from_yaml_to_replies(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_rows(tmp_path / "train.jsonl", chat_rows(40))
    held_out = write_rows(tmp_path / "held_out.jsonl", chat_rows(8, 50))
    words = [
        "--model=InstructionTuningModule", "--data=InstructionTuningDataModule", f"--model.model_name_or_path={model}",
        f"--data.train_file={train}", f"--data.validation_file={held_out}", "--data.batch_size=8",
        "--model.learning_rate=0.003", "--trainer.max_epochs=2", f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--data.packing=best_fit",
        "--data.max_seq_length=150", "--model.generation={max_new_tokens: 6}",
        "--model.sample_prompts=[where is my order]",
    ]  # fmt: skip
    cli.main(["fit", *words])
    run = tmp_path / "runs" / "version_0"
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert {each["prompt"] for each in samples} == {"where is my order"}
    write_rows(tmp_path / "ask.jsonl", [{"messages": conversation(60)[:1]}, {"messages": conversation(61, 2)}])
    for kind in ("jsonl", "txt"):
        cli.main([
            "predict", f"--ckpt_path={run}", f"--data.predict_file={tmp_path / 'ask.jsonl'}",
            f"--trainer.default_root_dir={tmp_path / 'runs'}", "--trainer.accelerator=cpu",
            f"--predictions.format={kind}",
        ])  # fmt: skip
    (path,) = (run / "predictions").glob("*.jsonl")
    predicted = [json.loads(line) for line in path.read_text().splitlines()]
    texts = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert texts == [row["reply"].replace("\\", r"\\").replace("\n", r"\n").replace("\r", r"\r") for row in predicted]
    assert [set(row) >= {"messages", "reply"} for row in predicted] == [True, True]
    config = json.loads((run / "hf" / "generation_config.json").read_text())
    reply = pipeline("text-generation", str(run / "hf"))
    end = reply.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in (config["eos_token_id"] if isinstance(config["eos_token_id"], list) else [config["eos_token_id"]])
    theirs = reply(conversation(60)[:1], max_new_tokens=6, do_sample=False)[0]["generated_text"][-1]["content"]
    assert theirs.strip() == predicted[0]["reply"].strip()
