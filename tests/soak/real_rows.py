"""Which real files each YAML of configs/ is run on: a few rows of each, from a folder of public data sets.

A function takes that folder and one to write into, and returns the words that put the rows in the place of the YAML's
own. YAMLs that are not here have no fitting rows there.
"""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from datasets import Features, Translation

from tests.configs.running import read_config
from tests.rows_on_disk import saved, written
from tests.soak.real_files import NEWS, SIZES, Rows, Words, asked, cut, few, jsonl, lines, news, paraphrases
from tests.soak.real_labels import (
    ag_news,
    alike,
    arc,
    codah,
    conll2003,
    conll_files,
    germeval,
    go_emotions,
    moods,
    mrpc,
    named_news,
    race,
    scored,
    squad,
    squad_files,
    swag,
    two_choices,
    ud_pos,
    wnut,
)


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
    return saved(folder, {"train": rows[:170], "validation": rows[170:210], "test": rows[210:]})


def stream(data: Path, folder: Path) -> Words:
    """BBC's articles; nothing but a train split, as FineWeb has."""
    articles = [{"text": row["document"], "id": row["id"]} for row in jsonl(data / "xsum/xsum-1000.jsonl")]
    test = written(folder.with_name("held"), {"test": articles[300:312]})
    return [*saved(folder, {"train": articles[:300]}), *test, "--data.max_eval_samples=12"]


def code(data: Path, folder: Path) -> Words:
    rows = json.loads((data / "alpaca/code_alpaca_2k.json").read_text(encoding="utf-8"))
    pieces = [{"content": row["output"], "path": "x"} for row in rows if len(row["output"]) > 80]
    tokens = json.dumps(["<fim_prefix>", "<fim_middle>", "<fim_suffix>"])
    words = [*saved(folder, {"train": pieces[:200]}), *written(folder.with_name("held"), {"test": pieces[200:220]})]
    return [*words, "--data.validation_split_percentage=10", f"--model.add_tokens={tokens}"]


def mixture(data: Path, folder: Path) -> Words:
    """Speeches of Shakespeare's and lines of Wikipedia in the place of stories and Wikipedia."""
    speeches = (data / "tinyshakespeare/input.txt").read_text(encoding="utf-8")[:60_000].split("\n\n")
    splits = {"stories": [{"text": text} for text in speeches], "wiki": wiki(data)}
    sources = read_config("causal_lm/mixture")["data"]["init_args"]["sources"]
    for name, rows in splits.items():
        saved(folder / name, {"train": rows[:-40], "validation": rows[-40:]})
        sources[name] |= {"dataset_name": str(folder / name), "test_split_name": "validation"}
        sources[name].pop("dataset_config_name", None)
    return [f"--data.sources={json.dumps(sources)}"]


def sentences(data: Path, folder: Path) -> Words:
    """CoLA's columns, MRPC's sentences."""
    rows = ({"sentence": first, "label": label, "idx": 0} for label, first, _ in paraphrases(data))
    return saved(folder, cut(rows))


def news_texts(data: Path, folder: Path) -> Words:
    parts = cut(news(data))
    del parts["validation"]
    return saved(folder, parts)


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
    test = written(folder.with_name("held"), {"test": parts["test"]})
    return [*saved(folder, {"train": parts["train"], "test": parts["validation"]}), *test]


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
    return [*written(folder, parts), "--data.validation_split_percentage=20"]


def alpaca_hub(data: Path, folder: Path) -> Words:
    parts = cut(alpaca(data))
    parts["train"] += parts.pop("validation")
    test = written(folder.with_name("held"), {"test": parts.pop("test")})
    return [*saved(folder, parts), *test, "--data.validation_split_percentage=20"]


def ultrafeedback(data: Path, folder: Path) -> Words:
    rows = (
        {"prompt": row["prompt"][-1]["content"], **{side: row["prompt"] + row[side] for side in ("chosen", "rejected")}}
        for row in pairs(data)
    )
    parts = cut(rows)
    test = written(folder.with_name("held"), {"test": parts["test"]})
    return [*saved(folder, {"train_prefs": parts["train"], "test_prefs": parts["validation"]}), *test]


def judged(data: Path, folder: Path) -> Words:
    rows = (
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for at, row in enumerate(pairs(data))
        for side in ("chosen", "rejected")
        if (at % 3 or side == "chosen")
    )
    parts = cut(rows)
    test = written(folder.with_name("held"), {"test": parts["test"]})
    return [*saved(folder, {"train": parts["train"], "test": parts["validation"]}), *test]


def triplets(data: Path, folder: Path) -> Words:
    """Paraphrases of MRPC, and a sentence of another row."""
    good = [(first, second) for label, first, second in paraphrases(data) if label]
    rows = ({"anchor": one, "positive": two, "negative": good[at + 9][1]} for at, (one, two) in enumerate(good[:-9]))
    parts = cut(rows)
    words = saved(folder, {"train": parts["train"], "dev": parts["validation"], "test": parts["test"]})
    return [*words, "--model.matryoshka_dims=[384,128,64]"]


def passages(data: Path, folder: Path) -> Words:
    rows = ({"anchor": row["question"], "positive": row["context"]} for row in asked(data, "nusnlp_dev_orig.json"))
    return written(folder, cut(rows), "csv")


def summaries(data: Path, source: str, target: str) -> dict[str, Rows]:
    return cut({source: row["document"], target: row["summary"], "id": row["id"]} for row in
               jsonl(data / "xsum/xsum-1000.jsonl"))  # fmt: skip


def dialogsum(data: Path, folder: Path) -> Words:
    where = data / "dialogsum"
    dev, test = where / "dialogsum.dev.jsonl", where / "dialogsum.test.jsonl"
    return [f"--data.train_file={dev}", f"--data.validation_file={dev}", f"--data.test_file={test}", *few()]


def dialogues(data: Path, folder: Path) -> Words:
    rows = jsonl(data / "dialogsum/dialogsum.dev.jsonl")
    return saved(
        folder, cut({"id": row["fname"], "dialogue": row["dialogue"], "summary": row["summary"]} for row in rows)
    )


def german(data: Path) -> Iterator[tuple[str, str]]:
    return zip(lines(data / "multi30k_en_de/train.en"), lines(data / "multi30k_en_de/train.de"), strict=True)


def multi30k(data: Path, folder: Path) -> Words:
    return [*saved(folder, cut({"en": one, "de": two} for one, two in german(data))),
            "--data.train_tokenizer.vocab_size=600"]  # fmt: skip


def nested(data: Path, folder: Path, source: str = "de", target: str = "en", german_as: str = "de") -> Words:
    rows = ({"translation": {"en": one, german_as: two}} for one, two in german(data))
    return saved(folder, cut(rows), Features({"translation": Translation(languages=sorted((source, target)))}))


def romanian(data: Path, folder: Path) -> Words:
    where = data / "hf_tests_samples/wmt_en_ro"
    parts = {name: [*jsonl(where / f"{file}.json")] for name, file in
             {"train": "train", "validation": "val", "test": "test"}.items()}  # fmt: skip
    return saved(folder, parts, Features({"translation": Translation(languages=["en", "ro"])}))


def rephrased(data: Path, folder: Path) -> Words:
    parts = cut({"anchor": one, "positive": two} for label, one, two in paraphrases(data) if label)
    test = written(folder.with_name("held"), {"test": parts.pop("test")})
    parts["train"] += parts.pop("validation")
    return [*saved(folder, parts), *test, "--data.validation_split_percentage=20"]


def instructions(data: Path, folder: Path) -> Words:
    rows = ({"source": f"{row['instruction']} {row['input']}", "target": row["output"][:200]} for row in alpaca(data))
    return written(folder, cut(rows))


def labelled(data: Path, folder: Path) -> Words:
    parts = {"test": [{**row, "label": NEWS[row["label"]]} for row in islice(news(data), 24)]}
    parts["predict"] = [{"text": row["text"]} for row in parts["test"]]
    return [*written(folder, parts), f"--data.candidate_labels={json.dumps(NEWS)}"]


REAL: dict[str, Callable[[Path, Path], Words]] = {
    "causal_lm/code_fim": code,
    "causal_lm/files": shakespeare,
    "causal_lm/mixture": mixture,
    "causal_lm/streaming": stream,
    "causal_lm/wikitext2": wikitext,
    "instruction_tuning/alpaca": alpaca_hub,
    "instruction_tuning/files": lambda data, folder: written(folder, cut(alpaca(data))),
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
    "preference/files": lambda data, folder: written(folder, cut(pairs(data))),
    "preference/kto": judged,
    "preference/reward": ultrafeedback,
    "preference/ultrafeedback": ultrafeedback,
    "question_answering/files": squad_files,
    "question_answering/squad": squad,
    "question_answering/squad_v2": lambda data, folder: squad(data, folder, "cs224n-dev-v2.0.json"),
    "sentence_embedding/all_nli": triplets,
    "sentence_embedding/files": passages,
    "sentence_embedding/stsb": scored,
    "summarization/cnn_dailymail": lambda data, folder: saved(folder, summaries(data, "article", "highlights")),
    "summarization/dialogsum": dialogsum,
    "summarization/files": lambda data, folder: written(folder, summaries(data, "text", "summary"), "csv"),
    "summarization/samsum": dialogues,
    "summarization/xsum": lambda data, folder: saved(folder, summaries(data, "document", "summary")),
    "text_classification/ag_news": ag_news,
    "text_classification/files": named_news,
    "text_classification/go_emotions": go_emotions,
    "text_classification/mrpc": mrpc,
    "text_classification/sst2": moods,
    "text_classification/stsb": lambda data, folder: saved(folder, alike(data)),
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
