"""Every YAML of causal language modelling through the real command, checked by transformers' own model and pipeline."""

from collections.abc import Callable
from functools import cache
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from tests.configs.documents import CAUSAL, PROMPTS, Local, few_steps, text_column
from tests.configs.lively import lively_model
from tests.configs.running import fit_test_predict, logged, read_config, read_lines, to_run

BLOCK = 64
FIM = ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return cache(lambda kind: lively_model(kind, AutoModelForCausalLM, tmp_path_factory.mktemp(kind)))


@pytest.mark.parametrize("name", to_run("causal_lm"))
def test_yaml_runs_from_texts_to_predictions(name: str, model_of: Callable[[str], str], tmp_path: Path) -> None:
    assert name in CAUSAL, f"configs/{name}.yaml has no local texts in tests/configs/documents.py"
    local, config = CAUSAL[name](tmp_path / "texts"), read_config(name)
    scratch = local.architecture is None
    model = [] if local.architecture is None else [f"--model.model_name_or_path={model_of(local.architecture)}"]
    size = config["data"]["init_args"]["block_size"] if scratch else BLOCK
    model += [f"--data.block_size={size}", "--data.num_workers=0"]
    words = few_steps(name, local, model, tmp_path / "prompts.jsonl", PROMPTS)
    greedy = ["--trainer.precision=32-true", '--model.generation={"max_new_tokens": 8, "do_sample": false}']

    run, done = fit_test_predict(name, words, tmp_path / "runs", greedy)

    options = config["data"]["init_args"]
    documents = encoded(run, local, options.get("document_separator", True))
    if options.get("fim_rate"):
        check_rearranged(run, done["fit"].datamodule, options)
        documents[""] = rearranged(run, done["test"].datamodule, documents[""])
    check_loss(run, documents, size, options.get("isolate_documents", True))
    check_generated(run, text_column(config))
    if samples := config["model"]["init_args"].get("sample_prompts"):
        written = read_lines(run / "samples.jsonl")
        assert [row["prompt"] for row in written] == samples
        assert all(row["generated_text"] and row["step"] > 0 for row in written)
    else:
        assert not (run / "samples.jsonl").exists()


def encoded(run: Path, local: Local, separated: bool) -> dict[str, list[list[int]]]:
    """The test documents as tokens, by the exported tokenizer, each that has text with the end of text behind it."""
    tokenizer = AutoTokenizer.from_pretrained(run / "hf")
    end = [tokenizer.eos_token_id] if separated else []
    tokens = {name: [tokenizer(text)["input_ids"] for text in documents] for name, documents in local.tests.items()}
    return {name: [ids + end if ids else [] for ids in documents] for name, documents in tokens.items()}


def check_loss(run: Path, documents: dict[str, list[list[int]]], size: int, isolated: bool) -> None:
    """The mean loss per predicted token: blocks cut here, each document of a block by itself through the model."""
    model, values = AutoModelForCausalLM.from_pretrained(run / "hf").eval(), logged(run)
    for name, tokens in documents.items():
        owned = [(number, token) for number, ids in enumerate(tokens) for token in ids]
        loss = count = 0.0
        for at in range(0, len(owned), size):
            block = owned[at : at + size]
            parts = [list(part) for _, part in groupby(block, lambda pair: pair[0])] if isolated else [block]
            for ids in ([token for _, token in part] for part in parts):
                if len(ids) > 1:
                    with torch.no_grad():
                        mean = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss
                    loss, count = loss + float(mean) * (len(ids) - 1), count + len(ids) - 1
        assert count > 3 * size
        assert values[f"test_{name}_loss" if name else "test_loss"] == pytest.approx(loss / count, rel=1e-4)


def check_generated(run: Path, column: str) -> None:
    """Input order, and what transformers' pipeline makes of the same prompts."""
    written = read_lines(run / "predictions" / "prompts.jsonl")
    assert [row[column] for row in written] == PROMPTS
    pipe = pipeline("text-generation", str(run / "hf"), device="cpu")
    for row in written:
        (answer,) = pipe(row[column], return_full_text=False, max_new_tokens=8, do_sample=False)
        assert row["generated_text"].strip() == answer["generated_text"].strip()
    assert len({row["generated_text"] for row in written}) > 1


def stored(data: Any, kind: str) -> list[list[int]]:
    """The documents in the blocks that were prepared, told by the end of text behind each."""
    store, end = data.features[kind][""].store, data.tokenizer.eos_token_id
    tokens = list(chain(*(store[number]["input_ids"].tolist() for number in range(len(store)))))
    ends = [-1, *(place for place, token in enumerate(tokens) if token == end)]
    assert ends[-1] == len(tokens) - 1
    return [tokens[before + 1 : last + 1] for before, last in pairwise(ends)]


def rearranged(run: Path, data: Any, documents: list[list[int]]) -> list[list[int]]:
    """What the model was tested on: the documents themselves, some in another order."""
    found = stored(data, "test")
    specials = AutoTokenizer.from_pretrained(run / "hf").convert_tokens_to_ids(FIM)
    for ids, plain in zip(found, documents, strict=True):
        assert sorted(token for token in ids if token not in specials) == sorted(plain)
    return found


def check_rearranged(run: Path, data: Any, options: dict[str, Any]) -> None:
    """The share of training documents that are rearranged, and of these with the suffix first."""
    tokenizer = AutoTokenizer.from_pretrained(run / "hf")
    documents = [tokenizer.decode(ids).split() for ids in stored(data, "train")]
    changed = [words for words in documents if words[0] == FIM[0]]
    assert all(word not in words for words in documents if words not in changed for word in FIM)
    for words in changed:
        assert [word for word in words if word in FIM] == FIM
        assert [words.count(word) for word in FIM] == [1, 1, 1]
    # a prefix may be empty by chance, so that one in some twenty looks like suffix first
    first = [words for words in changed if words[1] == FIM[1]]
    assert len(changed) / len(documents) == pytest.approx(options["fim_rate"], abs=0.1)
    assert len(first) / len(changed) == pytest.approx(options["fim_spm_rate"], abs=0.15)
