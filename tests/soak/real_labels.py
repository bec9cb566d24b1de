"""Real rows with labels, tags, answers and choices, as the YAMLs of configs/ want them."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Features, Value
from datasets import Sequence as SequenceFeature

from tests.rows_on_disk import saved, written
from tests.soak.real_files import (
    NEWS,
    SIZES,
    Rows,
    Words,
    asked,
    cut,
    few,
    jsonl,
    lines,
    news,
    no_hub,
    paraphrases,
    tsv,
)

TAGS = ["O", *(f"{mark}-{kind}" for kind in ("LOC", "MISC", "ORG", "PER") for mark in "BI")]


def ag_news(data: Path, folder: Path) -> Words:
    parts = cut(news(data))
    parts["train"] += parts.pop("validation")
    return [
        *saved(folder, parts, Features({"text": Value("string"), "label": ClassLabel(names=NEWS)})),
        "--data.validation_split_percentage=25",
    ]


def named_news(data: Path, folder: Path) -> Words:
    return written(folder, cut({**row, "label": NEWS[row["label"]]} for row in news(data)), "csv")


def mrpc(data: Path, folder: Path) -> Words:
    rows = ({"sentence1": a, "sentence2": b, "label": label, "idx": 0} for label, a, b in paraphrases(data))
    names = ClassLabel(names=["not_equivalent", "equivalent"])
    text = {"sentence1": Value("string"), "sentence2": Value("string")}
    return saved(folder, cut(rows), Features({**text, "label": names, "idx": Value("int32")}))


def alike(data: Path) -> dict[str, Rows]:
    """STS-B's columns that are asked for; the samples have ten rows each."""
    found = {
        name: [
            {"sentence1": row["sentence1"], "sentence2": row["sentence2"], "label": float(row["score"])}
            for row in tsv(data / f"hf_tests_samples/STS-B/{file}.tsv")
        ]
        for name, file in {"train": "train", "validation": "dev"}.items()
    }
    return {**found, "test": found["validation"]}


def scored(data: Path, folder: Path) -> Words:
    found = alike(data).items()
    return saved(folder, {name: [{**row, "score": row["label"] / 5} for row in rows] for name, rows in found})


def emotions(data: Path) -> Iterator[dict[str, Any]]:
    for row in tsv(data / "goemotions/train.tsv", ["text", "labels", "id"]):
        yield {**row, "labels": [int(number) for number in row["labels"].split(",")]}


def go_emotions(data: Path, folder: Path) -> Words:
    names = ClassLabel(names=[*lines(data / "goemotions/labels.txt")])
    features = Features({"text": Value("string"), "labels": SequenceFeature(names), "id": Value("string")})
    return saved(folder, cut(emotions(data)), features)


def moods(data: Path, folder: Path) -> Words:
    """SST-2's columns: comments of GoEmotions that admire (positive) or are angry or annoyed (negative)."""
    marked = {0: 1, 2: 0, 3: 0}
    rows = (
        {"sentence": row["text"], "label": marked[row["labels"][0]], "idx": 0}
        for row in emotions(data)
        if len(row["labels"]) == 1 and row["labels"][0] in marked
    )
    features = {"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"]), "idx": Value("int32")}
    return saved(folder, cut(rows), Features(features))


def tagged(data: Path, file: str) -> Iterator[dict[str, Any]]:
    """Sentences of CoNLL-2003 with IOB2 tags."""
    sentence: list[list[str]] = []
    for line in lines(data / "conll2003" / file):
        if line.strip() and not line.startswith("-DOCSTART-"):
            sentence.append(line.split())
        elif sentence:
            columns = [list(column) for column in zip(*sentence, strict=True)]
            yield {"tokens": columns[0], "upos": columns[1], "ner_tags": columns[3]}
            sentence = []


def conll_files(data: Path, folder: Path) -> Words:
    """The original files, by links: the ending says how they are read."""
    folder.mkdir()
    parts = {"train": "eng.train", "validation": "eng.testa", "test": "eng.testb"}
    for name, file in parts.items():
        (folder / f"{name}.conll").symlink_to(data / "conll2003" / file)
    words = [f"--data.{name}_file={folder / name}.conll" for name in parts]
    return [*words, *few(), "--data.tag_scheme=IOB2"]


def conll2003(data: Path, folder: Path) -> Words:
    """As the YAML's comment says; the last column has no name of its own."""
    return no_hub([*conll_files(data, folder), "--data.dataset_revision=null", "--data.label_column_name=-1"])


def wnut(data: Path, folder: Path) -> Words:
    """The hub's kind of rows: words, and ids of tags; those of CoNLL-2003's samples in transformers' tests are IOB2."""
    rows = [
        {"tokens": row["words"], "ner_tags": row["ner"]} for row in jsonl(data / "hf_tests_samples/conll/sample.json")
    ]
    rows = [{**row, "ner_tags": [TAGS.index(tag) for tag in row["ner_tags"]]} for row in rows]
    features = Features(
        {"tokens": SequenceFeature(Value("string")), "ner_tags": SequenceFeature(ClassLabel(names=TAGS))}
    )
    return [*saved(folder, {"train": rows, "validation": rows, "test": rows}, features), "--data.dataset_revision=null"]


def ud_pos(data: Path, folder: Path) -> Words:
    """CoNLL-2003's parts of speech in CoNLL-U's columns."""
    folder.mkdir()
    parts = cut(tagged(data, "eng.train"))
    for name, rows in parts.items():
        with (folder / f"{name}.conllu").open("w", encoding="utf-8") as file:
            for row in rows:
                for at, (word, tag) in enumerate(zip(row["tokens"], row["upos"], strict=True), 1):
                    file.write("\t".join([str(at), word, "_", tag, *["_"] * 6]) + "\n")
                file.write("\n")
    return [f"--data.{name}_file={folder / name}.conllu" for name in parts]


def germeval(data: Path, folder: Path) -> Words:
    where = data / "germeval2014"
    train, test = where / "NER-de-dev.tsv", where / "NER-de-test.tsv"
    return [f"--data.train_file={train}", f"--data.validation_file={test}", f"--data.test_file={test}", *few()]


def squad(data: Path, folder: Path, file: str = "nusnlp_dev_orig.json") -> Words:
    parts = cut(asked(data, file))
    del parts["test"]
    return saved(folder, parts)


def squad_files(data: Path, folder: Path) -> Words:
    path = data / "squad/nusnlp_dev_orig.json"
    return [*(f"--data.{name}_file={path}" for name in SIZES), *few()]


ENDINGS = ["ending0", "ending1", "ending2", "ending3"]


def codah_rows(data: Path) -> Iterator[dict[str, Any]]:
    return tsv(data / "codah/full_data.tsv", ["category", "prompt", *ENDINGS, "label"])


def codah(data: Path, folder: Path) -> Words:
    names = {"train": "train", "validation": "dev", "test": "test"}
    return [*(f"--data.{name}_file={data / 'codah'}/fold_0_{part}.tsv" for name, part in names.items()), *few()]


def race(data: Path, folder: Path) -> Words:
    """CODAH in RACE's columns."""
    rows = (
        {"example_id": str(at), "article": row["prompt"], "question": "_", "options": [row[name] for name in ENDINGS],
         "answer": "ABCD"[int(row["label"])]}
        for at, row in enumerate(codah_rows(data))
    )  # fmt: skip
    return saved(folder, cut(rows))


def arc(data: Path, folder: Path) -> Words:
    """CODAH in ARC's columns; every third row has three choices."""

    def made(at: int, row: dict[str, Any]) -> dict[str, Any]:
        names = [*("ABCD" if at % 2 else "1234")]
        right = int(row["label"])
        kept = [number for number in range(4) if at % 3 or number == right or number != (right + 1) % 4]
        texts, labels = [row[ENDINGS[number]] for number in kept], [names[number] for number in range(len(kept))]
        key = labels[kept.index(right)]
        return {"id": str(at), "question": row["prompt"], "choices": {"text": texts, "label": labels}, "answerKey": key}

    return saved(folder, cut(made(at, row) for at, row in enumerate(codah_rows(data))))


def two_choices(data: Path, folder: Path) -> Words:
    """CODAH in COPA's columns: the right ending and another one."""

    def made(at: int, row: dict[str, Any]) -> dict[str, Any]:
        right = int(row["label"])
        pair = [row[ENDINGS[right]], row[ENDINGS[(right + 1) % 4]]]
        first, second = pair if at % 2 else pair[::-1]
        return {"premise": row["prompt"], "question": "", "choice1": first, "choice2": second, "label": 1 - at % 2}

    return written(folder, cut(made(at, row) for at, row in enumerate(codah_rows(data))), "csv")


def swag(data: Path, folder: Path) -> Words:
    names = ["sent1", "sent2", *ENDINGS]
    with (data / "swag/allennlp_sample_swag.csv").open(encoding="utf-8", newline="") as file:
        train = [{name: row[name] for name in names} | {"label": int(row["label"])} for row in csv.DictReader(file)]
    held = [{name: row[name] for name in names} | {"label": row["label"]} for row in
            jsonl(data / "hf_tests_samples/swag/sample.json")]  # fmt: skip
    features = Features({**{name: Value("string") for name in names}, "label": ClassLabel(names=[*"0123"])})
    test = [{**row, "label": -1} for row in held]
    return saved(folder, {"train": train, "validation": held, "test": test}, features)
