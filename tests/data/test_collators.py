"""Features are padded as transformers pads them."""

import numpy as np
import pytest
import torch
from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding

from lit_ft.data.batching.collators import pad, pad_targets
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


@pytest.mark.parametrize(("length", "multiple"), [(None, None), (None, 4), (None, 7), (20, None), (20, 8)])
@pytest.mark.parametrize("padding", [-100, 0])
def test_targets_are_padded_as_transformers_pads_them(length: int | None, multiple: int | None, padding: int) -> None:
    tokenizer = make_tokenizer()
    targets = [[*range(10, 10 + size)] for size in (3, 7, 1)]
    features = [{"input_ids": [5, 6], "labels": ids} for ids in targets]
    theirs = DataCollatorForSeq2Seq(
        tokenizer, None, "max_length" if length else True, length, multiple, label_pad_token_id=padding
    )(features)
    ours = pad_targets([np.array(ids) for ids in targets], padding, length, multiple)
    torch.testing.assert_close(ours, theirs["labels"])
