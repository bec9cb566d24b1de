"""Pairs of replies to our messages, and a tiny decoder whose template ends a reply with its last token."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.conversations import conversation, make_chat_model
from tests.tiny import texts

TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""ChatML without line breaks between turns: TRL takes all that follows a reply for a part of it."""


def pair_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows of `prompt`, `chosen` and `rejected`, messages each."""
    made = []
    for number in range(start, start + count):
        *asked, said = conversation(number, 1 + number % 2)
        worse = " ".join(texts()[number + 3].split()[: 2 + number % 6])
        made.append({"prompt": asked, "chosen": [said], "rejected": [{"role": "assistant", "content": worse}]})
    return made


def judged_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows of `prompt`, `completion` and `label`."""
    return [
        {"prompt": row["prompt"], "completion": row["chosen" if at % 3 else "rejected"], "label": bool(at % 3)}
        for at, row in enumerate(pair_rows(count, start))
    ]


def make_preference_model(folder: Path) -> str:
    """A tiny Llama with all of its weights in the file."""
    make_chat_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    return str(folder)
