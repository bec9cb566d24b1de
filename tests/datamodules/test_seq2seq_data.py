"""Seq2SeqDataModule, SummarizationDataModule, TranslationDataModule: batches as transformers' scripts make them."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq

from lit_ft import Seq2SeqDataModule, SummarizationDataModule, TranslationDataModule
from lit_ft.errors import UserError
from lit_ft.ops.building.seq2seq import decoder_inputs
from tests.pairs import FAMILIES, LANGUAGES, make_seq2seq, pair_rows

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    made: dict[str, str] = {}

    def make(family: str) -> str:
        if family not in made:
            made[family] = make_seq2seq(family, tmp_path_factory.mktemp(family))
        return made[family]

    return make


def as_the_script(
    folder: str, family: str, rows: Rows, prefix: str, lengths: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """run_translation's preprocess_function and collator, written out."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if family in LANGUAGES:
        tokenizer.src_lang, tokenizer.tgt_lang = LANGUAGES[family]
    inputs = tokenizer([prefix + row["source"] for row in rows], max_length=lengths[0], padding=False, truncation=True)
    labels = tokenizer(
        text_target=[row["target"] for row in rows], max_length=lengths[1], padding=False, truncation=True
    )
    inputs["labels"] = labels["input_ids"]
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    collate = DataCollatorForSeq2Seq(tokenizer, model=model, label_pad_token_id=-100)
    features = [
        {name: inputs[name][at] for name in ("input_ids", "attention_mask", "labels")} for at in range(len(rows))
    ]
    return dict(collate(features))


def set_up(data: Any, stage: str = "fit") -> Any:
    data.prepare_stage({"fit": ("train", "validation"), "test": ("test",), "predict": ("predict",)}[stage])
    data.setup(stage)
    return data


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_are_those_of_the_script(family: str, folder: Callable[[str], str]) -> None:
    rows, (source, target) = [*pair_rows(7), {"source": "a", "target": "A"}], LANGUAGES.get(family, ("en", "de"))
    options = {"max_source_length": 12, "max_target_length": 9, "source_prefix": "to capitals: "}
    data = set_up(
        Seq2SeqDataModule(
            model_name_or_path=folder(family), dataset={"train": rows}, validation_split_percentage=0, batch_size=8,
            train_sampling_strategy="sequential", source_lang=source, target_lang=target, **options,
        )
    )  # fmt: skip
    (found,) = data.train_dataloader()
    expected = as_the_script(folder(family), family, rows, "to capitals: ", (12, 9))
    for name in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(found[name], expected[name]), name
    model = AutoModelForSeq2SeqLM.from_pretrained(folder(family))
    if "decoder_input_ids" in expected:
        assert torch.equal(decoder_inputs(model, found["labels"]), expected["decoder_input_ids"])
    assert (found["labels"] == -100).any()


def test_padding_of_targets_may_count(folder: Callable[[str], str]) -> None:
    data = set_up(
        Seq2SeqDataModule(
            model_name_or_path=folder("t5"), dataset={"train": pair_rows(5)}, validation_split_percentage=0,
            batch_size=5, ignore_pad_token_for_loss=False, pad_to_max_length=True, max_source_length=40,
            max_target_length=20,
        )
    )  # fmt: skip
    batch = next(iter(data.train_dataloader()))
    assert batch["input_ids"].shape == (5, 40)
    assert batch["labels"].shape == (5, 20)
    assert not (batch["labels"] == -100).any()
    assert (batch["labels"] == data.tokenizer.pad_token_id).any()
    filler = data.collate([data.features["train"][""].store[0]] * 2, "train", [(0, 0), (0, -1)])
    assert (filler["labels"][1] == -100).all()
    assert not (filler["labels"][0] == -100).any()


def test_what_is_cut_is_counted(folder: Callable[[str], str], caplog: pytest.LogCaptureFixture) -> None:
    rows = pair_rows(6)
    tokenizer = AutoTokenizer.from_pretrained(folder("bart"))
    lengths = [
        (len(tokenizer(row["source"]).input_ids), len(tokenizer(text_target=row["target"]).input_ids)) for row in rows
    ]
    data = Seq2SeqDataModule(
        model_name_or_path=folder("bart"), dataset={"train": rows}, validation_split_percentage=0,
        max_source_length=10, max_target_length=5,
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "lit_ft"):
        set_up(data)
    lost = sum(max(source - 10, 0) + max(target - 5, 0) for source, target in lengths)
    assert lost > 0
    assert f"lose {lost} tokens" in caplog.text
    assert f"{sum(target > 5 for _, target in lengths)} targets are cut to max_target_length 5" in caplog.text


def test_rows_without_source_or_target_are_left_out_and_counted(folder: Callable[[str], str]) -> None:
    rows = [
        *pair_rows(4),
        {"source": None, "target": "A"},
        {"source": "b", "target": " "},
        {"source": "c", "target": None},
    ]
    data = set_up(
        Seq2SeqDataModule(
            model_name_or_path=folder("bart"), dataset={"train": rows, "validation": rows, "predict": rows},
            predict_split_name="predict",
        )
    )  # fmt: skip
    assert len(data.features["train"][""]) == len(data.features["validation"][""]) == 4
    train = data.report["sets"][0]["found"]
    assert (train["empty_text"]["dropped"], train["unlabelled"]["dropped"]) == (1, 2)
    assert len(set_up(data, "predict").features["predict"]["predict"]) == 7


def test_references_go_along_in_evaluation_and_the_first_is_trained_on(folder: Callable[[str], str]) -> None:
    train = [{"dialogue": row["source"], "summary": row["target"]} for row in pair_rows(6)]
    test = [
        {"dialogue": row["source"], "summary1": row["target"], "summary2": row["target"].lower(), "topic1": "x"}
        for row in pair_rows(3, 20)
    ]
    data = SummarizationDataModule(
        model_name_or_path=folder("bart"), dataset={"train": train, "test": test}, batch_size=3
    )
    set_up(data)
    set_up(data, "test")
    (batch,) = data.test_dataloader()[0]
    assert list(batch["info"]) == [{name: row[name] for name in ("summary1", "summary2")} for row in test]
    texts = data.tokenizer.batch_decode(batch["labels"].masked_fill(batch["labels"] < 0, 1), skip_special_tokens=True)
    assert texts == [row["summary1"] for row in test]

    listed = [{"document": row["source"], "summary": [row["target"], "B", row["target"]]} for row in pair_rows(5)]
    data = set_up(SummarizationDataModule(model_name_or_path=folder("bart"), dataset={"train": listed}))
    columns = data._columns
    assert columns.references({name: [row[name] for row in listed] for name in listed[0]})[0] == [
        listed[0]["summary"][0],
        "B",
    ]


@pytest.mark.parametrize(
    ("rows", "source", "target"),
    [
        ([{"translation": {"en": "a b", "ro": "c d"}}], "en_XX", "ro_RO"),
        ([{"en": "a b", "ro": "c d", "id": 1}], "en", "ro"),
        ([{"id": "7", "en_XX": "a b", "ro_RO": "c d"}], "en_XX", "ro_RO"),
    ],
)
def test_columns_of_translations(rows: Rows, source: str, target: str, folder: Callable[[str], str]) -> None:
    data = TranslationDataModule(
        model_name_or_path=folder("bart"), dataset={"train": rows * 3, "predict": rows}, source_lang=source,
        target_lang=target, validation_split_percentage=0, predict_split_name="predict",
        on_bad_rows={"duplicate": "keep"},
    )  # fmt: skip
    set_up(data)
    feature = data.features["train"][""].store[0]
    assert data.tokenizer.decode(feature["input_ids"], skip_special_tokens=True) == "a b"
    assert data.tokenizer.decode(feature["target_ids"], skip_special_tokens=True) == "c d"
    assert len(set_up(data, "predict").features["predict"]["predict"]) == 1


def parallel(folder: Path, name: str, rows: Rows, endings: tuple[str, str] = ("en", "de")) -> list[str]:
    paths = [folder / f"{name}.{ending}" for ending in endings]
    for path, column in zip(paths, ("source", "target"), strict=True):
        path.write_text("".join(row[column] + "\n" for row in rows), encoding="utf-8")
    return [str(path) for path in paths]


def test_parallel_files_from_scratch(tmp_path: Path) -> None:
    train, validation = parallel(tmp_path, "train", pair_rows(40)), parallel(tmp_path, "val", pair_rows(6, 50))
    data = TranslationDataModule(
        train_file=train[::-1], validation_file=validation, predict_file=validation[0], source_lang="en",
        target_lang="de", train_tokenizer={"vocab_size": 300},
    )  # fmt: skip
    set_up(data)
    assert len(data.tokenizer) <= 300
    features = data.features["train"][""]
    assert len(features) == 40
    decoded = [
        data.tokenizer.decode(features.store[3][name], skip_special_tokens=True) for name in ("input_ids", "target_ids")
    ]
    assert decoded == list(pair_rows(40)[3].values())
    set_up(data, "predict")
    assert data.features["predict"]["val"].info[2] == {"en": pair_rows(6, 50)[2]["source"]}


def test_a_tokenizer_learns_of_all_files_of_a_stream(tmp_path: Path) -> None:
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for file, word in zip(files, ("quixotry", "zyzzyva"), strict=True):
        file.write_text(f'{{"source": "{word} {word}", "target": "{word}"}}\n' * 20)
    options = {"train_file": [str(file) for file in files], "train_tokenizer": {"vocab_size": 320}, "streaming": True}
    tokenizer = Seq2SeqDataModule(**options).tokenizer
    assert [len(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in ("quixotry", "zyzzyva")] == [1, 1]


def test_a_tokenizer_of_a_stream_learns_names_of_labels_and_no_row_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = Features({"source": Value("string"), "target": ClassLabel(names=["politics", "sports"])})
    rows = [{"source": f"row {number}", "target": number % 2} for number in range(200)]
    options = {"dataset": Dataset.from_list(rows, kinds), "streaming": True, "train_tokenizer": {"vocab_size": 300}}
    data = Seq2SeqDataModule(validation_split_percentage=20, **options)
    texts = [text for batch in data.training_texts() for text in batch]
    learned = {text for text in texts if text.startswith("row ")}
    with data.scratch():
        (held_out,) = data.load_rows("validation").values()
    assert learned == {row["source"] for row in rows} - {*held_out.data["source"]}
    assert 100 < len(learned) < 190
    assert {*texts} - learned == {"politics", "sports"}


def test_max_tokens_per_batch_counts_both_sides_padded(folder: Callable[[str], str]) -> None:
    data = set_up(
        Seq2SeqDataModule(
            model_name_or_path=folder("bart"), dataset={"train": pair_rows(60)}, validation_split_percentage=0,
            max_tokens_per_batch=300,
        )
    )  # fmt: skip
    sizes, rows = [], 0
    for batch in data.train_dataloader():
        sizes.append(batch["input_ids"].numel() + batch["labels"].numel())
        rows += len(batch["input_ids"])
    assert rows == 60
    assert max(sizes) <= 300
    assert np.mean(sizes[:-1]) > 200
    store = data.features["train"][""].store
    assert (store.widths() == store.lengths() + store.lengths("target_ids")).all()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"source_column_name": "sorce"}, "no column 'sorce'.*did you mean 'source'"),
    ({"source_column_name": "source", "target_column_names": "targt"}, "no column 'targt'.*did you mean 'target'"),
    ({"max_source_length": 0}, "max_source_length is 0"),
    ({"forced_bos_token": "de_XX"}, "forced_bos_token: the tokenizer has no token 'de_XX'"),
    ({"max_tokens_per_batch": 9}, "max_tokens_per_batch is 9.*max_source_length and max_target_length"),
    ({"train_tokenizer": {"vocab_size": 300}}, "train_tokenizer makes tokens of its own"),
]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tokenizer_name": "one"}, "makes a tokenizer, tokenizer_name is for one that is loaded: leave one out"),
        (
            {"tokenizer_kwargs": {"do_lower_case": True}},
            "makes a tokenizer, tokenizer_kwargs is for one that is loaded",
        ),
        ({"use_fast_tokenizer": False}, "makes a fast tokenizer: leave use_fast_tokenizer: false out"),
    ],
    ids=str,
)
def test_options_of_a_loaded_tokenizer_beside_a_trained_one(asked: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"train_tokenizer {message}"):
        Seq2SeqDataModule(dataset={"train": pair_rows(9)}, train_tokenizer={"vocab_size": 300}, **asked)


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(options) for options, _ in BAD])
def test_bad_options(options: dict[str, Any], message: str, folder: Callable[[str], str]) -> None:
    with pytest.raises(UserError, match=message):
        set_up(Seq2SeqDataModule(model_name_or_path=folder("bart"), dataset={"train": pair_rows(9)}, **options))


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("mbart50", {"source_lang": "en_XX", "target_lang": "de_AT"}, "target_lang: .* no .* 'de_AT'; it has de_DE"),
        ("nllb", {"source_lang": "en", "target_lang": "deu_Latn"}, "source_lang: .* no language 'en'; it has eng_Latn"),
        ("mbart", {"source_lang": "en_XX"}, "translation needs target_lang"),
        ("bart", {"source_lang": "en", "target_lang": "fr"}, "which column is the source"),
    ],
)  # fmt: skip
def test_languages_that_are_not_there(
    family: str, options: dict[str, Any], message: str, folder: Callable[[str], str]
) -> None:
    rows = [{"one": "a", "two": "b", "three": "c"}] * 3
    with pytest.raises(UserError, match=message):
        set_up(TranslationDataModule(model_name_or_path=folder(family), dataset={"train": rows}, **options))


def test_a_multilingual_tokenizer_needs_a_language_for_summaries(folder: Callable[[str], str]) -> None:
    with pytest.raises(UserError, match="the tokenizer is multilingual: set lang"):
        set_up(SummarizationDataModule(model_name_or_path=folder("mbart"), dataset={"train": pair_rows(4)}))
    data = SummarizationDataModule(model_name_or_path=folder("mbart"), dataset={"train": pair_rows(4)}, lang="de_DE")
    set_up(data)
    assert data.tokenizer.init_kwargs["src_lang"] == data.tokenizer.init_kwargs["tgt_lang"] == "de_DE"


def test_t5_is_told_of_a_missing_prefix(folder: Callable[[str], str], caplog: pytest.LogCaptureFixture) -> None:
    for prefix, said in ((None, True), ("", False), ("summarize: ", False)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "lit_ft"):
            set_up(
                Seq2SeqDataModule(
                    model_name_or_path=folder("t5"), dataset={"train": pair_rows(4)}, source_prefix=prefix
                )
            )
        assert ("set source_prefix" in caplog.text) is said, prefix


def test_columns_in_files_of_json(tmp_path: Path, folder: Callable[[str], str]) -> None:
    path = tmp_path / "train.json"
    rows = [{"translation": {"en": row["source"], "ro": row["target"]}} for row in pair_rows(6)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = TranslationDataModule(
        model_name_or_path=folder("bart"), train_file=str(path), source_lang="en", target_lang="ro",
        validation_split_percentage=20,
    )  # fmt: skip
    set_up(data)
    assert len(data.features["train"][""]) == 5
    (batch,) = data.val_dataloader()[0]
    assert list(batch["info"][0]) == ["translation"]
