"""`lit-ft chat`: replies are those of transformers, history and all; what it cannot open is named."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_ft.commands.chat import chat
from lit_ft.errors import UserError
from tests.conversations import make_chat_model
from tests.tiny import make_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With embeddings for the marks, as exports have them."""
    made = Path(make_chat_model(tmp_path_factory.mktemp("chat")))
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(made)
    model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(made)))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    model.save_pretrained(made)
    return made


def talk(words: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(said)
    monkeypatch.setattr("rich.console.Console.input", lambda *_: next(lines))
    chat(words)


def expected(folder: Path, messages: list[dict[str, str]]) -> str:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ends = [model.generation_config.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    made = model.generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=9, do_sample=False,
        eos_token_id=[end for end in ends if end is not None],
    )  # fmt: skip
    return tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_conversation(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(folder), "--max_new_tokens", "9", "--temperature", "0", "--system", "be kind"]
    system, first, second = ({"role": role, "content": text} for role, text in (
        ("system", "be kind"), ("user", "where is my order"), ("user", "and my money"),
    ))  # fmt: skip
    reply = expected(folder, [system, first])
    other = expected(folder, [system, first, {"role": "assistant", "content": reply}, second])
    anew = expected(folder, [system, second])
    talk(words, [first["content"], second["content"], "/new", second["content"], "/exit"], monkeypatch)
    printed = capsys.readouterr().out.splitlines()
    said = [line.strip() for line in printed if line.strip()][-3:]
    assert said == [text.strip() for text in (reply, other, anew) if text.strip()]
    assert reply.strip()
    assert other != anew


def test_a_model_with_beams_of_its_own_replies_word_by_word(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 2.0}
    made = Path(shutil.copytree(folder, tmp_path / "model"))
    (made / "generation_config.json").write_text(json.dumps(own))
    talk(
        ["--model", str(made), "--max_new_tokens", "9", "--temperature", "0"],
        ["where is my order", "/exit"],
        monkeypatch,
    )
    reply = expected(folder, [{"role": "user", "content": "where is my order"}])
    assert capsys.readouterr().out.splitlines()[-1].strip() == reply.strip()


def test_what_is_too_long(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(folder), "--max_new_tokens", "9", "--temperature", "0"]
    talk(words, ["where is my order " * 5] * 4 + [""], monkeypatch)
    assert "the oldest turn is forgotten" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"a message of \d+ tokens is longer than the 151 that the model takes"):
        talk(words, ["where is my order " * 90], monkeypatch)


@pytest.mark.parametrize("new", [160, 161])
def test_replies_that_leave_no_room(folder: Path, new: int) -> None:
    # the tiny model has 160 positions
    with pytest.raises(UserError, match=rf"max_new_tokens {new} leaves no room .* model's 160 positions: lower it"):
        chat(["--model", str(folder), "--max_new_tokens", str(new)])


def test_what_is_no_chat_model(tmp_path: Path) -> None:
    plain = make_tiny_model("llama", tmp_path / "llama")
    with pytest.raises(UserError, match="no chat template: set chat_template"):
        chat(["--model", plain])
    with pytest.raises(UserError, match="that can be loaded"):
        chat(["--model", str(tmp_path / "nothing")])
