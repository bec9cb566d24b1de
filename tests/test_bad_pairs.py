"""The catalogue of bad input, for sequence to sequence: one message with place and fix, before weights are loaded."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from lit_ft.errors import UserError
from tests.pairs import make_seq2seq, pair_rows
from tests.test_bad_input import Run, runner, write

LANGUAGES = ["--data.source_lang=en", "--data.target_lang=de"]
BAD: dict[str, tuple[str, str, list[str], str]] = {
    "parallel files of unequal length": (
        "Translation", "bart", [*LANGUAGES, "--data.train_file=[{en},{short}]"],
        r"pairs\.en has 20 lines, .*short\.de has 15 lines: .* blank lines taken out",
    ),
    "parallel files for validation": (
        "Translation", "bart",
        [*LANGUAGES, "--data.train_file=[{en},{de}]", "--data.validation_file=[{short},{en}]"],
        r"pairs\.en has 20 lines, .*short\.de has 15 lines",
    ),
    "one parallel file": (
        "Translation", "bart", [*LANGUAGES, "--data.train_file={en}"], r"pairs\.en: .*parallel text files come in twos"
    ),
    "three parallel files": (
        "Translation", "bart", [*LANGUAGES, "--data.train_file=[{en},{de},{short}]"],
        r"parallel files come in twos, one that ends in \.en and one in \.de",
    ),
    "empty parallel file": (
        "Translation", "bart", [*LANGUAGES, "--data.train_file=[{en},{empty}]"], r"empty\.de: the file is empty"
    ),
    "missing parallel file": (
        "Translation", "bart", [*LANGUAGES, "--data.train_file=[{en},{folder}/paris.de]"],
        r"paris\.de: no such file — did you mean 'pairs\.de'\?",
    ),
    "no language": ("Translation", "bart", ["--data.source_lang=en"], r"translation needs target_lang"),
    "unknown language": (
        "Translation", "mbart50", ["--data.source_lang=en_XX", "--data.target_lang=de_CH"],
        r"target_lang: .* knows no language 'de_CH'; it has de_DE",
    ),
    "unknown language of summaries": (
        "Summarization", "mbart50", ["--data.lang=ger"], r"lang: .* knows no language 'ger'; it has "
    ),
    "no language of summaries": (
        "Summarization", "mbart50", [], r"the tokenizer is multilingual: set lang, one of its \d+ codes"
    ),
    "language that is no key": (
        "Translation", "bart", ["--data.source_lang=en", "--data.target_lang=dr", "--data.train_file={nested}"],
        r"nested\.jsonl: column 'translation' holds no 'dr': it has \['de', 'en'\] — did you mean 'de'\?",
    ),
    "misspelt column": (
        "Summarization", "bart", ["--data.text_column=dokument"],
        r"rows\.jsonl has no column 'dokument'; columns: \['document', 'summary'\] — did you mean 'document'\?",
    ),
    "misspelt target": (
        "Summarization", "bart", ["--data.summary_column=sumary"], r"no column 'sumary'.*did you mean 'summary'\?"
    ),
    "misspelt column in a template": (
        "Seq2Seq", "bart", ["--data.source_template={dokument} as {summary}"], r"no column 'dokument'.*'document'\?"
    ),
    "source that is a list": (
        "Summarization", "bart", ["--data.train_file={lists}"], r"lists\.jsonl: row 1, .*holds a list: a source is one"
    ),
    "no row with a target": (
        "Summarization", "bart", ["--data.train_file={nulls}"], r"nulls\.jsonl: no row is left for train: .*unlabelled"
    ),
    "empty file": ("Summarization", "bart", ["--data.train_file={nothing}"], r"nothing\.csv: the file is empty"),
    "target beyond the positions": (
        "Summarization", "bart", ["--data.max_target_length=400"],
        r"data\.max_target_length 400 is above the model's 160 positions.*set it to 160 or less",
    ),
    "new tokens beyond the positions": (
        "Summarization", "bart", ['--model.generation={"max_new_tokens": 400}'],
        r"generation: max_new_tokens 400 is above the model's 160 positions",
    ),
    "decoder start missing": (
        "Summarization", "startless", [], r"does not say what its decoder begins with \(decoder_start_token_id\): set"
    ),
    "no decoder": ("Summarization", "bert", [], r"bert is no encoder-decoder: .*use CausalLMModule"),
    "misspelt metric": ("Summarization", "bart", ["--model.metrics=[roge]"], r"no 'roge' — did you mean 'rouge'\?"),
    "misspelt monitor": (
        "Translation", "bart",
        [*LANGUAGES, *(f"--data.{each}_file=[{{en}},{{de}}]" for each in ("train", "validation")),
         "--checkpoint.monitor=val_blue"],
        r"monitors 'val_blue', which is not logged — did you mean 'val_bleu'\?",
    ),
    "two tokenizers": (
        "Summarization", "bart", ['--data.train_tokenizer={"vocab_size": 300}'], r"train_tokenizer makes tokens of its"
    ),
}  # fmt: skip
"""Task, model, words and message."""


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    def make(family: str) -> str:
        if family != "startless":
            return make_seq2seq(family, tmp_path_factory.mktemp(family))
        folder = Path(make_seq2seq("bart", tmp_path_factory.mktemp(family)))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": None}))
        return str(folder)

    return cache(make)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Files, most of them with one thing wrong, by the names that the table calls them."""
    pairs = pair_rows(20, source="document", target="summary")
    for ending, column in (("en", "document"), ("de", "summary")):
        (tmp_path / f"pairs.{ending}").write_text("".join(row[column] + "\n" for row in pairs), encoding="utf-8")
    (tmp_path / "short.de").write_text("kurz\n" * 15)
    (tmp_path / "empty.de").write_bytes(b"")
    (tmp_path / "nothing.csv").write_bytes(b"")
    write(tmp_path / "rows.jsonl", pairs)
    write(tmp_path / "nested.jsonl", [{"translation": {"de": "ja", "en": row["document"]}} for row in pairs])
    write(tmp_path / "lists.jsonl", [{"document": [row["document"]], "summary": "x"} for row in pairs])
    write(tmp_path / "nulls.jsonl", [{**row, "summary": None} for row in pairs])
    named = {"en": "pairs.en", "de": "pairs.de", "short": "short.de", "empty": "empty.de", "nothing": "nothing.csv"}
    named |= {name: f"{name}.jsonl" for name in ("rows", "nested", "lists", "nulls")}
    return {"folder": str(tmp_path), **{name: str(tmp_path / file) for name, file in named.items()}}


@pytest.fixture
def run(tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(tiny, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", BAD)
def test_bad_pairs(
    name: str, run: Run, places: dict[str, str], model_of: Callable[[str], str], tiny: Callable[..., str]
) -> None:
    task, family, words, message = BAD[name]
    files = [f"--data.{split}_file={places['rows']}" for split in ("train", "validation", "test")]
    filled = [re.sub(r"\{(\w+)\}", lambda found: places.get(found[1], found[0]), word) for word in words]
    model = tiny("bert") if family == "bert" else model_of(family)
    with pytest.raises(UserError, match=message):
        run(*files, *filled, task=task, model=model)
