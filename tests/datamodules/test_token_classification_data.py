"""Rows of tagged words in every layout: against run_ner's own alignment, in windows, and what is wrong with them."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

from lit_ft import TokenClassificationDataModule
from lit_ft.errors import UserError
from tests.sentences import TAGS, Rows, as_lines, as_spans, hub_rows, sentences

ROWS = sentences(50)


def data(model: str, rows: Any = ROWS, **options: Any) -> TokenClassificationDataModule:
    source = {} if rows is None else {"dataset": rows}
    columns = {} if rows is None else {"text_column_name": "tokens", "label_column_name": "tags"}
    return TokenClassificationDataModule(
        model_name_or_path=model, **{"validation_split_percentage": 0, "batch_size": 4, **source, **columns, **options}
    )


def features(module: TokenClassificationDataModule, kind: Any = "train") -> list[dict[str, Any]]:
    module.setup({"train": "fit", "validation": "validate"}.get(kind, kind))
    (found,) = module.features[kind].values()
    return [found[number] for number in range(len(found))]


def named(module: TokenClassificationDataModule, feature: dict[str, Any]) -> list[str]:
    """The tags of a feature's labelled tokens."""
    return [module.description["labels"][label] for label in feature["labels"] if label != -100]


def tokenize_and_align_labels(
    tokenizer: Any, rows: Rows, label_to_id: dict[str, int], label_all_tokens: bool
) -> tuple[list[list[int]], list[list[int]]]:
    """run_ner.py's function of that name, on names instead of ids."""
    b_to_i_label = [label_to_id.get(label.replace("B-", "I-"), number) for label, number in label_to_id.items()]
    tokenized = tokenizer([row["tokens"] for row in rows], truncation=True, is_split_into_words=True)
    labels = []
    for i, row in enumerate(rows):
        previous_word_idx = None
        label_ids = []
        for word_idx in tokenized.word_ids(batch_index=i):
            if word_idx is None:
                label_ids.append(-100)
            elif word_idx != previous_word_idx:
                label_ids.append(label_to_id[row["tags"][word_idx]])
            elif label_all_tokens:
                label_ids.append(b_to_i_label[label_to_id[row["tags"][word_idx]]])
            else:
                label_ids.append(-100)
            previous_word_idx = word_idx
        labels.append(label_ids)
    return tokenized["input_ids"], labels


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_labels_are_those_of_run_ner(kind: str, every: bool, tiny: Callable[..., str]) -> None:
    module = data(tiny(kind), label_all_tokens=every)
    found = features(module)
    prefix = {} if kind == "bert" else {"add_prefix_space": True}
    tokenizer = AutoTokenizer.from_pretrained(tiny(kind), **prefix)
    ids = {name: number for number, name in enumerate(module.description["labels"])}
    inputs, labels = tokenize_and_align_labels(tokenizer, ROWS, ids, every)
    assert [each["input_ids"].tolist() for each in found] == inputs
    assert [each["labels"].tolist() for each in found] == labels
    assert module.description["labels"] == TAGS


@pytest.mark.parametrize(("scheme", "tags"), [
    ("IO", "O I-PER I-PER I-PER O I-LOC"),
    ("IOB1", "O I-PER I-PER B-PER O I-LOC"),
    ("IOB2", "O B-PER I-PER B-PER O B-LOC"),
    ("BIOES", "O B-PER E-PER S-PER O S-LOC"),
    ("BILOU", "O B-PER L-PER U-PER O U-LOC"),
])  # fmt: skip
def test_every_scheme_is_learned_as_any_other(scheme: str, tags: str, tiny: Callable[..., str]) -> None:
    row = {"tokens": ["the", "mary", "ann", "peter", "went", "berlin"]}
    rows = [{**row, "tags": ["O", "B-PER", "E-PER", "S-PER", "O", "S-LOC"]}] * 3
    module = data(tiny("bert"), rows, tag_scheme=scheme, on_bad_rows={"duplicate": "keep"})
    assert named(module, features(module)[0]) == tags.split()
    assert (module.description["tag_scheme"], module.description["data_scheme"]) == (scheme, "BIOES")
    letters = {"IO": "I", "IOB1": "BI", "IOB2": "BI", "BIOES": "BIES", "BILOU": "BILU"}[scheme]
    assert set(module.description["labels"]) == {
        "O",
        *(f"{letter}-{kind}" for letter in letters for kind in ("PER", "LOC")),
    }
    assert any("touch another" in note for note in module.notes) == (scheme == "IO")


def test_the_inside_of_a_word_in_every_scheme(tiny: Callable[..., str]) -> None:
    row = {"tokens": ["the", "antidisestablishment"], "tags": ["O", "S-LOC"]}
    for scheme, inside in {"IO": "I-LOC", "IOB1": "I-LOC", "IOB2": "I-LOC", "BIOES": "I-LOC", "BILOU": "I-LOC"}.items():
        module = data(tiny("bert"), [row] * 2, tag_scheme=scheme, label_all_tokens=True)
        first, *others = named(module, features(module)[0])[1:]
        assert len(others) > 3
        assert set(others) == {inside}
        assert first == {"IO": "I-LOC", "IOB1": "I-LOC", "IOB2": "B-LOC", "BIOES": "S-LOC", "BILOU": "U-LOC"}[scheme]


LAYOUTS: dict[str, Callable[[Path], tuple[str, dict[str, Any]]]] = {}


def layout(name: str, **options: Any) -> Callable[[Any], Any]:
    def register(write: Callable[[], str]) -> Callable[[], str]:
        def put(folder: Path) -> tuple[str, dict[str, Any]]:
            path = folder / name
            path.write_text(write(), encoding="utf-8")
            return str(path), options

        LAYOUTS[write.__name__] = put
        return write

    return register


@layout("a.conll")
def news() -> str:
    return as_lines(ROWS, ["tokens", "parts", "tags"])


@layout("a.txt")
def two_columns_of_text() -> str:
    return as_lines(ROWS, ["tokens", "tags"])


@layout("a.tsv", label_column_name=3)
def german() -> str:
    return as_lines(ROWS, ["tokens", "tags", "parts"], counted=True, separator="\t")


@layout("a.conllu", label_column_name=-1)
def universal() -> str:
    return as_lines(ROWS, ["tokens", *["_"] * 7, "tags"], counted=True, separator="\t")


@layout("a.jsonl")
def lists() -> str:
    return "\n".join(json.dumps({"tags": row["tags"], "words": row["tokens"]}) for row in ROWS)


@layout("a.csv")
def cells_with_spaces() -> str:
    return "sentence,ner\n" + "".join(f'"{" ".join(row["tokens"])}","{" ".join(row["tags"])}"\n' for row in ROWS)


@layout("a.json", label_column_name="entities")
def spans() -> str:
    return json.dumps([as_spans(row) for row in ROWS])


@layout("a.jsonl", label_names=TAGS)
def ids() -> str:
    return "\n".join(json.dumps({"tokens": row["tokens"], "ner": [*map(TAGS.index, row["tags"])]}) for row in ROWS)


@layout("b.jsonl", label_column_name="label")
def doccano() -> str:
    rows = [as_spans(row) for row in ROWS]
    return "\n".join(
        json.dumps(
            {"text": row["text"], "label": [[each["start"], each["end"], each["label"]] for each in row["entities"]]}
        )
        for row in rows
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_features(name: str, tiny: Callable[..., str], tmp_path: Path) -> None:
    path, options = LAYOUTS[name](tmp_path)
    expected, found = data(tiny("bert")), data(tiny("bert"), None, train_file=path, **options)
    for one, other in zip(features(expected), features(found), strict=True):
        assert one["input_ids"].tolist() == other["input_ids"].tolist()
        assert named(expected, one) == named(found, other)


def test_ids_that_carry_their_names(tiny: Callable[..., str]) -> None:
    names = ["B-PER", "I-PER", "O", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-NEVER"]
    module = data(tiny("bert"), {"train": hub_rows(ROWS, "ner_tags", names, "tags")}, label_column_name="ner_tags")
    assert [named(module, each) for each in features(module)] == [row["tags"] for row in ROWS]
    assert module.description["labels"] == [*names, "I-NEVER"]


def test_plain_tags(tiny: Callable[..., str]) -> None:
    module = data(tiny("bert"), label_column_name="parts", label_all_tokens=True)
    first = features(module)[0]
    assert module.description["tag_scheme"] is None
    assert module.description["labels"] == ["ADJ", "NOUN", "PUNCT", "VERB"]
    encoded = AutoTokenizer.from_pretrained(tiny("bert"))(ROWS[0]["tokens"], is_split_into_words=True)
    assert named(module, first) == [ROWS[0]["parts"][word] for word in encoded.word_ids() if word is not None]


def test_windows_hold_every_word_once(tiny: Callable[..., str]) -> None:
    rows = sentences(12, length=60)
    whole, cut = data(tiny("bert"), rows), data(tiny("bert"), {"train": rows, "validation": rows}, max_seq_length=32)
    found: dict[int, list[str]] = {}
    for feature in features(cut):
        assert len(feature["input_ids"]) <= 32
        found.setdefault(feature["row"], []).extend(named(cut, feature))
    assert [found[row] for row in range(12)] == [named(whole, feature) for feature in features(whole)]
    cut.setup("validate")
    batches = list(cut.val_dataloader()[0])
    firsts = [
        batch["labels"].gather(1, batch["first_tokens"].clamp(min=0))[batch["first_tokens"] >= 0] for batch in batches
    ]
    assert not bool((torch.cat(firsts) == -100).any())
    assert len(torch.cat(firsts)) == sum(len(row["tokens"]) for row in rows)


def test_padding_on_the_left_moves_labels_and_places(tiny: Callable[..., str]) -> None:
    batches = []
    for side in ("left", "right"):
        module = data(tiny("bert"), {"train": ROWS, "validation": ROWS}, tokenizer_kwargs={"padding_side": side})
        module.setup("validate")
        batches.append(next(iter(module.val_dataloader()[0])))
    left, right = batches
    assert left["attention_mask"][:, 0].min() == 0
    for one, other in zip(left["first_tokens"], right["first_tokens"], strict=True):
        assert (one >= 0).tolist() == (other >= 0).tolist()
    for name in ("labels", "input_ids"):
        values = [
            batch[name].gather(1, batch["first_tokens"].clamp(min=0))[batch["first_tokens"] >= 0] for batch in batches
        ]
        assert values[0].tolist() == values[1].tolist()


def headed(tiny: Callable[..., str], folder: Path, names: list[str]) -> str:
    config = AutoConfig.from_pretrained(
        tiny("bert"), id2label=dict(enumerate(names)), label2id={name: at for at, name in enumerate(names)}
    )
    AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny("bert")).save_pretrained(folder)
    return str(folder)


def test_ids_are_those_of_the_pretrained_head(tiny: Callable[..., str], tmp_path: Path) -> None:
    names = ["I-ORG", "O", "B-MISC", "I-MISC", "B-ORG", "B-LOC", "I-LOC", "I-PER", "B-PER"]
    module = data(headed(tiny, tmp_path / "one", names))
    assert [named(module, each) for each in features(module)] == [row["tags"] for row in ROWS]
    assert module.description["labels"] == names
    others = [f"{prefix}-{kind}" for kind in ("PER", "LOC", "ORG") for prefix in "BIES"]
    module = data(headed(tiny, tmp_path / "two", ["O", *others]))
    features(module)
    assert (module.description["tag_scheme"], module.description["labels"]) == ("BIOES", ["O", *others])
    assert any("tags are IOB2, learned as BIOES" in note for note in module.notes)


def test_streamed_rows_are_the_prepared_ones(tiny: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(as_lines(ROWS, ["tokens", "tags"]))
    expected = features(data(tiny("bert"), None, train_file=str(path)))
    module = data(
        tiny("bert"), None, train_file=str(path), streaming=True, label_names=TAGS, shuffle_buffer_size=0, batch_size=1
    )
    module.setup("fit")
    for batch, feature in zip(module.train_dataloader(), expected, strict=False):
        assert batch["labels"][0].tolist() == feature["labels"].tolist()
    with pytest.raises(UserError, match="set label_names"):
        data(tiny("bert"), None, train_file=str(path), streaming=True).setup("fit")


def test_tags_that_their_scheme_does_not_allow_are_counted(
    tiny: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.conll"
    path.write_text(as_lines(ROWS, ["tokens", "tags"]) + "went O\nsmith I-PER\n")
    module = data(tiny("bert"), None, train_file=str(path))
    with caplog.at_level(logging.INFO, "lit_ft"):
        assert named(module, features(module)[-1]) == ["O", "I-PER"]
    (found,) = (each["found"]["ill_formed_tags"] for each in module.report["sets"])
    lines = path.read_text().count("\n")
    assert (found["count"], found["examples"]) == (1, [f"row 51 (line {lines - 1})"])
    with pytest.raises(
        UserError, match=r"1 of 51 rows have tags that their scheme does not allow, the first is row 51"
    ):
        data(tiny("bert"), None, train_file=str(path), on_bad_rows={"ill_formed_tags": "error"}).setup("fit")


def test_entities_in_characters_that_are_no_words(tiny: Callable[..., str]) -> None:
    text = "Ada Lovelace-Byron went to Berlin."
    cells = [(0, 12, "PER"), (4, 8, "PER"), (27, 33, "LOC"), (18, 19, "LOC"), (13, 16, "ORG")]
    row = {"text": text, "entities": [{"start": a, "end": b, "label": kind} for a, b, kind in cells]}
    module = data(tiny("bert"), [row] * 2, text_column_name="text", label_column_name="entities")
    words = ["Ada", "Lovelace", "-", "Byron", "went", "to", "Berlin", "."]
    tags = ["B-PER", "I-PER", "O", "B-ORG", "O", "O", "B-LOC", "O"]
    assert len(words) == len(tags)
    assert named(module, features(module)[0]) == tags
    assert any("of 10 entities 2 begin or end within a word" in note and "4 overlap" in note for note in module.notes)


def test_rows_without_words_and_words_of_nothing(tiny: Callable[..., str]) -> None:
    rows = [*ROWS[:4], {"tokens": [], "tags": []}, {"tokens": ["", "berlin", "\u200b"], "tags": ["O", "B-LOC", "O"]}]
    module = data(tiny("bert"), rows, on_bad_rows={"empty_text": "keep"})
    found = features(module)
    assert named(module, found[4]) == []
    assert named(module, found[5]) == ["O", "B-LOC", "O"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unequal": ({"rows": [*ROWS[:3], {"tokens": ["a", "b"], "tags": ["O"]}]}, "column 'tokens' has 2 words, but"),
    "untagged word": ({"rows": [{"tokens": ["a", "b"], "tags": ["O", None]}]}, r"no tag for word 2 \('b'\)"),
    "column": ({"label_column_name": "tag"}, r"no column 'tag'; columns: .* did you mean 'tags'"),
    "number": ({"label_column_name": 9}, r"has no column 9; its 4 columns"),
    "no tags": ({"rows": [{"tokens": ["a"], "tags": None}] * 2}, r"no row has tags"),
    "one tag": ({"rows": [{"tokens": ["a"], "tags": ["NN"]}] * 2}, r"one tag only"),
    "scheme": ({"tag_scheme": "IOB3"}, r"tag_scheme is 'IOB3'; schemes: IO, IOB1"),
    "plain scheme": ({"label_column_name": "parts", "tag_scheme": "IOB2"}, r"the tags are none of a scheme"),
    "stride": ({"max_seq_length": 16, "stride": 10}, r"stride 10 must be below half"),
    "room": ({"max_seq_length": 3}, r"max_seq_length 3 leaves no room"),
    "too long": ({"max_seq_length": 4096}, r"above the model's"),
    "span": (
        {"rows": [{"tokens": "a text", "tags": [{"start": 2, "end": 9, "label": "X"}]}]},
        r"characters 2 to 9 are not in the text",
    ),
    "no span": ({"rows": [{"tokens": "a text", "tags": [{"start": 2, "label": "X"}]}]}, r"no entity with `start`"),
    "unlabelled": ({"rows": [*ROWS[:3], {"tokens": ["a"], "tags": None}]}, r"1 of 4 rows have no label"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str, tiny: Callable[..., str]) -> None:
    options, message = WRONG[name]
    with pytest.raises(UserError, match=message):
        data(tiny("bert"), **options).setup("fit")


@pytest.mark.parametrize("scheme", [None, "BIOES"])
def test_an_unknown_tag_of_another_split(scheme: str | None, tiny: Callable[..., str]) -> None:
    other = [{**ROWS[0], "tags": ["B-GPE", *ROWS[0]["tags"][1:]]}]
    with pytest.raises(UserError, match=r"column 'tags': word 1 is tagged 'B-GPE', which is none of the tags"):
        data(tiny("bert"), {"train": ROWS, "validation": other}, tag_scheme=scheme).setup("fit")
    untagged = {**ROWS[2], "tags": None}  # no unknown tag
    rows = {"train": ROWS, "validation": [*other, ROWS[1], untagged]}
    module = data(tiny("bert"), rows, on_bad_rows={"unknown_label": "drop"}, tag_scheme=scheme)
    module.setup("fit")
    (found,) = module.features["validation"].values()
    assert len(found) == 2
    for at in range(2):
        assert np.array_equal(found[at]["input_ids"], features(module)[at + 1]["input_ids"])
    assert np.array_equal(found[0]["labels"], features(module)[1]["labels"])
    assert set(found[1]["labels"].tolist()) == {-100}
