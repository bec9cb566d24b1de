"""Texts encoded many at a time have the tokens that the tokenizer gives each alone."""

from collections.abc import Callable

import pytest
from transformers import AutoTokenizer

from lit_ft.data.grouping.documents import AT_ONCE, DocumentEncoder
from tests.tiny import texts


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_each_text_has_the_tokens_that_it_has_alone(kind: str, tiny: Callable[..., str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny(kind))
    lines = [f"{text} {number % 300}" for number, text in enumerate(texts() * 10)][: AT_ONCE + 100]
    lines = [*lines, "", "one day", "", "\n", *lines[:50], "one day"]  # more than are encoded at once, some again
    encoded = DocumentEncoder(tokenizer)(lines)
    assert encoded.tolist() == [tokenizer(line, add_special_tokens=False)["input_ids"] for line in lines]
    assert len(DocumentEncoder(tokenizer)([])) == 0
