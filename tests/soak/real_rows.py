"""Which real files each YAML of configs/ is run on: from a folder of public data sets, a few rows of each.

A function takes that folder and one to write into, and returns the words that put the rows in the place of the YAML's own.
YAMLs that are not here have no fitting rows there.
"""

import csv
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, Translation, Value
from datasets import Sequence as SequenceFeature

from tests.configs.running import read_config

Rows = list[dict[str, Any]]
Words = list[str]
SIZES = {"train": 48, "validation": 16, "test": 24}
NEWS = ["World", "Sports", "Business", "Sci/Tech"]
TAGS = ["O", *(f"{mark}-{kind}" for kind in ("LOC", "MISC", "ORG", "PER") for mark in "BI")]


def cut(rows: Any, start: int = 0) -> dict[str, Rows]:
    """The first rows, as splits that share none."""
    chosen = islice(iter(rows), start, None)
    return {name: list(islice(chosen, size)) for name, size in SIZES.items()}


def hub(folder: Path, parts: dict[str, Rows], features: Features | None = None) -> Words:
    """Saves splits as a data set of the hub is stored."""
    made = {name: Dataset.from_list(rows, features=features) for name, rows in parts.items()}
    DatasetDict(made).save_to_disk(folder)
    return [f"--data.dataset_name={folder}", "--data.dataset_config_name=null"]


def files(folder: Path, parts: dict[str, Rows], ending: str = "jsonl") -> Words:
    """Writes splits to files."""
    folder.mkdir(exist_ok=True)
    for name, rows in parts.items():
        with (folder / f"{name}.{ending}").open("w", newline="", encoding="utf-8") as file:
            if ending == "csv":
                table = csv.DictWriter(file, rows[0])
                table.writeheader()
                table.writerows(rows)
            else:
                file.writelines(json.dumps(row) + "\n" for row in rows)
    return [f"--data.{name}_file={folder / name}.{ending}" for name in parts]


def no_hub(words: Words) -> Words:
    """Files in the place of a data set by name."""
    return ["--data.dataset_name=null", "--data.dataset_config_name=null", *words]


def lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from (line.rstrip("\r\n") for line in file)


def tsv(path: Path, names: list[str] | None = None) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, names, delimiter="\t", quoting=csv.QUOTE_NONE)


def jsonl(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in lines(path) if line.strip())


def news(data: Path) -> Iterator[dict[str, Any]]:
    with (data / "ag_news/train_5000_text_label.csv").open(encoding="utf-8", newline="") as file:
        yield from ({"text": text, "label": int(label)} for text, label in csv.reader(file))


def ag_news(data: Path, folder: Path) -> Words:
    parts = cut(news(data))
    parts["train"] += parts.pop("validation")
    return [
        *hub(folder, parts, Features({"text": Value("string"), "label": ClassLabel(names=NEWS)})),
        "--data.validation_split_percentage=25",
    ]


def named_news(data: Path, folder: Path) -> Words:
    return files(folder, cut({**row, "label": NEWS[row["label"]]} for row in news(data)), "csv")


def paraphrases(data: Path) -> Iterator[tuple[int, str, str]]:
    for row in tsv(data / "mrpc/msr_paraphrase_train.txt"):
        yield int(row["Quality"]), row["#1 String"], row["#2 String"]


def mrpc(data: Path, folder: Path) -> Words:
    rows = ({"sentence1": a, "sentence2": b, "label": label, "idx": 0} for label, a, b in paraphrases(data))
    names = ClassLabel(names=["not_equivalent", "equivalent"])
    text = {"sentence1": Value("string"), "sentence2": Value("string")}
    return hub(folder, cut(rows), Features({**text, "label": names, "idx": Value("int32")}))


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
    parts = alike(data)
    for rows in parts.values():
        for row in rows:
            row["score"] = row.pop("label") / 5
    return hub(folder, parts)


def emotions(data: Path) -> Iterator[dict[str, Any]]:
    for row in tsv(data / "goemotions/train.tsv", ["text", "labels", "id"]):
        yield {**row, "labels": [int(number) for number in row["labels"].split(",")]}


def go_emotions(data: Path, folder: Path) -> Words:
    names = ClassLabel(names=[*lines(data / "goemotions/labels.txt")])
    features = Features({"text": Value("string"), "labels": SequenceFeature(names), "id": Value("string")})
    return hub(folder, cut(emotions(data)), features)


def moods(data: Path, folder: Path) -> Words:
    """SST-2's columns: comments of GoEmotions that admire (positive) or are angry or annoyed (negative)."""
    marked = {0: 1, 2: 0, 3: 0}
    rows = (
        {"sentence": row["text"], "label": marked[row["labels"][0]], "idx": 0}
        for row in emotions(data)
        if len(row["labels"]) == 1 and row["labels"][0] in marked
    )
    features = {"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"]), "idx": Value("int32")}
    return hub(folder, cut(rows), Features(features))


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
    return [*hub(folder, {"train": rows, "validation": rows, "test": rows}, features), "--data.dataset_revision=null"]


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


def few() -> Words:
    return ["--data.max_train_samples=48", "--data.max_eval_samples=16", "--data.max_predict_samples=16"]


def asked(data: Path, file: str) -> Iterator[dict[str, Any]]:
    """Rows of the hub's SQuAD out of its own JSON."""
    for article in json.loads((data / "squad" / file).read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for each in paragraph["qas"]:
                answers = {
                    "text": [answer["text"] for answer in each["answers"]],
                    "answer_start": [answer["answer_start"] for answer in each["answers"]],
                }
                yield {"id": str(each["id"]), "title": article.get("title", ""), "context": paragraph["context"],
                       "question": each["question"], "answers": answers}  # fmt: skip


def squad(data: Path, folder: Path, file: str = "nusnlp_dev_orig.json") -> Words:
    parts = cut(asked(data, file))
    del parts["test"]
    return hub(folder, parts)


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
    return hub(folder, cut(rows))


def arc(data: Path, folder: Path) -> Words:
    """CODAH in ARC's columns; every third row has three choices."""

    def made(at: int, row: dict[str, Any]) -> dict[str, Any]:
        names = [*("ABCD" if at % 2 else "1234")]
        right = int(row["label"])
        kept = [number for number in range(4) if at % 3 or number == right or number != (right + 1) % 4]
        texts, labels = [row[ENDINGS[number]] for number in kept], [names[number] for number in range(len(kept))]
        key = labels[kept.index(right)]
        return {"id": str(at), "question": row["prompt"], "choices": {"text": texts, "label": labels}, "answerKey": key}

    return hub(folder, cut(made(at, row) for at, row in enumerate(codah_rows(data))))


def two_choices(data: Path, folder: Path) -> Words:
    """CODAH in COPA's columns: the right ending and another one."""

    def made(at: int, row: dict[str, Any]) -> dict[str, Any]:
        right = int(row["label"])
        pair = [row[ENDINGS[right]], row[ENDINGS[(right + 1) % 4]]]
        first, second = pair if at % 2 else pair[::-1]
        return {"premise": row["prompt"], "question": "", "choice1": first, "choice2": second, "label": 1 - at % 2}

    return files(folder, cut(made(at, row) for at, row in enumerate(codah_rows(data))), "csv")


def swag(data: Path, folder: Path) -> Words:
    names = ["sent1", "sent2", *ENDINGS]
    with (data / "swag/allennlp_sample_swag.csv").open(encoding="utf-8", newline="") as file:
        train = [{name: row[name] for name in names} | {"label": int(row["label"])} for row in csv.DictReader(file)]
    held = [{name: row[name] for name in names} | {"label": row["label"]} for row in
            jsonl(data / "hf_tests_samples/swag/sample.json")]  # fmt: skip
    features = Features({**{name: Value("string") for name in names}, "label": ClassLabel(names=[*"0123"])})
    test = [{**row, "label": -1} for row in held]
    return hub(folder, {"train": train, "validation": held, "test": test}, features)


def shakespeare(data: Path, folder: Path) -> Words:
    """Three parts of a play, a document each."""
    folder.mkdir()
    text = (data / "tinyshakespeare/input.txt").read_text(encoding="utf-8")
    for name, start, size in (("train", 0, 90_000), ("validation", 100_000, 8_000), ("test", 120_000, 8_000)):
        (folder / f"{name}.txt").write_text(text[start : start + size], encoding="utf-8")
    return [f"--data.{name}_file={folder / name}.txt" for name in SIZES]


def wiki(data: Path) -> Rows:
    return [{"text": f" {line} \n"} for line in lines(data / "hf_tests_samples/wiki_text/wiki_00")]


def wikitext(data: Path, folder: Path) -> Words:
    rows = wiki(data)
    return hub(folder, {"train": rows[:170], "validation": rows[170:210], "test": rows[210:]})


def stream(data: Path, folder: Path) -> Words:
    """BBC's articles; nothing but a train split, as FineWeb has."""
    articles = [{"text": row["document"], "id": row["id"]} for row in jsonl(data / "xsum/xsum-1000.jsonl")]
    test = files(folder.with_name("held"), {"test": articles[300:312]})
    return [*hub(folder, {"train": articles[:300]}), *test, "--data.max_eval_samples=12"]


def code(data: Path, folder: Path) -> Words:
    rows = json.loads((data / "alpaca/code_alpaca_2k.json").read_text(encoding="utf-8"))
    pieces = [{"content": row["output"], "path": "x"} for row in rows if len(row["output"]) > 80]
    tokens = json.dumps(["<fim_prefix>", "<fim_middle>", "<fim_suffix>"])
    words = [*hub(folder, {"train": pieces[:200]}), *files(folder.with_name("held"), {"test": pieces[200:220]})]
    return [*words, "--data.validation_split_percentage=10", f"--model.add_tokens={tokens}"]


def mixture(data: Path, folder: Path) -> Words:
    """Speeches of Shakespeare's and lines of Wikipedia in the place of stories and Wikipedia."""
    speeches = (data / "tinyshakespeare/input.txt").read_text(encoding="utf-8")[:60_000].split("\n\n")
    splits = {"stories": [{"text": text} for text in speeches], "wiki": wiki(data)}
    sources = read_config("causal_lm/mixture")["data"]["init_args"]["sources"]
    for name, rows in splits.items():
        hub(folder / name, {"train": rows[:-40], "validation": rows[-40:]})
        sources[name] |= {"dataset_name": str(folder / name), "test_split_name": "validation"}
        sources[name].pop("dataset_config_name", None)
    return [f"--data.sources={json.dumps(sources)}"]


def sentences(data: Path, folder: Path) -> Words:
    """CoLA's columns, MRPC's sentences."""
    rows = ({"sentence": first, "label": label, "idx": 0} for label, first, _ in paraphrases(data))
    return hub(folder, cut(rows))


def news_texts(data: Path, folder: Path) -> Words:
    parts = cut(news(data))
    del parts["validation"]
    return hub(folder, parts)


def alpaca(data: Path) -> Rows:
    found = json.loads((data / "alpaca/alpaca_en_demo.json").read_text(encoding="utf-8"))
    return [{name: row[name] for name in ("instruction", "input", "output")} for row in found]


def pairs(data: Path) -> Rows:
    """Questions with two replies each, as messages."""
    roles = {"human": "user", "gpt": "assistant", "system": "system"}

    def said(each: dict[str, str]) -> dict[str, str]:
        return {"role": roles[each["from"]], "content": each["value"][:400]}

    found = json.loads((data / "preference_dpo/dpo_en_demo.json").read_text(encoding="utf-8"))
    return [
        {"prompt": [said(each) for each in row["conversations"]], "chosen": [said(row["chosen"])],
         "rejected": [said(row["rejected"])]}
        for row in found
    ]  # fmt: skip


def chats(data: Path, folder: Path) -> Words:
    rows = ({"messages": row["prompt"] + row["chosen"]} for row in pairs(data))
    parts = cut(rows)
    test = files(folder.with_name("held"), {"test": parts["test"]})
    return [*hub(folder, {"train": parts["train"], "test": parts["validation"]}), *test]


def sharegpt(data: Path, folder: Path) -> Words:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    rows = (
        {
            "conversations": [
                {"from": names[each["role"]], "value": each["content"]} for each in row["prompt"] + row["chosen"]
            ]
        }
        for row in pairs(data)
    )
    parts = cut(rows)
    parts["train"] += parts.pop("validation")
    return [*files(folder, parts), "--data.validation_split_percentage=20"]


def alpaca_hub(data: Path, folder: Path) -> Words:
    parts = cut(alpaca(data))
    parts["train"] += parts.pop("validation")
    test = files(folder.with_name("held"), {"test": parts.pop("test")})
    return [*hub(folder, parts), *test, "--data.validation_split_percentage=20"]


def ultrafeedback(data: Path, folder: Path) -> Words:
    rows = (
        {"prompt": row["prompt"][-1]["content"], **{side: row["prompt"] + row[side] for side in ("chosen", "rejected")}}
        for row in pairs(data)
    )
    parts = cut(rows)
    test = files(folder.with_name("held"), {"test": parts["test"]})
    return [*hub(folder, {"train_prefs": parts["train"], "test_prefs": parts["validation"]}), *test]


def judged(data: Path, folder: Path) -> Words:
    rows = (
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for at, row in enumerate(pairs(data))
        for side in ("chosen", "rejected")
        if (at % 3 or side == "chosen")
    )
    parts = cut(rows)
    test = files(folder.with_name("held"), {"test": parts["test"]})
    return [*hub(folder, {"train": parts["train"], "test": parts["validation"]}), *test]


def triplets(data: Path, folder: Path) -> Words:
    """Paraphrases of MRPC, and a sentence of another row."""
    good = [(first, second) for label, first, second in paraphrases(data) if label]
    rows = ({"anchor": one, "positive": two, "negative": good[at + 9][1]} for at, (one, two) in enumerate(good[:-9]))
    parts = cut(rows)
    words = hub(folder, {"train": parts["train"], "dev": parts["validation"], "test": parts["test"]})
    return [*words, "--model.matryoshka_dims=[384,128,64]"]


def passages(data: Path, folder: Path) -> Words:
    rows = ({"anchor": row["question"], "positive": row["context"]} for row in asked(data, "nusnlp_dev_orig.json"))
    return files(folder, cut(rows), "csv")


def summaries(data: Path, source: str, target: str) -> dict[str, Rows]:
    return cut({source: row["document"], target: row["summary"], "id": row["id"]} for row in
               jsonl(data / "xsum/xsum-1000.jsonl"))  # fmt: skip


def dialogsum(data: Path, folder: Path) -> Words:
    where = data / "dialogsum"
    dev, test = where / "dialogsum.dev.jsonl", where / "dialogsum.test.jsonl"
    return [f"--data.train_file={dev}", f"--data.validation_file={dev}", f"--data.test_file={test}", *few()]


def dialogues(data: Path, folder: Path) -> Words:
    rows = jsonl(data / "dialogsum/dialogsum.dev.jsonl")
    return hub(
        folder, cut({"id": row["fname"], "dialogue": row["dialogue"], "summary": row["summary"]} for row in rows)
    )


def german(data: Path) -> Iterator[tuple[str, str]]:
    return zip(lines(data / "multi30k_en_de/train.en"), lines(data / "multi30k_en_de/train.de"), strict=True)


def multi30k(data: Path, folder: Path) -> Words:
    return [*hub(folder, cut({"en": one, "de": two} for one, two in german(data))),
            "--data.train_tokenizer.vocab_size=600"]  # fmt: skip


def nested(data: Path, folder: Path, source: str = "de", target: str = "en", german_as: str = "de") -> Words:
    rows = ({"translation": {"en": one, german_as: two}} for one, two in german(data))
    return hub(folder, cut(rows), Features({"translation": Translation(languages=sorted((source, target)))}))


def romanian(data: Path, folder: Path) -> Words:
    where = data / "hf_tests_samples/wmt_en_ro"
    parts = {name: [*jsonl(where / f"{file}.json")] for name, file in
             {"train": "train", "validation": "val", "test": "test"}.items()}  # fmt: skip
    return hub(folder, parts, Features({"translation": Translation(languages=["en", "ro"])}))


def rephrased(data: Path, folder: Path) -> Words:
    parts = cut({"anchor": one, "positive": two} for label, one, two in paraphrases(data) if label)
    test = files(folder.with_name("held"), {"test": parts.pop("test")})
    parts["train"] += parts.pop("validation")
    return [*hub(folder, parts), *test, "--data.validation_split_percentage=20"]


def instructions(data: Path, folder: Path) -> Words:
    rows = ({"source": f"{row['instruction']} {row['input']}", "target": row["output"][:200]} for row in alpaca(data))
    return files(folder, cut(rows))


def labelled(data: Path, folder: Path) -> Words:
    parts = {"test": [{**row, "label": NEWS[row["label"]]} for row in islice(news(data), 24)]}
    parts["predict"] = [{"text": row["text"]} for row in parts["test"]]
    return [*files(folder, parts), f"--data.candidate_labels={json.dumps(NEWS)}"]


REAL: dict[str, Callable[[Path, Path], Words]] = {
    "causal_lm/code_fim": code,
    "causal_lm/files": shakespeare,
    "causal_lm/mixture": mixture,
    "causal_lm/streaming": stream,
    "causal_lm/wikitext2": wikitext,
    "instruction_tuning/alpaca": alpaca_hub,
    "instruction_tuning/files": lambda data, folder: files(folder, cut(alpaca(data))),
    "instruction_tuning/messages": chats,
    "instruction_tuning/qlora_gpu": chats,
    "instruction_tuning/sharegpt": sharegpt,
    "masked_lm/domain_adaptation": news_texts,
    "masked_lm/files": shakespeare,
    "masked_lm/line_by_line": sentences,
    "masked_lm/streaming": stream,
    "masked_lm/wikitext2": wikitext,
    "multiple_choice/arc": arc,
    "multiple_choice/codah": codah,
    "multiple_choice/files": two_choices,
    "multiple_choice/race": race,
    "multiple_choice/swag": swag,
    "preference/files": lambda data, folder: files(folder, cut(pairs(data))),
    "preference/kto": judged,
    "preference/reward": ultrafeedback,
    "preference/ultrafeedback": ultrafeedback,
    "question_answering/files": squad_files,
    "question_answering/squad": squad,
    "question_answering/squad_v2": lambda data, folder: squad(data, folder, "cs224n-dev-v2.0.json"),
    "sentence_embedding/all_nli": triplets,
    "sentence_embedding/files": passages,
    "sentence_embedding/stsb": scored,
    "summarization/cnn_dailymail": lambda data, folder: hub(folder, summaries(data, "article", "highlights")),
    "summarization/dialogsum": dialogsum,
    "summarization/files": lambda data, folder: files(folder, summaries(data, "text", "summary"), "csv"),
    "summarization/samsum": dialogues,
    "summarization/xsum": lambda data, folder: hub(folder, summaries(data, "document", "summary")),
    "text_classification/ag_news": ag_news,
    "text_classification/files": named_news,
    "text_classification/go_emotions": go_emotions,
    "text_classification/mrpc": mrpc,
    "text_classification/sst2": moods,
    "text_classification/stsb": lambda data, folder: hub(folder, alike(data)),
    "text_to_text/classification": moods,
    "text_to_text/files": instructions,
    "text_to_text/paraphrase": rephrased,
    "text_to_text/question_answering": squad,
    "token_classification/conll2003": conll2003,
    "token_classification/files": conll_files,
    "token_classification/germeval": germeval,
    "token_classification/ud_pos": ud_pos,
    "token_classification/wnut17": wnut,
    "translation/m2m100": lambda data, folder: nested(data, folder, "en", "ga", "ga"),
    "translation/multi30k": multi30k,
    "translation/opus": nested,
    "translation/wmt16_ro_en": romanian,
    "zero_shot/embeddings": labelled,
    "zero_shot/nli": labelled,
}
