"""Hashes of values, tokenizers and classes: every change is seen, and use and place change nothing."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from tokenizers import normalizers, processors
from transformers import AutoTokenizer, CTRLTokenizer, EsmTokenizer, PreTrainedTokenizerFast

from lit_ft.data.caching.digests import class_digest, digest, tokenizer_digest
from tests.tiny import make_tokenizer

KEY = {"a": 1, "b": [2, None]}


def test_digest_is_of_the_content() -> None:
    assert digest({"b": [2, None], "a": 1}) == digest(KEY)
    changed = [{**KEY, "a": 2}, {**KEY, "a": "1"}, {**KEY, "c": 0}, {**KEY, "c": None}, {"a": 1, "b": [None, 2]}]
    assert len({digest(key) for key in (KEY, *changed)}) == 6


def lower(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)


def template(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", 2)]
    )


CHANGES: dict[str, Callable[[PreTrainedTokenizerFast], object]] = {
    "added": lambda tokenizer: tokenizer.add_tokens(["zyxwv"]),
    "added special": lambda tokenizer: tokenizer.add_tokens(["zyxwv"], special_tokens=True),
    "extra special": lambda tokenizer: tokenizer.add_special_tokens({"additional_special_tokens": ["[SEP]"]}),
    "lower case": lower,
    "post-processor": template,
    "special": lambda tokenizer: setattr(tokenizer, "pad_token", "[UNK]"),
    "inputs": lambda tokenizer: setattr(tokenizer, "model_input_names", ["input_ids"]),
    "length": lambda tokenizer: setattr(tokenizer, "model_max_length", 64),
    "split special": lambda tokenizer: setattr(tokenizer, "split_special_tokens", True),
}


def test_every_change_of_a_tokenizer_is_seen() -> None:
    digests = {"": tokenizer_digest(make_tokenizer()), "vocabulary": tokenizer_digest(make_tokenizer(599))}
    for name, change in CHANGES.items():
        tokenizer = make_tokenizer()
        change(tokenizer)
        digests[name] = tokenizer_digest(tokenizer)
    assert len(set(digests.values())) == len(CHANGES) + 2, digests


def test_use_and_place_of_a_tokenizer_change_nothing(tmp_path: Path) -> None:
    """huggingface/datasets#3847: a call leaves its truncation and padding in the tokenizer."""
    tokenizer = make_tokenizer()
    before = tokenizer_digest(tokenizer)
    state = tokenizer.backend_tokenizer.to_str()
    for options in ({"truncation": True, "max_length": 4, "padding": "max_length"}, {"padding": True}, {}):
        tokenizer(["a b c d e f", "a"], **options)
        assert tokenizer_digest(tokenizer) == before
        tokenizer.truncation_side = tokenizer.padding_side = "left"
    tokenizer(["a b c d e f"], truncation=True, max_length=4)
    assert tokenizer.backend_tokenizer.to_str() != state
    assert tokenizer_digest(tokenizer) == before
    for place in ("one", "another"):
        tokenizer.save_pretrained(tmp_path / place)
        assert tokenizer_digest(type(tokenizer).from_pretrained(tmp_path / place)) == before


def test_a_truncation_that_is_saved_is_not_what_the_tokenizer_does(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    before = tokenizer_digest(tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(pad_token='"added_tokens":')
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_digest(AutoTokenizer.from_pretrained(tmp_path)) == before


def esm(folder: Path, words: str = "<cls> <pad> <eos> <unk> a b c", **options: object) -> EsmTokenizer:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words.split()))
    return EsmTokenizer(str(folder / "vocab.txt"), **options)


def test_slow_tokenizers(tmp_path: Path) -> None:
    tokenizer = esm(tmp_path)
    assert not tokenizer.is_fast
    before = tokenizer_digest(tokenizer)
    tokenizer(["a b"], truncation=True, max_length=3, padding="max_length")
    tokenizer.truncation_side = "left"
    assert tokenizer_digest(tokenizer) == tokenizer_digest(esm(tmp_path / "elsewhere")) == before
    tokenizer.save_pretrained(tmp_path / "saved")
    for options in ({}, {"truncation_side": "left", "padding_side": "left"}):
        assert tokenizer_digest(EsmTokenizer.from_pretrained(tmp_path / "saved", **options)) == before
    assert tokenizer_digest(esm(tmp_path / "words", "<cls> <pad> <eos> <unk> a c b")) != before
    assert tokenizer_digest(esm(tmp_path / "mask", mask_token="a")) != before
    tokenizer.add_tokens(["zyxwv"])
    assert tokenizer_digest(tokenizer) != before


def test_slow_tokenizers_with_merges(tmp_path: Path) -> None:
    digests = set()
    for number, merges in enumerate(("a b</w>", "b a</w>")):
        (tmp_path / f"{number}").write_text(f"#version\n{merges}\n")
        (tmp_path / "vocab.json").write_text('{"<unk>": 0, "ab": 1}')
        digests.add(tokenizer_digest(CTRLTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / f"{number}"))))
    assert len(digests) == 2


TYPED = """
from lit_ft.data.caching.digests import class_digest
class Data:
    kept = staticmethod(len)
    def tokenize(self, rows):
        return [row for row in rows if row in {"a", "b", "c", "d", WORD}]
print(class_digest(Data))
"""


def typed(word: str, seed: int) -> str:
    """Hashes a class without a source file, as one typed into a notebook, in a process of its own."""
    words = [sys.executable, "-c", TYPED.replace("WORD", repr(word))]
    return subprocess.run(words, env={"PYTHONHASHSEED": str(seed)}, check=True, capture_output=True, text=True).stdout


def test_an_edit_of_a_class_without_a_file_is_seen() -> None:
    assert typed("e", 0) == typed("e", 1) != typed("f", 0)


def test_an_edit_of_a_class_is_seen(tmp_path: Path) -> None:
    def edited(word: str, name: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(f"class Data:\n    def tokenize(self):\n        return {word!r}\n")
        spec = spec_from_file_location("users_own", path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules["users_own"] = module
        spec.loader.exec_module(module)
        return class_digest(type("Sub", (module.Data, Path), {}))

    assert edited("a", "one") == edited("a", "two") != edited("b", "three")
    del sys.modules["users_own"]
