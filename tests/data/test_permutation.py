"""XLNet's permutations: distributed as transformers', the same loss, and what holds for every batch."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DataCollatorForPermutationLanguageModeling, XLNetConfig, XLNetLMHeadModel

from lit_ft.data.batching.permutation import Permutation
from lit_ft.data.ordering.samplers import FILLER, Key
from lit_ft.errors import UserError
from tests.tiny import make_tokenizer

PAD, MASK, SPECIALS, VOCABULARY = 0, 4, (1, 2, 3, 4), 100
NEVER_TARGETS = {PAD, *SPECIALS}
Row = list[int]


def permutation(**options: Any) -> Permutation:
    return Permutation(mask_token_id=MASK, pad_token_id=PAD, special_ids=SPECIALS, **options)


def rows_of(number: int, length: int, seed: int = 0) -> list[Row]:
    """Rows that end as XLNet's: `text [SEP] [CLS]`."""
    ids = np.random.default_rng(seed).integers(5, VOCABULARY, (number, length))
    ids[:, -2:] = 3, 2
    return ids.tolist()


def padded(rows: list[Row], left: bool = True, more: int = 0) -> torch.Tensor:
    width = max(map(len, rows)) + more
    fill = [[PAD] * (width - len(row)) for row in rows]
    return torch.tensor([gap + row if left else row + gap for row, gap in zip(rows, fill, strict=True)])


def keys_of(rows: list[Row], epoch: int = 0) -> list[Key]:
    return [(epoch, index) for index in range(len(rows))]


def model() -> XLNetLMHeadModel:
    torch.manual_seed(0)
    config = XLNetConfig(vocab_size=VOCABULARY, d_model=16, n_layer=2, n_head=2, d_inner=20, initializer_range=0.5)
    return XLNetLMHeadModel(config).eval()


def in_transformers_shape(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A prediction for every token, as transformers' collator has it."""
    size, width = batch["input_ids"].shape
    labels = torch.full((size, width), -100)
    for row, number in (batch["labels"] != -100).nonzero().tolist():
        labels[row, batch["target_mapping"][row, number].argmax()] = batch["labels"][row, number]
    return {**batch, "labels": labels, "target_mapping": torch.eye(width).expand(size, width, width)}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_holds_for_every_batch(data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(st.integers(1, 30), max_size=21), min_size=1, max_size=4))
    probability = data.draw(st.sampled_from([1 / 6, 0.3, 0.5, 1.0]))
    span = data.draw(st.integers(1, 7))
    ids = padded(rows, data.draw(st.booleans()), more=1)
    batch = permutation(plm_probability=probability, max_span_length=span)(ids, keys_of(rows))
    size, width = ids.shape
    count = batch["labels"].shape[1]
    assert batch["perm_mask"].shape == (size, width, width)
    assert batch["target_mapping"].shape == (size, count, width)
    for row in range(size):
        mapping = batch["target_mapping"][row]
        predicted = batch["labels"][row] != -100
        places = mapping[predicted].argmax(dim=1).tolist()
        assert mapping.sum(dim=1).tolist() == predicted.float().tolist()
        assert places == sorted(set(places))
        assert ids[row, places].tolist() == batch["labels"][row][predicted].tolist()
        assert not set(ids[row, places].tolist()) & NEVER_TARGETS
        expected = ids[row].clone()
        expected[places] = MASK
        assert batch["input_ids"][row].tolist() == expected.tolist()

        hidden = batch["perm_mask"][row].bool()
        plain = [place for place in range(width) if place not in places]
        assert not hidden[:, plain].any()
        for place in plain:
            if int(ids[row, place]) not in NEVER_TARGETS:
                assert hidden[place, places].all()
        among = hidden[places][:, places]
        assert sorted(among.sum(dim=1).tolist()) == list(range(1, len(places) + 1))  # an order, and none sees itself
        real = (ids[row] != PAD).nonzero().flatten().tolist()
        half = real[0] + (len(real) + 1) // 2 if real else 0
        for first in places:
            assert all(hidden[first, second] for second in places if first < half <= second)
            assert not any(hidden[second, first] for second in places if first < half <= second)
        if probability == 1:
            assert len(places) == sum(token not in SPECIALS for token in rows[row])


def test_the_middle_of_an_odd_row_is_of_its_first_half() -> None:
    rows = [list(range(10, 10 + length)) for length in range(3, 23, 2)]
    hidden = permutation(plm_probability=1.0)(padded(rows, left=False), keys_of(rows))["perm_mask"].bool()
    for row, length in enumerate(map(len, rows)):
        half = (length + 1) // 2
        assert hidden[row, :half, half:length].all()
        assert not hidden[row, half:length, :half].any()


@pytest.mark.parametrize("options", [{}, {"plm_probability": 0.5, "max_span_length": 2}])
def test_targets_and_orders_are_distributed_as_those_of_transformers(options: dict[str, Any]) -> None:
    rows, length = rows_of(3000, 40), 40
    torch.manual_seed(3)
    theirs = DataCollatorForPermutationLanguageModeling(make_tokenizer(VOCABULARY), **options)(
        [{"input_ids": row} for row in rows]
    )
    ours = in_transformers_shape(permutation(**options)(padded(rows), keys_of(rows)))
    at_place, seen, sizes = [], [], []
    for batch in (theirs, ours):
        predicted = (batch["labels"] != -100).numpy()
        hidden = batch["perm_mask"].numpy()
        at_place.append(predicted.mean(axis=0))
        # of neighbours that are both targets: how often the first does not see the second
        pairs = predicted[:, :-1] & predicted[:, 1:]
        seen.append((hidden[:, range(length - 1), range(1, length)][pairs]).mean())
        edges = np.diff(np.pad(predicted, ((0, 0), (1, 1))).astype(int), axis=1)
        sizes.append(np.bincount((np.nonzero(edges < 0)[1] - np.nonzero(edges > 0)[1]), minlength=11)[1:11])
        # both halves have the same order
        first, second = hidden[:, : length // 2, : length // 2], hidden[:, length // 2 :, length // 2 :]
        both = predicted[:, : length // 2] & predicted[:, length // 2 :]
        twice = both[:, :, None] & both[:, None, :]
        assert twice.sum() > 1000
        assert (first[twice] == second[twice]).all()
    limit = 5 * math.sqrt(2 * 0.25 * 0.75 / len(rows))
    assert np.abs(at_place[0] - at_place[1]).max() < limit
    assert abs(at_place[0].mean() - at_place[1].mean()) < 0.005
    assert abs(seen[0] - seen[1]) < 0.025
    shares = [found / found.sum() for found in sizes]
    assert np.abs(shares[0] - shares[1]).max() < 0.02
    for batch in (theirs, ours):
        assert not batch["perm_mask"][:, :, -2:].any()


def test_predicting_only_targets_gives_the_loss_of_predicting_all() -> None:
    rows = [*rows_of(3, 17), *rows_of(2, 12, 1)]
    ids, xlnet = padded(rows), model()
    batch = permutation(plm_probability=0.4)(ids, keys_of(rows))
    attention = (ids != PAD).long()
    few = xlnet(**batch, attention_mask=attention)
    full = in_transformers_shape(batch)
    assert batch["labels"].shape[1] < full["labels"].shape[1]
    every = xlnet(**full, attention_mask=attention)
    torch.testing.assert_close(few.loss, every.loss, rtol=1e-6, atol=0)
    few.loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in xlnet.named_parameters() if weight.grad is not None}
    xlnet.zero_grad()
    every.loss.backward()
    for name, weight in xlnet.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(gradients[name], weight.grad, rtol=1e-4, atol=1e-6)


def test_transformers_own_batch_cut_down_to_its_targets_gives_its_loss() -> None:
    torch.manual_seed(1)
    theirs = DataCollatorForPermutationLanguageModeling(make_tokenizer(VOCABULARY))(
        [{"input_ids": row} for row in rows_of(4, 24)]
    )
    counts = (theirs["labels"] != -100).sum(dim=1)
    labels = torch.full((4, int(counts.max())), -100)
    mapping = torch.zeros(4, int(counts.max()), 24)
    for row in range(4):
        places = (theirs["labels"][row] != -100).nonzero().flatten()
        labels[row, : len(places)] = theirs["labels"][row, places]
        mapping[row, torch.arange(len(places)), places] = 1
    xlnet = model()
    with torch.no_grad():
        every = xlnet(**theirs).loss
        few = xlnet(**{**theirs, "labels": labels, "target_mapping": mapping}).loss
    torch.testing.assert_close(few, every, rtol=1e-6, atol=0)


@pytest.mark.parametrize("left", [True, False])
def test_rows_follow_from_seed_epoch_and_row_alone(left: bool) -> None:
    rows, make = [*rows_of(2, 13), *rows_of(2, 20, 1)], permutation()
    keys = [(2, 5), (2, FILLER), (3, 9), (2, 0)]
    together = make(padded(rows, left, more=3), keys)
    xlnet = model()
    for number, (row, key) in enumerate(zip(rows, keys, strict=True)):
        alone = make(torch.tensor([row]), [key])
        place = 23 - len(row) if left else 0
        there = slice(place, place + len(row))
        count = int((alone["labels"] != -100).sum())
        assert together["input_ids"][number, there].tolist() == alone["input_ids"][0].tolist()
        assert together["labels"][number, :count].tolist() == alone["labels"][0, :count].tolist()
        assert (together["labels"][number, count:] == -100).all()
        assert torch.equal(together["target_mapping"][number, :count, there], alone["target_mapping"][0, :count])
        targets = alone["input_ids"][0] == MASK
        assert torch.equal(together["perm_mask"][number, there, there][targets], alone["perm_mask"][0][targets])
        with torch.no_grad():
            one = xlnet(
                **{name: tensor[number : number + 1] for name, tensor in together.items()},
                attention_mask=(padded(rows, left, more=3)[number : number + 1] != PAD).long(),
            )
            torch.testing.assert_close(one.loss, xlnet(**alone).loss, rtol=1e-5, atol=1e-6)
    same = [rows[2]] * 3
    found = make(padded(same), [(0, 0), (0, 1), (1, 0)])["perm_mask"]
    other_seed = permutation(seed=1)(padded(same[:1]), [(0, 0)])["perm_mask"]
    assert len({tuple(mask.flatten().tolist()) for mask in [*found, *other_seed]}) == 4


def test_a_row_without_targets_has_a_finite_output() -> None:
    ids = torch.tensor([[3, 2, 0], [7, 3, 2]])
    batch = permutation(plm_probability=1.0)(ids, [(0, 0), (0, 1)])
    assert batch["labels"].tolist() == [[-100], [7]]
    only_special = permutation()(ids[:1], [(0, 0)])
    assert only_special["labels"].tolist() == [[-100]]
    with torch.no_grad():
        assert model()(**batch, attention_mask=(ids != PAD).long()).logits.isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plm_probability": 0}, "plm_probability 0"),
        ({"plm_probability": 1.1}, "plm_probability 1.1"),
        ({"max_span_length": 0}, "max_span_length 0"),
        ({"mask_token_id": None}, "no mask token"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Permutation(**{"mask_token_id": MASK, "pad_token_id": PAD, "special_ids": SPECIALS, **options})
