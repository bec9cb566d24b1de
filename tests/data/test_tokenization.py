"""Texts as token ids: cut and windowed as transformers does it, by slow tokenizers, too; what is refused."""

import copy
import itertools
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, ByT5Tokenizer

from lit_ft.data.tokenizing.texts import TextEncoder, add_tokens_to, load_tokenizer, longest_first
from lit_ft.errors import UserError
from tests.tiny import make_tokenizer, texts

TEXTS = [*texts()[:25], "", "ok", " ".join(texts()[:3])]
PAIRS = [*TEXTS[1:], TEXTS[0]]
SIDES = {"first": "right", "last": "left"}


@pytest.fixture(scope="module", params=[True, False], ids=["bert", "gpt2"])
def tokenizer(request: pytest.FixtureRequest):
    made = make_tokenizer(pair_template=request.param)
    made.pad_token = made.pad_token or made.eos_token
    return made


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("length", [8, 13, 40, 500])
def test_cut_as_transformers_cuts(tokenizer, side: str, paired: bool, length: int) -> None:
    rows = [(a, b) for a, b in zip(TEXTS, PAIRS, strict=True) if a or tokenizer.cls_token]
    firsts, seconds = [a for a, _ in rows], [b for _, b in rows] if paired else None
    tokenizer.truncation_side = SIDES[side]
    theirs = tokenizer(firsts, seconds, truncation=True, max_length=length, return_token_type_ids=True)
    whole = tokenizer(firsts, seconds)
    ours = TextEncoder(tokenizer, length, side)(firsts, seconds)
    assert ours.input_ids.tolist() == theirs["input_ids"]
    assert ours.token_type_ids.tolist() == theirs["token_type_ids"]
    assert ours.row.tolist() == list(range(len(rows)))
    lost = [len(a) - len(b) for a, b in zip(whole["input_ids"], theirs["input_ids"], strict=True)]
    assert (ours.tokens_cut.tolist(), max(lost) > 0) == (lost, length < 500)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("made", [make_tokenizer, ByT5Tokenizer], ids=["fast", "slow"])
def test_of_a_pair_the_first_alone_is_cut_as_transformers_cuts_it(made: Callable, side: str) -> None:
    tokenizer, seconds = made(), ["a second text"] * len(TEXTS)
    tokenizer.truncation_side = SIDES[side]
    theirs = tokenizer(TEXTS, seconds, truncation="only_first", max_length=20)["input_ids"]
    ours = TextEncoder(tokenizer, 20, side, pair_rule="only_first")(TEXTS, seconds)
    whole = tokenizer(TEXTS, seconds)["input_ids"]
    assert ours.input_ids.tolist() == theirs
    assert ours.tokens_cut.tolist() == [len(a) - len(b) for a, b in zip(whole, theirs, strict=True)]


@pytest.mark.parametrize(("length", "stride"), [(12, 0), (12, 3), (20, 7), (50, 10)])
def test_windows_as_transformers_makes_them(tokenizer, length: int, stride: int) -> None:
    rows = [text for text in TEXTS if text]
    tokenizer.truncation_side = "right"
    theirs = tokenizer(rows, truncation=True, max_length=length, stride=stride, return_overflowing_tokens=True)
    ours = TextEncoder(tokenizer, length, stride=stride)(rows)
    assert ours.input_ids.tolist() == theirs["input_ids"]
    assert ours.row.tolist() == theirs["overflow_to_sample_mapping"]
    assert len(ours.row) > len(rows)
    assert not ours.tokens_cut.any()


@pytest.mark.parametrize("side", ["first", "last", "head_and_tail"])
def test_windows_of_pairs_cover_the_longer_text(side: str) -> None:
    tokenizer = make_tokenizer()
    long, short = TEXTS[-1], TEXTS[0]
    inner = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (long, short)]
    for first, second in [(long, short), (short, long)]:
        encoded = TextEncoder(tokenizer, 33, side, stride=4)([first], [second])
        assert len(encoded.row) > 1
        assert all(len(ids) <= 33 for ids in encoded.input_ids)
        segment = 0 if first == long else 1
        covered: list[int] = []
        for ids, types in zip(encoded.input_ids, encoded.token_type_ids, strict=True):
            part = [token for token, kind in zip(ids, types, strict=True) if kind == segment and token not in (2, 3)]
            assert covered[-4:] == (part[:4] if covered else [])
            covered += part[4:] if covered else part
        assert covered == inner[0]
        assert encoded.tokens_cut[:1].tolist() == [max(0, len(inner[1]) - 15)]


def test_head_and_tail() -> None:
    tokenizer = make_tokenizer()
    whole = tokenizer(TEXTS[-1], add_special_tokens=False)["input_ids"]
    (ids,) = TextEncoder(tokenizer, 13, "head_and_tail")([TEXTS[-1]]).input_ids.tolist()
    assert ids == [2, *whole[:6], *whole[-5:], 3]


@pytest.mark.parametrize("budget", range(2, 9))
def test_longest_first_keeps_what_transformers_keeps(budget: int) -> None:
    tokenizer = make_tokenizer()
    sizes = list(itertools.product(range(11), repeat=2))
    firsts, seconds = (["a " * size for size in column] for column in zip(*sizes, strict=True))
    theirs = tokenizer(firsts, seconds, truncation=True, max_length=budget + 3)
    kept = [(theirs.sequence_ids(row).count(0), theirs.sequence_ids(row).count(1)) for row in range(len(sizes))]
    assert [longest_first(*size, budget) for size in sizes] == kept


def test_truncation_and_padding_inside_the_tokenizer_never_apply(tmp_path: Path) -> None:
    plain = make_tokenizer()
    baked = copy.deepcopy(plain)
    backend: Tokenizer = baked.backend_tokenizer
    backend.enable_truncation(10)
    backend.enable_padding(length=20)
    baked.save_pretrained(tmp_path)
    before = baked.backend_tokenizer.to_str()
    for made, limit in ((baked, 64), (AutoTokenizer.from_pretrained(tmp_path), None)):
        ours, theirs = TextEncoder(made, limit)(TEXTS), TextEncoder(plain, limit)(TEXTS)
        assert ours.input_ids.tolist() == theirs.input_ids.tolist()
    assert baked.backend_tokenizer.to_str() == before


def test_without_special_tokens_an_empty_text_is_one_token() -> None:
    tokenizer = make_tokenizer(pair_template=False)
    encoded = TextEncoder(tokenizer, 16)(["", "ok"])
    assert encoded.input_ids.tolist() == [[tokenizer.eos_token_id], tokenizer("ok")["input_ids"]]
    assert (encoded.row.tolist(), encoded.tokens_cut.tolist()) == ([0, 1], [0, 0])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("paired", [False, True])
def test_slow_tokenizer(side: str, paired: bool) -> None:
    tokenizer, pairs = ByT5Tokenizer(), PAIRS if paired else [None] * len(PAIRS)
    ours = TextEncoder(tokenizer, 30, side)(TEXTS, PAIRS if paired else None)
    assert tokenizer.truncation_side == "right"
    tokenizer.truncation_side = SIDES[side]
    both = list(zip(TEXTS, pairs, strict=True))
    theirs = [tokenizer(a, b, truncation=True, max_length=30)["input_ids"] for a, b in both]
    assert ours.input_ids.tolist() == theirs
    assert ours.tokens_cut.tolist() == [
        len(tokenizer(a, b)["input_ids"]) - len(c) for (a, b), c in zip(both, theirs, strict=True)
    ]
    assert [len(types) for types in ours.token_type_ids] == [len(ids) for ids in theirs]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seq_length": 4}, "max_seq_length 4 leaves no room beside the special tokens"),
        ({"max_seq_length": 23, "stride": 10}, r"stride 10 must be below half of .* \(10\)"),
        ({"max_seq_length": 23, "stride": -1}, "stride -1"),
    ],
)
def test_encoder_refuses(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TextEncoder(make_tokenizer(), **options)


@pytest.mark.parametrize("options", [{"stride": 2}, {"truncation_side": "head_and_tail"}])
def test_slow_tokenizer_refuses(options: dict) -> None:
    with pytest.raises(UserError, match="need a fast tokenizer"):
        TextEncoder(ByT5Tokenizer(), 30, **options)


def test_loading(tiny, tmp_path: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(tiny("bert"))
    assert load_tokenizer(tiny("bert"))("hello there")["input_ids"] == theirs("hello there")["input_ids"]
    assert load_tokenizer(tiny("gpt2")).pad_token == "[SEP]"
    with pytest.raises(UserError, match="holds no tokenizer that can be loaded"):
        load_tokenizer(str(tmp_path))
    for name in ("runs/version_9/hf", "./nothing"):  # no names of the hub
        with pytest.raises(UserError, match=rf"{name}' holds no.* loaded: there is no such folder in {Path.cwd()}$"):
            load_tokenizer(name)
    with pytest.raises(UserError, match=f"there is no such folder in {Path.cwd()}, and of the hub: "):
        load_tokenizer("runs/hf")


def test_added_tokens_stay_whole() -> None:
    tokenizer = make_tokenizer()
    size = len(tokenizer)
    add_tokens_to(tokenizer, ["zyxwv", "[MASK]"])
    assert len(tokenizer) == size + 1
    assert TextEncoder(tokenizer, 16)(["a zyxwv"]).input_ids[0][-2] == size
    assert len(add_tokens_to(tokenizer, None)) == size + 1


def test_a_forked_process_can_encode_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    encoder = TextEncoder(make_tokenizer(), 16)
    encoder(TEXTS * 50)  # starts the encoder's threads, which the forked process will lack
    process = multiprocessing.get_context("fork").Process(target=encoder, args=(TEXTS * 50,))
    process.start()
    process.join(timeout=60)
    process.kill()
    assert process.exitcode == 0
