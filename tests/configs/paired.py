"""Tiny local rows with the columns and features of each sequence to sequence YAML's own data set, or its own files."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Features, Translation, Value
from datasets import Sequence as SequenceFeature

from tests.configs.running import read_config
from tests.pairs import pair_rows
from tests.rows_on_disk import saved, written
from tests.tiny import SAMPLE

SPLITS = {"train": (0, 24), "validation": (60, 6), "test": (80, 6)}
Rows = list[dict[str, Any]]


@dataclass
class LocalPairs:
    """What a YAML is run on.

    Attributes:
        family: of the tiny model in the place of the YAML's own; `None` where it trains from scratch.
        overrides: options that put the local rows in the place of the YAML's own.
        test: the rows that are tested.
        source: what a model reads of a row.
        references: all targets of a row.
        predict: the rows that are predicted, under the name that stands first.
    """

    family: str | None
    overrides: list[str]
    test: Rows
    source: Callable[[dict[str, Any]], str]
    references: Callable[[dict[str, Any]], list[str]]
    predict: tuple[str, Rows]


def splits(make: Callable[[str, str, int], dict[str, Any]]) -> dict[str, Rows]:
    """Rows of each split, by what makes one of source, target and number."""
    made = {}
    for name, (start, count) in SPLITS.items():
        pairs = [(pair["source"], " ".join(pair["target"].split()[:2])) for pair in pair_rows(count, start)]
        made[name] = [make(source, target, number) for number, (source, target) in enumerate(pairs)]
    return made


def columns(
    family: str, words: list[str], parts: dict[str, Rows], source: str, target: str, prefix: str = ""
) -> LocalPairs:
    """Two columns of text."""
    test = parts["test"]
    return LocalPairs(family, words, test, lambda row: prefix + row[source], lambda row: [row[target]], ("test", test))


def prefix_of(name: str) -> str:
    """What a YAML puts before its sources."""
    return str(read_config(name)["data"]["init_args"]["source_prefix"])


def xsum(folder: Path) -> LocalPairs:
    parts = splits(lambda source, target, at: {"document": source, "summary": target, "id": str(at)})
    return columns("bart", saved(folder, parts), parts, "document", "summary")


def cnn_dailymail(folder: Path) -> LocalPairs:
    """Highlights are sentences, a line each."""
    parts = splits(lambda source, target, at: {"article": source, "highlights": f"{target}\nSo.", "id": str(at)})
    prefix = prefix_of("summarization/cnn_dailymail")
    return columns("t5", saved(folder, parts), parts, "article", "highlights", prefix)


def samsum(folder: Path) -> LocalPairs:
    """Turns end in Windows' way."""
    parts = splits(lambda source, target, at: {"id": str(at), "dialogue": f"A: {source}\r\nB: ok", "summary": target})
    return columns("bart", saved(folder, parts), parts, "dialogue", "summary")


def dialogsum(folder: Path) -> LocalPairs:
    """Its own files; each dialogue of the test set has three summaries."""

    def make(source: str, target: str, at: int) -> dict[str, Any]:
        return {"fname": f"f_{at}", "dialogue": f"#Person1#: {source}", "summary": target, "topic": "x"}

    parts = splits(make)
    for row in parts["test"]:
        first = row.pop("summary")
        row |= {"summary1": first, "summary2": first.lower(), "summary3": f"{first} so", "topic1": row.pop("topic")}
    test, prefix = parts["test"], prefix_of("summarization/dialogsum")
    return LocalPairs(
        "t5",
        written(folder, parts, "jsonl"),
        test,
        lambda row: prefix + row["dialogue"],
        lambda row: [row[f"summary{number}"] for number in (1, 2, 3)],
        ("test", test),
    )


def summaries(folder: Path) -> LocalPairs:
    parts = splits(lambda source, target, at: {"text": source, "summary": target})
    return columns("bart", written(folder, parts, "csv"), parts, "text", "summary")


def nested(family: str, folder: Path, source: str, target: str, prefix: str = "") -> LocalPairs:
    """A column of dicts by language, as the hub's translation data sets have it."""
    parts = splits(lambda first, second, at: {"translation": {source: first, target: second}})
    features = Features({"translation": Translation(languages=sorted((source, target)))})
    test = parts["test"]
    return LocalPairs(
        family,
        saved(folder, parts, features),
        test,
        lambda row: prefix + row["translation"][source],
        lambda row: [row["translation"][target]],
        ("test", test),
    )


def m2m100(folder: Path) -> LocalPairs:
    """The tiny tokenizer of such a model knows mBART-50's codes; the columns are called as OPUS calls them."""
    local = nested("mbart50", folder, "en", "ga")
    local.overrides += ["--data.source_lang=en_XX", "--data.target_lang=de_DE"]
    local.overrides += ["--data.source_column_name=en", "--data.target_column_names=ga"]
    return local


def multi30k(folder: Path) -> LocalPairs:
    """Two columns; the YAML's own model, a smaller one, and a tokenizer of these few rows."""
    parts = splits(lambda source, target, at: {"en": source, "de": target})
    words = saved(folder, parts)[:1]
    sizes = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    words += [f"--model.config_overrides.{name}={size}" for name, size in sizes.items()]
    local = columns("bart", [*words, "--data.train_tokenizer.vocab_size=400"], parts, "en", "de")
    local.family = None
    return local


def phrases(folder: Path) -> LocalPairs:
    """The YAML's own files to train on; the first lines of those to validate on to test and to predict."""
    folder.mkdir()
    paths, lines = [], []
    for language in ("en", "de"):
        whole = (SAMPLE / f"phrases_validation.{language}").read_text(encoding="utf-8").splitlines()
        lines.append(whole[:8])
        paths.append(str(folder / f"first.{language}"))
        Path(paths[-1]).write_text("\n".join(whole[:8]) + "\n", encoding="utf-8")
    words = [f"--data.test_file={json.dumps(paths)}", f"--data.predict_file={paths[0]}"]
    words += ["--trainer.limit_train_batches=8", "--trainer.limit_val_batches=1"]
    test = [{"en": first, "de": second} for first, second in zip(*lines, strict=True)]
    sources = [{"en": row["en"]} for row in test]
    return LocalPairs(None, words, test, lambda row: row["en"], lambda row: [row["de"]], ("first", sources))


def texts(folder: Path) -> LocalPairs:
    parts = splits(lambda source, target, at: {"source": source, "target": target})
    return columns("t5", written(folder, parts, "jsonl"), parts, "source", "target")


def squad(folder: Path) -> LocalPairs:
    """Answers are dicts of lists; SQuAD has no test split."""

    def make(source: str, target: str, at: int) -> dict[str, Any]:
        answers = {"text": [target, target.lower()][: 1 + at % 2], "answer_start": [0, 0][: 1 + at % 2]}
        return {"id": str(at), "title": "x", "context": source, "question": source.split()[0], "answers": answers}

    parts = splits(make)
    test = parts["validation"]
    del parts["test"]
    return LocalPairs(
        "t5",
        saved(folder, parts),
        test,
        lambda row: f"question: {row['question']} context: {row['context']}",
        lambda row: list(row["answers"]["text"]),
        ("validation", test),
    )


def sst2(folder: Path) -> LocalPairs:
    """Labels by number; those of the test split are -1."""
    names, prefix = ["negative", "positive"], prefix_of("text_to_text/classification")
    parts = splits(lambda source, target, at: {"sentence": source, "label": at % 2, "idx": at})
    for row in parts["test"]:
        row["label"] = -1
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=names), "idx": Value("int32")})
    return LocalPairs(
        "t5",
        saved(folder, parts, features),
        parts["validation"],
        lambda row: prefix + row["sentence"],
        lambda row: [names[row["label"]]],
        ("test", parts["test"]),
    )


def duplicates(folder: Path) -> LocalPairs:
    """One split; the rows to test are a file of our own."""
    parts = splits(lambda source, target, at: {"anchor": source, "positive": target})
    words = saved(folder, {"train": parts["train"]})
    words += written(folder.with_name("test"), {"test": parts["test"]}, "jsonl")
    words += ["--data.validation_split_percentage=20"]
    return columns("t5", words, parts, "anchor", "positive", prefix_of("text_to_text/paraphrase"))


def jfleg(folder: Path) -> LocalPairs:
    """Four corrections of each sentence; what is trained on is called validation."""
    parts = splits(lambda source, target, at: {"sentence": source, "corrections": [target, source, target, "no"]})
    features = Features({"sentence": Value("string"), "corrections": SequenceFeature(Value("string"))})
    test, prefix = parts["test"], prefix_of("text_to_text/grammar_correction")
    words = saved(folder, {"validation": parts["train"], "test": test}, features)
    return LocalPairs(
        "t5", words, test, lambda row: prefix + row["sentence"], lambda row: row["corrections"], ("test", test)
    )


PAIRED: dict[str, Callable[[Path], LocalPairs]] = {
    "summarization/xsum": xsum,
    "summarization/cnn_dailymail": cnn_dailymail,
    "summarization/samsum": samsum,
    "summarization/dialogsum": dialogsum,
    "summarization/files": summaries,
    "translation/wmt16_ro_en": lambda folder: nested("t5", folder, "en", "ro", prefix_of("translation/wmt16_ro_en")),
    "translation/opus": lambda folder: nested("marian", folder, "de", "en"),
    "translation/multi30k": multi30k,
    "translation/parallel_files": phrases,
    "translation/m2m100": m2m100,
    "text_to_text/files": texts,
    "text_to_text/question_answering": squad,
    "text_to_text/classification": sst2,
    "text_to_text/paraphrase": duplicates,
    "text_to_text/grammar_correction": jfleg,
}
