"""Conversations of our messages, and a tiny decoder whose tokenizer knows ChatML's marks."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from lit_ft.data.chats.encoding import read_template
from tests.tiny import make_tiny_model, texts

MARKED = """{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}
{%- else -%}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}"""
"""ChatML with transformers' marks of what is learned."""


def conversation(number: int, turns: int = 1) -> list[dict[str, str]]:
    """A few turns: a message, and a reply that repeats its first words."""
    made = []
    for turn in range(turns):
        text = texts()[number + 7 * turn]
        made += [
            {"role": "user", "content": text},
            {"role": "assistant", "content": " ".join(text.split()[: 3 + number % 5])},
        ]
    return made


def chat_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"messages": conversation(number, 1 + number % 3)} for number in range(start, start + count)]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def make_chat_model(folder: Path) -> str:
    """A tiny Llama; its tokenizer has the template and its marks as tokens."""
    make_tiny_model("llama", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = read_template("chatml")
    tokenizer.save_pretrained(folder)
    return str(folder)
