"""`lit-ft preview`: rows as the model sees them, figures counted a second way, findings, exit status, the page."""

import json
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lit_ft.commands.preview import preview
from lit_ft.data.viewing.row_views import pieces
from tests.pairs import make_seq2seq

TEXTS = [
    "the parcel never came", "a refund please", "my card was charged twice", "where is my order", "it works fine now",
    "thank you for the help", "the app crashes at start", "i cannot log in any more", "please close my account",
    "the screen stays black", "how do i change my address", "the price is too high",
]  # fmt: skip


@pytest.fixture
def files(tiny: Callable[..., str], tmp_path: Path) -> Callable[..., list[str]]:
    """Writes rows of a text classification, returns the words of a command on them."""

    def write(**sets: list[dict[str, Any]]) -> list[str]:
        for name, rows in sets.items():
            lines = "\n".join(json.dumps(row) for row in rows)
            (tmp_path / f"{name}.jsonl").write_text(lines + "\n", encoding="utf-8")
        options = {
            "model": {"class_path": "TextClassificationModule", "init_args": {"model_name_or_path": tiny("bert")}},
            "data": {
                "class_path": "TextClassificationDataModule",
                "init_args": {
                    **{f"{name}_file": str(tmp_path / f"{name}.jsonl") for name in sets},
                    "validation_split_percentage": 0, "max_seq_length": 40, "batch_size": 4,
                },
            },
            "trainer": {"max_epochs": 2, "default_root_dir": str(tmp_path / "runs"), "accelerator": "cpu"},
        }  # fmt: skip
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(options))
        return ["preview", f"--config={config}"]

    return write


def labelled(texts: list[str]) -> list[dict[str, Any]]:
    return [{"text": text, "label": ("good", "bad")[at % 2]} for at, text in enumerate(texts)]


def test_rows_figures_and_nothing_to_say(files: Any, capsys: Any, tmp_path: Path) -> None:
    preview([*files(train=labelled(TEXTS)), "--strict=true", "--rows=2"])
    said = capsys.readouterr().out
    assert said.count("─ row ") == 2
    assert "[CLS] " in said
    assert "-> good" in said or "-> bad" in said
    assert "good 6" in said
    assert "optimizer steps an epoch 3" in " ".join(said.split())
    assert "worth a thought" in said
    assert not (tmp_path / "runs").exists()  # no trace


def test_findings_in_order_with_examples_and_options(files: Any, capsys: Any) -> None:
    train = labelled([*TEXTS, TEXTS[0], "", "word " * 40])
    train += [{"text": TEXTS[1], "label": "good"}]
    test = labelled([TEXTS[2].upper() + "!", "something new", "another one"])
    with pytest.raises(SystemExit) as ended:
        preview([*files(train=train, test=test), "--strict=true"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    found = [line for line in said.splitlines() if line.startswith(("stops:", "harms:", "note:"))]
    order = [
        next(word for word in ("in train", "another label", "no text", "label of an earlier", "longer") if word in line)
        for line in found
        if line.startswith("harms:")
    ]
    assert order == ["in train", "another label", "no text", "label of an earlier", "longer"]
    assert "test: 1 of 3 rows have a text" in said
    assert "(0 of them exactly)" in said
    assert "THE CARD" not in said
    assert "MY CARD WAS CHARGED TWICE!" in said
    assert "on_bad_rows: {seen_in_train: drop}" in said
    assert "loses" not in said


def test_what_would_stop_a_run_comes_first_and_is_not_the_end(files: Any, capsys: Any) -> None:
    rows = [*labelled(TEXTS), {"text": "nobody said", "label": None}]
    with pytest.raises(SystemExit):
        preview([*files(train=rows), "--strict=true"])
    said = capsys.readouterr().out
    first = next(line for line in said.splitlines() if line.startswith(("stops:", "harms:", "note:")))
    assert first.startswith("stops:")
    assert "have no label" in said
    assert "12 of them kept" in said
    preview(files(train=rows))  # not strict


def test_an_epoch_is_measured(files: Any, capsys: Any, tmp_path: Path) -> None:
    preview([*files(train=labelled(TEXTS * 4)), "--measure=true"])
    said = " ".join(capsys.readouterr().out.split())
    assert "time of an epoch, as measured" in said
    assert "for 2 epochs, validation not counted" in said
    assert not (tmp_path / "runs").exists()


class Tags(HTMLParser):
    """Counts tags, and those that are open at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen[tag] += 1
        if tag not in ("meta", "br", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_the_same_and_fetches_nothing(files: Any, tmp_path: Path) -> None:
    rows = [*labelled(TEXTS), {"text": "<script>alert(1)</script>", "label": "<b>good</b>"}]
    preview([*files(train=rows), f"--html={tmp_path / 'page.html'}", "--rows=13"])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert tags.seen["script"] == 0
    assert "http" not in page
    assert tags.seen["svg"] == 2
    assert "<b>good</b>" in tags.text  # as text


def byte_level() -> PreTrainedTokenizerFast:
    """Bytes are its letters, so that a character may be several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("kind", ["word pieces", "bytes", "unigrams"])
def test_pieces_are_the_text(tiny: Callable[..., str], tmp_path: Path, kind: str) -> None:
    if kind == "bytes":
        tokenizer = byte_level()
    else:
        folder = tiny("bert") if kind == "word pieces" else make_seq2seq("t5", tmp_path / "t5")
        tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(" ".join(TEXTS) + " Größe 😀👍 naïve 日本 end", add_special_tokens=True)["input_ids"]
    found = pieces(tokenizer, ids)
    assert len(found) == len(ids)
    assert "".join(found) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert max(map(len, found)) < 15
