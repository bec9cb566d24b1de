"""What travels in checkpoints as text: tokenizers with files in folders, too, and nothing outside of them."""

from collections.abc import Callable
from pathlib import Path

from transformers import AutoTokenizer

from lit_ft.ops.building.checkpoint_extras import load_tokenizer_files, tokenizer_files

NAMED = {"default": "{{ messages[0].content }}", "tool_use": "{{ tools }}{{ messages[0].content }}"}


def test_several_chat_templates_come_back(tiny: Callable[..., str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny("llama"))
    tokenizer.chat_template = NAMED
    files = tokenizer_files(tokenizer)
    assert any("/" in name for name in files), "transformers writes some of them into a folder"
    found = load_tokenizer_files(files)
    assert found is not None
    assert found.chat_template == NAMED
    assert found("where is my order").input_ids == tokenizer("where is my order").input_ids


def test_no_file_is_written_outside(tiny: Callable[..., str], tmp_path: Path) -> None:
    files = tokenizer_files(AutoTokenizer.from_pretrained(tiny()))
    target = tmp_path / "outside.txt"
    assert load_tokenizer_files({**files, str(target): "no", "../../outside.txt": "no"}) is not None
    assert not target.exists()
