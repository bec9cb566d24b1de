"""Features are padded as transformers pads them."""

import pytest
import torch
from transformers import DataCollatorWithPadding

from lit_ft.data.batching.collators import pad
from tests.tiny import make_tokenizer, texts


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("length", "multiple"), [(None, None), (None, 8), (50, None), (50, 16)])
@pytest.mark.parametrize("types", [True, False])
def test_pad_as_transformers_pads(side: str, length: int | None, multiple: int | None, types: bool) -> None:
    tokenizer = make_tokenizer()
    tokenizer.padding_side = side
    tokenizer._pad_token_type_id = 3  # XLNet's
    features = [
        dict(tokenizer(*texts()[place : place + 2], truncation=True, max_length=9 + place)) for place in range(5)
    ]
    for feature in features:
        del feature["attention_mask"]
        if not types:
            del feature["token_type_ids"]
    padding = "max_length" if length else True
    theirs = DataCollatorWithPadding(tokenizer, padding, length, multiple)(features)
    ours = pad(features, tokenizer, length, multiple)
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor)


def test_pad_without_a_padding_token() -> None:
    tokenizer = make_tokenizer(pair_template=False)
    batch = pad([{"input_ids": [5, 6, 7]}, {"input_ids": [8]}], tokenizer)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
