"""The catalogue of bad input, for language models: one message that names place and fix, before weights are loaded."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers import CONFIG_MAPPING, AutoTokenizer

from lit_ft import CausalLMDataModule, MaskedLMDataModule
from lit_ft.errors import UserError
from tests.test_bad_input import Run, runner, write
from tests.tiny import texts

SCRATCH = ["--model.model_name_or_path=null", "--model.model_type=gpt2"]
TRAINED = [*SCRATCH, '--model.config_overrides={"n_layer": 1, "n_embd": 8, "n_head": 1, "n_positions": 64}']
BAD: dict[str, tuple[str, list[str], str]] = {
    "block beyond learned positions": (
        "CausalLM", ["--data.block_size=4096"], "block_size 4096 is above the model's 160 positions"
    ),
    "length beyond learned positions": (
        "MaskedLM", ["--data.max_seq_length=4096"], "max_seq_length 4096 is above the model's 160 positions"
    ),
    "block beyond the positions of a new model": (
        "CausalLM",
        [*TRAINED, '--data.train_tokenizer={"vocab_size": 300}', "--data.block_size=100"],
        "data.block_size 100 is above the model's 64 positions: set it to 64 or less",
    ),
    "no whole block": (
        "CausalLM",
        ["--data.block_size=160", "--data.drop_last=true", "--data.max_train_samples=3"],
        "tokens do not fill one block of 160: lower it, or set drop_last: false",
    ),
    "stride beyond the block": ("CausalLM", ["--data.stride=500"], "windows of block_size 160 overlap by"),
    "mask token missing": (
        "MaskedLM", ["--model.model_name_or_path={gpt2}"], "no mask token, so its model is no masked one: use CausalLM"
    ),
    "causal model with a mask token": (
        "MaskedLM",
        ["--model.model_name_or_path={llama}", "--model.tokenizer_name={bert}"],
        "MaskedLMModule: llama is a causal language model; use CausalLMModule, CausalLMDataModule",
    ),
    "masked model with an end of text": (
        "CausalLM",
        ["--model.model_name_or_path={bert}", "--model.tokenizer_name={gpt2}"],
        "this bert model sees the tokens that it is to predict (a masked language model); use MaskedLMModule",
    ),
    "shapes changed": (
        "CausalLM", ['--model.config_overrides={"n_embd": 64}'], "n_embd: weights would have other shapes or names"
    ),
    "shapes of a masked model changed": (
        "MaskedLM", ['--model.config_overrides={"hidden_size": 64}'], "hidden_size: weights would have other shapes"
    ),
    "no fim token": (
        "CausalLM", ["--data.fim_rate=0.5"], "fim_prefix_token: the tokenizer has no token '<fim_prefix>'; name one"
    ),
    "misspelt fim token": (
        "CausalLM",
        ["--data.fim_rate=0.5", '--model.add_tokens=["<fim-prefix>"]'],
        "no token '<fim_prefix>' — did you mean '<fim-prefix>'?",
    ),
    "stream without steps": ("CausalLM", ["--data.streaming=true"], "end of an epoch: set trainer.max_steps"),
    "stream without validation steps": (
        "MaskedLM", ["--data.streaming=true", "--trainer.max_steps=9"], "set trainer.val_check_interval to the number"
    ),
    "unknown option of the tokenizer": (
        "CausalLM",
        [*TRAINED, '--data.train_tokenizer={"vocab_siz": 300}'],
        "train_tokenizer has no option 'vocab_siz' — did you mean 'vocab_size'?",
    ),
    "vocabulary too small": (
        "CausalLM", [*TRAINED, '--data.train_tokenizer={"vocab_size": 100}'], "vocab_size is 100, but must be at least"
    ),
    "two tokenizers": (
        "CausalLM",
        [*TRAINED, '--data.train_tokenizer={"vocab_size": 300}', "--model.tokenizer_name={gpt2}"],
        "train_tokenizer makes a tokenizer, tokenizer_name is for one that is loaded: leave one out",
    ),
    "two models": ("CausalLM", ["--model.model_type=gpt2"], "model_type 'gpt2' trains from scratch, but "),
    "no tokenizer": (
        "CausalLM",
        [*SCRATCH, '--model.sample_prompts=["One day"]'],
        "no tokenizer: set model_name_or_path or tokenizer_name",
    ),
    "way of generating": (
        "CausalLM", ['--model.generation={"max_new_token": 3}'], "no option 'max_new_token' — did you mean"
    ),
    "column of numbers": (
        "CausalLM",
        ["--data.train_file={numbers}", "--data.text_column_name=n"],
        "numbers.jsonl: column 'n' holds int64, not text; columns of text: ['t', 'u']",
    ),
    "several columns of text": (
        "CausalLM", ["--data.train_file={numbers}"], "which column is the text? columns: ['n', 't', 'u']; set text_col"
    ),
    "misspelt text column": (
        "MaskedLM", ["--data.text_column_name=txet"], "no column 'txet'; columns: ['text', 'label'] — did"
    ),
    "empty file": ("CausalLM", ["--data.train_file={empty}"], "empty.txt: the file is empty"),
    "empty validation file": ("MaskedLM", ["--data.validation_file={empty}"], "empty.txt: the file is empty"),
    "blank lines": ("CausalLM", ["--data.train_file={blank}"], "blank.txt: the file is empty"),
    "blank lines line by line": (
        "MaskedLM", ["--data.train_file={blank}", "--data.line_by_line=true"], "blank.txt: the file is empty"
    ),
    "rows without text": ("MaskedLM", ["--data.train_file={textless}"], "textless.jsonl: no text in 3 documents"),
    "binary file": ("CausalLM", ["--data.train_file={binary}"], "binary.txt: the file is binary, not text"),
    "documents beside rows": (
        "CausalLM",
        ["--data.train_file=[{numbers},{plain}]"],
        "numbers.jsonl beside it has a row for each: set sample_by to line or paragraph, or name them in sources of",
    ),
}  # fmt: skip
"""Task, words and message."""
PATTERNS: dict[str, tuple[str, list[str], str]] = {
    "masked model": ("CausalLM", ["--model.model_name_or_path={bert}"], "use MaskedLMModule, MaskedLMDataModule"),
    "the other task's length": ("CausalLM", ["--data.max_seq_length=64"], "'max_seq_length' — here it is --data.block"),
    "the other task's block": ("MaskedLM", ["--data.block_size=64"], "'block_size' — here it is --data.max_seq"),
    "rows without text": ("CausalLM", ["--data.train_file={textless}"], "no text in 3 documents"),
    "nothing but numbers": ("CausalLM", ["--data.train_file={counts}"], "no column of text"),
    "sample prompt beyond the positions": (
        "CausalLM", ['--model.generation={"max_new_tokens": 160}', '--model.sample_prompts=["order"]'],
        "max_new_tokens 160 leaves no room for a prompt in the model's 160 positions",
    ),
    "permutation without XLNet": ("MaskedLM", ["--data.permutation=true"], "does not go with .* an XLNet|permutation"),
    "new tokenizer for old weights": (
        "CausalLM", ['--data.train_tokenizer={"vocab_size": 300}'], "train_tokenizer.*model_name_or_path"
    ),
    "nothing masked": ("MaskedLM", ["--data.mlm_probability=0"], "mlm_probability 0 masks nothing"),
    "no span": ("MaskedLM", ["--data.max_span_length=0"], "max_span_length 0 must be at least 1"),
    "an option of XLNet": ("MaskedLM", ["--data.plm_probability=0.5"], "plm_probability does not go with this model"),
    "more tokens than there are": ("MaskedLM", ["--model.top_k=100000"], "top_k 100000 is above the model's"),
}  # fmt: skip
"""The same, for messages with parts that differ from run to run."""


@pytest.fixture
def run(tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(tiny, tmp_path, monkeypatch)


@pytest.fixture
def places(tiny: Callable[..., str], tmp_path: Path) -> dict[str, str]:
    """Files with one thing wrong, and models, by the names that the tables call them."""
    write(tmp_path / "numbers.jsonl", [{"n": n, "t": "a text", "u": "another"} for n in range(3)])
    write(tmp_path / "counts.jsonl", [{"n": n, "m": 2 * n} for n in range(3)])
    write(tmp_path / "textless.jsonl", [{"text": text} for text in ("", " ", "  ")])
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "blank.txt").write_text("\n\n  \n\n")
    (tmp_path / "plain.txt").write_text("a text\nand another line\n")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 20)
    files = {path.stem: str(path) for path in tmp_path.glob("*.*")}
    return files | {kind: tiny(kind) for kind in ("gpt2", "llama", "bert")}


def filled(words: list[str], places: dict[str, str]) -> list[str]:
    return [re.sub(r"\{(\w+)\}", lambda found: places[found[1]], word) for word in words]


@pytest.mark.parametrize("name", BAD)
def test_bad_options_and_files(name: str, run: Run, places: dict[str, str]) -> None:
    task, words, message = BAD[name]
    with pytest.raises(UserError, match=re.escape(message)):
        run(*filled(words, places), task=task)


@pytest.mark.parametrize("name", PATTERNS)
def test_messages_with_changing_parts(name: str, run: Run, places: dict[str, str]) -> None:
    task, words, message = PATTERNS[name]
    with pytest.raises(UserError, match=message):
        run(*filled(words, places), task=task)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Keeps what is said, which goes to the screen and not up to the root logger."""
    logger = logging.getLogger("lit_ft")
    logger.addHandler(caplog.handler)
    caplog.set_level("INFO", "lit_ft")
    yield caplog
    logger.removeHandler(caplog.handler)


SAID: dict[str, tuple[str, list[str], str]] = {
    "rotary range": (
        "fit", ["--data.block_size=4096"], "block_size 4096 is above the 160 tokens that the model was trained on"
    ),
    "less than a block": (
        "fit", ["--data.block_size=4096"], "in 1 blocks of 4096 .* 1 of them shorter; all of it is less than one block"
    ),
    "long prompt": ("predict", ["--data.predict_file={prompts}"], r"1 of 2 rows are longer .* lose \d+ tokens"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_is_legal_but_costs_something_is_said(
    name: str, run: Run, places: dict[str, str], said: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    command, words, message = SAID[name]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("where is my order\n" + " ".join(texts()[:20]) + "\n")
    with pytest.raises(AssertionError, match="weights were loaded"):
        run(
            *filled(words, {**places, "prompts": str(prompts)}),
            task="CausalLM",
            model=places["llama"],
            command=command,
        )
    assert any(re.search(message, each) for each in said.messages)


def test_prompts_are_cut_for_the_new_tokens(run: Run, tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    (tmp_path / "prompts.txt").write_text("where is my order\nrefund\n")
    words = [f"--data.predict_file={tmp_path / 'prompts.txt'}", '--model.generation={"max_new_tokens": 158}']
    with pytest.raises(AssertionError, match="weights were loaded"):
        run(*words, task="CausalLM", command="predict")
    cut = r"\d prompts are longer than the 2 tokens that the model takes beside 158"
    assert any(re.search(cut, each) for each in said.messages)


@pytest.mark.parametrize("kind", ["bloom", "falcon"])
def test_a_model_that_cannot_keep_documents_apart(kind: str, run: Run, tiny: Callable[..., str]) -> None:
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "hidden_size": 32, "num_hidden_layers": 1}
    own = {"alibi": True, "num_attention_heads": 2} if kind == "falcon" else {}
    names = [name for name in sizes if hasattr(CONFIG_MAPPING[kind](), name)]
    overrides = {name: sizes[name] for name in names} | own
    words = ["--model.model_name_or_path=null", f"--model.model_type={kind}", "--data.block_size=32"]
    tokenizer = [f"--model.tokenizer_name={tiny('gpt2')}", f"--model.config_overrides={json.dumps(overrides)}"]
    with pytest.raises(UserError, match=r"AttentionInterface: set data\.isolate_documents: false"):
        run(*words, *tokenizer, task="CausalLM")


@pytest.mark.parametrize(("kind", "task"), [("gpt2", CausalLMDataModule), ("bert", MaskedLMDataModule)])
def test_what_is_baked_into_a_tokenizer_changes_nothing(
    kind: str, task: type, tiny: Callable[..., str], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny(kind))
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tokenizer.save_pretrained(tmp_path / "baked")
    saved = json.loads((tmp_path / "baked" / "tokenizer.json").read_text())
    assert saved["truncation"]["max_length"] == 8
    assert saved["padding"]["strategy"] == {"Fixed": 64}
    blocks = []
    for name in (tiny(kind), str(tmp_path / "baked")):
        data = task(
            model_name_or_path=tiny(kind), tokenizer_name=name, dataset=[{"text": text} for text in texts()[:40]]
        )
        data.setup("fit")
        store = data.features["train"][""].store
        blocks.append([store[number]["input_ids"].tolist() for number in range(len(store))])
    assert blocks[0] == blocks[1]
    assert len(blocks[0]) > 1
