"""Masks are distributed as those of transformers and SpanBERT, and follow from seed, epoch and row alone."""

import math
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DataCollatorForLanguageModeling

from lit_ft.data.batching.collators import Feature
from lit_ft.data.batching.masking import Masking
from lit_ft.data.ordering.chance import drawn, row_states, uniform
from lit_ft.data.ordering.samplers import FILLER, Key
from lit_ft.errors import UserError
from tests.tiny import make_tokenizer

MASK, VOCABULARY, SPECIALS = 4, 600, (0, 1, 2, 3, 4)


def masking(**options: Any) -> Masking:
    return Masking(mask_token_id=MASK, vocab_size=VOCABULARY, special_ids=SPECIALS, **options)


def features_of(rows: int, length: int, seed: int = 0) -> list[Feature]:
    """Rows `[CLS] text [SEP] text [SEP]` of words of one to four tokens."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, VOCABULARY, (rows, length), dtype=np.int32)
    ids[:, 0], ids[:, length // 3], ids[:, -1] = 2, 3, 3
    starts = (rng.random((rows, length)) < 0.7).astype(np.uint8)
    return [{"input_ids": row, "word_starts": start} for row, start in zip(ids, starts, strict=True)]


def keys_of(features: list[Feature], epoch: int = 0) -> list[Key]:
    return [(epoch, index) for index in range(len(features))]


def labels_of(features: list[Feature]) -> np.ndarray:
    return np.concatenate([feature["labels"] for feature in features])


def words_of(feature: Feature) -> list[list[int]]:
    """Returns the places of each word's tokens, one token after the other; special tokens are in none."""
    words: list[list[int]] = []
    fresh = True
    for place, (token, start) in enumerate(zip(feature["input_ids"].tolist(), feature["word_starts"], strict=True)):
        if token in SPECIALS:
            fresh = True
        elif fresh or start:
            words.append([place])
            fresh = False
        else:
            words[-1].append(place)
    return words


def runs_of(flags: np.ndarray) -> list[int]:
    return [len(list(run)) for value, run in groupby(flags.tolist()) if value]


def near(share: float, expected: float, draws: int) -> bool:
    return abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / draws)


def kinds_of(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    changed = after != before
    return {
        "mask": float((after == MASK).mean()),
        "random": float((changed & (after != MASK)).mean()),
        "kept": float((~changed).mean()),
    }


def test_masks_are_distributed_as_those_of_transformers() -> None:
    features = features_of(800, 128)
    collator = DataCollatorForLanguageModeling(make_tokenizer(VOCABULARY), seed=1)
    theirs = collator([{"input_ids": feature["input_ids"].tolist()} for feature in features])
    size = len(collator.tokenizer)
    ours = Masking(mask_token_id=MASK, vocab_size=size, special_ids=collator.tokenizer.all_special_ids)(
        features, keys_of(features)
    )
    before = np.concatenate([feature["input_ids"] for feature in features])
    maskable = before > MASK
    shares = []
    for labels, after in (
        (labels_of(ours), np.concatenate([feature["input_ids"] for feature in ours])),
        (theirs["labels"].numpy().reshape(-1), theirs["input_ids"].numpy().reshape(-1)),
    ):
        predicted = labels != -100
        assert not predicted[~maskable].any()
        assert (labels[predicted] == before[predicted]).all()
        assert (after[~predicted] == before[~predicted]).all()
        kinds = kinds_of(before[predicted], after[predicted])
        shares.append({"predicted": predicted[maskable].mean(), **kinds})
        assert near(shares[-1]["predicted"], 0.15, int(maskable.sum()))
        # one random token in the size of the vocabulary is the mask token, and one is the token itself
        for kind, expected in {"mask": 0.8 + 0.1 / size, "random": 0.1 - 0.2 / size, "kept": 0.1 + 0.1 / size}.items():
            assert near(kinds[kind], expected, int(predicted.sum())), (kind, kinds)
    assert all(abs(shares[0][kind] - shares[1][kind]) < 0.015 for kind in shares[0]), shares


def test_random_tokens_are_of_the_whole_vocabulary_and_each_is_as_likely() -> None:
    features = [{"input_ids": np.full(1000, 7, np.int32)} for _ in range(100)]
    options = {"mlm_probability": 1.0, "mask_replace_prob": 0.0, "random_replace_prob": 1.0}
    masked = Masking(mask_token_id=MASK, vocab_size=50, special_ids=SPECIALS, **options)(features, keys_of(features))
    counts = np.bincount(np.concatenate([feature["input_ids"] for feature in masked]), minlength=50)
    assert len(counts) == 50
    expected = counts.sum() / 50
    assert ((counts - expected) ** 2 / expected).sum() < 100  # chi-square with 49 degrees of freedom: 1e-5


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_holds_for_every_feature(data: st.DataObject) -> None:
    tokens = st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40)
    rows = data.draw(st.lists(tokens, min_size=1, max_size=4))
    options = data.draw(
        st.fixed_dictionaries(
            {
                "mlm_probability": st.sampled_from([0.01, 0.15, 0.5, 1.0]),
                "whole_word_mask": st.booleans(),
                "span_mask": st.booleans(),
                "max_span_length": st.sampled_from([1, 3, 10]),
                "seed": st.integers(-5, 2**40),
            }
        )
    )
    features = [
        {
            "input_ids": np.array([token for token, _ in row], np.int32),
            "word_starts": np.array([start for _, start in row], np.uint8),
            "row": number,
        }
        for number, row in enumerate(rows)
    ]
    masked = masking(**options)(features, [(3, number * 7 - 1) for number in range(len(rows))])
    for feature, found in zip(features, masked, strict=True):
        before, labels, after = feature["input_ids"], found["labels"], found["input_ids"]
        predicted = labels != -100
        words = words_of(feature)
        maskable = sum(map(len, words))
        assert len(labels) == len(after) == len(before)
        assert found["row"] == feature["row"]
        assert (after[~predicted] == before[~predicted]).all()
        assert (labels[predicted] == before[predicted]).all()
        assert not predicted[np.isin(before, SPECIALS)].any()
        if options["whole_word_mask"] or options["span_mask"]:
            assert all(len({bool(predicted[place]) for place in word}) == 1 for word in words)
        if options["mlm_probability"] == 1:
            assert predicted.sum() == maskable
        if options["span_mask"]:
            wanted = math.ceil(options["mlm_probability"] * maskable)
            longest = max(map(len, words), default=0)
            assert wanted <= predicted.sum() <= wanted + max(longest - 1, 0)


def test_words_are_predicted_whole_and_as_often_as_tokens() -> None:
    features = features_of(800, 128)
    masked = masking(whole_word_mask=True)(features, keys_of(features))
    chosen, sizes, mixed = [], [], 0
    for feature, found in zip(features, masked, strict=True):
        for word in words_of(feature):
            predicted = found["labels"][word] != -100
            assert predicted.all() or not predicted.any()
            chosen.append(bool(predicted[0]))
            sizes.append(len(word))
            mixed += bool(predicted[0]) and len(set((found["input_ids"][word] == MASK).tolist())) == 2
    assert near(np.mean(chosen), 0.15, len(chosen))
    assert near(np.mean(np.array(chosen)[np.array(sizes) > 2]), 0.15, int((np.array(sizes) > 2).sum()))
    assert mixed > 100  # the replacement is drawn for each token
    labels, before = labels_of(masked), np.concatenate([feature["input_ids"] for feature in features])
    after = np.concatenate([feature["input_ids"] for feature in masked])
    kinds = kinds_of(before[labels != -100], after[labels != -100])
    assert near(kinds["mask"], 0.8 + 0.1 / VOCABULARY, int((labels != -100).sum()))


def spanbert_runs(length: int, rng: np.random.Generator) -> tuple[list[int], int]:
    """SpanBERT's published procedure for words of one token: runs of predicted tokens, and their sum."""
    weights = 0.2 * 0.8 ** np.arange(10)
    predicted = np.zeros(length, bool)
    budget = math.ceil(0.15 * length)
    while predicted.sum() < budget:
        words = rng.choice(10, p=weights / weights.sum()) + 1
        anchor = rng.integers(length)
        if predicted[anchor]:
            continue
        for place in range(anchor, min(anchor + words, length)):
            if predicted.sum() < budget:
                predicted[place] = True
    return runs_of(predicted), int(predicted.sum())


def test_spans_are_as_long_and_as_many_as_spanberts() -> None:
    rng, length = np.random.default_rng(5), 128
    features = [{"input_ids": np.full(length, 9, np.int32), "word_starts": np.ones(length, np.uint8)}] * 1000
    masked = masking(span_mask=True)(features, keys_of(features))
    ours = [runs_of(feature["labels"] != -100) for feature in masked]
    theirs = [spanbert_runs(length, rng) for _ in range(len(features))]
    assert {sum(runs) for runs in ours} == {covered for _, covered in theirs} == {20}
    lengths, expected = np.concatenate(ours), np.concatenate([runs for runs, _ in theirs])
    # theirs does not begin a span within another, ours may: 2 % longer runs
    assert abs(lengths.mean() / expected.mean() - 1) < 0.06
    assert abs(lengths.mean() - 3.8) < 0.3  # as in the paper, though some are cut and some have grown together
    shares = [np.bincount(runs, minlength=30)[1:11] / len(runs) for runs in (lengths, expected)]
    assert np.abs(shares[0] - shares[1]).max() < 0.03
    places = np.sum([feature["labels"] != -100 for feature in masked], axis=0)
    # everywhere alike, but for the first few: only spans that begin there reach them
    assert np.abs(places[12:] / len(features) - 0.158).max() < 0.06


def test_spans_are_whole_words_with_one_replacement() -> None:
    features = features_of(500, 128)
    masked = masking(span_mask=True)(features, keys_of(features))
    before = np.concatenate([feature["input_ids"] for feature in features])
    after = np.concatenate([feature["input_ids"] for feature in masked])
    kinds, lengths = [], []
    for run, places in groupby(range(len(before)), key=(labels_of(masked) != -100).tolist().__getitem__):
        if run:
            where = list(places)
            lengths.append(len(where))
            kept, masks = after[where] == before[where], after[where] == MASK
            # a random token may be the token itself or the mask token
            kinds.append("kept" if kept.all() else "mask" if masks.all() else "random")
            assert kept.all() or masks.all() or (kept | masks).mean() < 0.5 or len(where) < 5
    for kind, share in {"mask": 0.8, "random": 0.1, "kept": 0.1}.items():
        assert near(kinds.count(kind) / len(kinds), share, len(kinds)), kind
    assert near((labels_of(masked) != -100).mean(), 0.15, len(before) // 4)


def test_a_short_feature_has_a_span_all_the_same() -> None:
    features = [{"input_ids": np.array([2, 9, 3], np.int32), "word_starts": np.ones(3, np.uint8)}] * 50
    masked = masking(span_mask=True)(features, keys_of(features))
    assert all(feature["labels"].tolist() == [-100, 9, -100] for feature in masked)


@pytest.mark.parametrize("options", [{}, {"whole_word_mask": True}, {"span_mask": True}])
def test_masks_follow_from_seed_epoch_and_row_alone(options: dict[str, Any]) -> None:
    features, chance = features_of(80, 60), masking(**options, mlm_probability=0.4, mask_replace_prob=0.4)
    # without special tokens at their ends nothing but the row itself keeps them apart
    features[5:] = [{name: row[1:19] for name, row in feature.items()} for feature in features[5:]]
    keys = keys_of(features, 2)
    together = chance(features, keys)
    other_company = chance(features[::-1] + features_of(3, 11, 4), [*keys[::-1], (0, 1), (5, FILLER), (9, 9)])[:80]
    for feature, key, found, again in zip(features, keys, together, other_company[::-1], strict=True):
        alone = chance([feature], [key])[0]
        for name in ("input_ids", "labels"):
            assert found[name].tolist() == alone[name].tolist() == again[name].tolist()
    same = [features[0]] * 4
    places = [
        tuple(np.flatnonzero(found["labels"] != -100).tolist())
        for found in chance(same, [(0, 0), (0, 1), (1, 0), (0, FILLER)])
        + masking(**options, mlm_probability=0.4, seed=43)(same[:1], [(0, 0)])
    ]
    assert len(set(places)) == 5
    assert features[0]["input_ids"].tolist() == features_of(80, 60)[0]["input_ids"].tolist()  # left as they were


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mlm_probability": 1.5}, "mlm_probability 1.5"),
        ({"mlm_probability": -0.1}, "mlm_probability -0.1"),
        ({"mask_replace_prob": 2}, "mask_replace_prob 2"),
        ({"random_replace_prob": -1}, "random_replace_prob -1"),
        ({"mask_replace_prob": 0.9, "random_replace_prob": 0.2}, "random_replace_prob 0.2 add up to more than 1"),
        ({"span_geometric_p": 0}, "span_geometric_p 0"),
        ({"max_span_length": 0}, "max_span_length 0"),
        ({"mask_token_id": None}, "no mask token"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Masking(**{"mask_token_id": MASK, "vocab_size": VOCABULARY, "special_ids": SPECIALS, **options})


def test_shares_may_add_up_to_exactly_one() -> None:
    assert masking(mask_replace_prob=0.7, random_replace_prob=0.3).random_replace_prob == 0.3


def test_chance_is_even_and_without_a_pattern() -> None:
    rows, places = 400, np.arange(256)
    draws = uniform(row_states(42, [(0, row) for row in range(-200, 200)])[:, None], places, 0)
    assert draws.shape == (rows, 256)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, 100, (0, 1))[0]
    assert ((counts - draws.size / 100) ** 2 / (draws.size / 100)).sum() < 170  # 99 degrees of freedom: 1e-5
    limit = 5 / math.sqrt(draws.size)

    def related(first: np.ndarray, second: np.ndarray) -> float:
        return abs(float(np.corrcoef(first.ravel(), second.ravel())[0, 1]))

    others = {
        "epoch": uniform(row_states(42, [(1, row) for row in range(-200, 200)])[:, None], places, 0),
        "seed": uniform(row_states(43, [(0, row) for row in range(-200, 200)])[:, None], places, 0),
        "stream": uniform(row_states(42, [(0, row) for row in range(-200, 200)])[:, None], places, 1),
    }
    assert all(related(draws, other) < limit for other in others.values())
    assert related(draws[:, 1:], draws[:, :-1]) < limit
    assert related(draws[1:], draws[:-1]) < limit
    # neither rows nor streams are shifted copies of each other
    assert len(np.unique(np.stack([draws, *others.values()]))) == draws.size * 4


def test_every_seed_epoch_and_row_has_chance_of_its_own() -> None:
    keys = [(epoch, index) for epoch in range(50) for index in [*range(-1, 400), 2**40, 2**62, -(2**63), 2**63 - 1]]
    states = np.concatenate([row_states(seed, keys) for seed in (-1, 0, 1, 42, 2**32 - 1)])
    assert len(np.unique(states)) == len(states)
    bits = np.unpackbits(drawn(states, np.zeros(len(states), np.int64), 0).view(np.uint8)).reshape(-1, 64)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / math.sqrt(len(states))
