"""Every YAML of sequence to sequence through the real command; what it leaves, once more by others' packages."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from tests.configs.paired import PAIRED, LocalPairs
from tests.configs.running import fit_test_predict, logged, read_config, read_lines, to_run
from tests.pairs import make_lively_seq2seq
from tests.questions import official

USUAL = {
    "SummarizationModule": ["rouge", "generated_length"],
    "TranslationModule": ["bleu", "chrf", "generated_length"],
}
Texts = list[str]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return cache(lambda family: make_lively_seq2seq(family, tmp_path_factory.mktemp(family)))


@pytest.mark.parametrize("name", to_run("summarization", "translation", "text_to_text"))
def test_yaml_runs_from_pairs_to_texts(name: str, model_of: Callable[[str], str], tmp_path: Path) -> None:
    assert name in PAIRED, f"configs/{name}.yaml has no local rows in tests/configs/paired.py"
    local, config = PAIRED[name](tmp_path / "rows"), read_config(name)
    words = [*local.overrides, "--trainer.precision=32-true", "--trainer.max_epochs=1", "--data.num_workers=0"]
    if local.family is None:  # the YAML's own model
        words += ["--trainer.check_val_every_n_epoch=1"]
    else:
        words += [f"--model.model_name_or_path={model_of(local.family)}", "--model.learning_rate=0.00003"]
        words += ["--data.max_source_length=150", "--data.max_target_length=16"]
    if "max_tokens_per_batch" in config["data"]["init_args"]:
        words += ["--data.max_tokens_per_batch=400"]
    else:
        words += ["--data.batch_size=4"]
    run, _ = fit_test_predict(name, words, tmp_path / "runs")
    model, tokenizer = (
        AutoModelForSeq2SeqLM.from_pretrained(run / "hf").eval(),
        AutoTokenizer.from_pretrained(run / "hf"),
    )
    check_loss(run, local, model, tokenizer)
    transformers_writes = cache(lambda source: write(model, tokenizer, source))
    generated = [transformers_writes(local.source(row)) for row in local.test]
    options = config["model"]["init_args"]
    check_scores(run, options.get("metrics") or USUAL[config["model"]["class_path"]], generated, local)
    file, rows = local.predict
    written = read_lines(run / "predictions" / f"{file}.jsonl")
    assert [{column: row[column] for column in given} for row, given in zip(written, rows, strict=True)] == rows
    assert [row["prediction"] for row in written] == [transformers_writes(local.source(row)) for row in rows]
    assert model.generation_config.num_beams in (None, 1) or "num_beams" in options["generation"]
    assert len(set(generated)) > 1 or local.family is None


@torch.no_grad()
def check_loss(run: Path, local: LocalPairs, model: Any, tokenizer: Any) -> None:
    """The mean loss per token of the first references, each row by itself through the model."""
    loss = count = 0.0
    for row in local.test:
        inputs = tokenizer(local.source(row), text_target=local.references(row)[0], return_tensors="pt")
        tokens = inputs["labels"].numel()
        loss, count = loss + float(model(**inputs).loss) * tokens, count + tokens
    assert logged(run)["test_loss"] == pytest.approx(loss / count, rel=1e-4)


@torch.no_grad()
def write(model: Any, tokenizer: Any, source: str) -> str:
    """What the exported folder makes of a source under transformers alone."""
    inputs = tokenizer(source, return_tensors="pt")
    (text,) = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)
    return str(text)


def check_scores(run: Path, metrics: list[Any], generated: Texts, local: LocalPairs) -> None:
    """The figures of the test set, by the packages that papers use."""
    values, references = logged(run), [local.references(row) for row in local.test]
    expected: dict[str, float] = {}
    for metric in [next(iter(each)) if isinstance(each, dict) else each for each in metrics]:
        expected |= SCORES[metric](generated, references) if metric in SCORES else {}
    assert expected or metrics == ["generated_length"]
    for metric, value in expected.items():
        assert values[f"test_{metric}"] == pytest.approx(value, abs=1e-3), metric
    if "generated_length" in metrics:
        assert 0 < values["test_generated_length"] <= 64


def rouge(generated: Texts, references: list[Texts]) -> dict[str, float]:
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    each = [scorer.score_multi(texts, text) for text, texts in zip(generated, references, strict=True)]
    return {kind: 100 * sum(row[kind].fmeasure for row in each) / len(each) for kind in ("rouge1", "rouge2", "rougeL")}


def turned(references: list[Texts]) -> list[list[str | None]]:
    """A list for each reference, as sacrebleu takes them; each text counts once."""
    each = [list(dict.fromkeys(texts)) for texts in references]
    return [[texts[at] if at < len(texts) else None for texts in each] for at in range(max(map(len, each)))]


def squad_scores(generated: Texts, references: list[Texts]) -> dict[str, float]:
    keys = [str(number) for number in range(len(generated))]
    golds = dict(zip(keys, references, strict=True))
    found = official(dict(zip(keys, generated, strict=True)), golds, dict.fromkeys(keys, 0.0), 1.0)
    return {"token_f1": found["f1"]}


SCORES: dict[str, Callable[[Texts, list[Texts]], dict[str, float]]] = {
    "rouge": rouge,
    "bleu": lambda generated, references: {"bleu": sacrebleu.corpus_bleu(generated, turned(references)).score},
    "chrf": lambda generated, references: {"chrf": sacrebleu.corpus_chrf(generated, turned(references)).score},
    "token_f1": squad_scores,
    "exact_match": lambda generated, references: {
        "exact_match": 100
        * sum(text.strip() in texts for text, texts in zip(generated, references, strict=True))
        / len(generated)
    },
}
