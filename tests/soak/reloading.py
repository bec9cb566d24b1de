"""What a run and its export say once more: `load_predictor` on both, and the libraries that others use."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml  # type: ignore[import-untyped]
from transformers import AutoTokenizer, pipeline

from lit_ft import load_predictor
from lit_ft.made_with import OF_ROWS

ADDED = {
    "predicted_label", "predicted_labels", "score", "scores", "prediction", "predictions", "predicted_tags", "entities",
    "predicted_index", "predicted_choice", "answer", "answer_start", "answer_end", "n_best", "null_odds", "reply",
    "generated_text", "embedding", "cosine", "reward", "log_prob",
}  # fmt: skip
"""Columns that predictions have beside those of the rows."""
CLASSES = {
    "CausalLMModule": "AutoModelForCausalLM", "InstructionTuningModule": "AutoModelForCausalLM",
    "MaskedLMModule": "AutoModelForMaskedLM", "MultipleChoiceModule": "AutoModelForMultipleChoice",
    "PreferenceModule": "AutoModelForCausalLM", "QuestionAnsweringModule": "AutoModelForQuestionAnswering",
    "RewardModule": "AutoModelForSequenceClassification", "SentenceEmbeddingModule": "AutoModel",
    "Seq2SeqModule": "AutoModelForSeq2SeqLM", "SummarizationModule": "AutoModelForSeq2SeqLM",
    "TextClassificationModule": "AutoModelForSequenceClassification", "TranslationModule": "AutoModelForSeq2SeqLM",
    "TokenClassificationModule": "AutoModelForTokenClassification",
}  # fmt: skip
NEAR = 2e-4
NOT_TRIED = "not tried"
SETTLED = {"model_name_or_path", "train_tokenizer", "max_tokens_per_batch", "add_tokens", "gguf_file"}
"""Options that a Hugging Face folder answers by itself."""
Rows = list[dict[str, Any]]


def reload(run: Path, exported: Path | None) -> dict[str, str]:
    """Compares what was predicted with what is predicted now; `agrees`, or what does not."""
    said_so = run / "config.predict.yaml"
    config = yaml.safe_load((said_so if said_so.exists() else run / "config.yaml").read_text())
    kind = config["model"]["class_path"].rpartition(".")[2]
    (file,) = sorted((run / "predictions").glob("*.jsonl"))[:1]
    written: Rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()][:16]
    ways: dict[str, Callable[[], str]] = {}
    if exported is None:  # nothing was trained: the model is the one that was given
        ways["load_predictor(model)"] = lambda: of_folder(
            config, kind, config["model"]["init_args"]["model_name_or_path"], written
        )
    else:
        ways["load_predictor(run)"] = lambda: unlike(
            load_predictor(run / "checkpoints" / "best.ckpt")(asked(written)), written
        )
        ways["weights"] = lambda: weights(run, exported, kind, bool(config["model"]["init_args"].get("peft")))
        rounded = config["model"]["init_args"].get("dtype") == "bfloat16"  # merged in few digits: other words, at times
        if kind not in ("PreferenceModule", "RewardModule") and not rounded:
            ways["load_predictor(export)"] = lambda: of_folder(config, kind, str(exported), written)
        if kind in OTHERS:
            ways["others"] = lambda: OTHERS[kind](config, exported, written)
    return {way: said(check) for way, check in ways.items()}


def said(check: Callable[[], str]) -> str:
    """What a check says; what it raises is said, too, for the others are to be tried all the same."""
    try:
        return check() or "agrees"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:600]


def asked(written: Rows) -> Rows:
    """The rows as they were before they were predicted."""
    return [{name: value for name, value in row.items() if not added(name, row)} for row in written]


def added(name: str, row: dict[str, Any]) -> bool:
    """Whether a column is what was predicted; rows may have columns of such names, too."""
    own = {"tokens": "log_prob", "answer": "n_best"}
    if name in own:
        return own[name] in row
    if name == "score":
        return not any(other.endswith("_embedding") for other in row)
    return name in ADDED or name.endswith(("_reward", "_log_prob", "_tokens", "_embedding"))


def unlike(found: Rows, written: Rows) -> str:
    """The first predictions that differ, if any; the row's own columns are not compared (JSON has no dates)."""
    for at, (row, expected) in enumerate(zip(found, written, strict=True)):
        for name in expected:
            if added(name, expected) and not near(row.get(name), expected[name]):
                return f"row {at}, {name}: {str(row.get(name))[:150]} for {str(expected[name])[:150]}"
    return "" if any(added(name, row) for row in written for name in row) else "nothing was predicted"


def near(one: Any, other: Any) -> bool:
    """Whether two values are the same, numbers but for rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(near, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=NEAR, abs_tol=NEAR)
    return bool(one == other)


def of_folder(config: dict[str, Any], kind: str, folder: str, written: Rows) -> str:
    """A Hugging Face folder, with the options that the run's data had."""
    data = config["data"]["init_args"]
    options = {name: value for name, value in data.items() if name not in OF_ROWS and name not in SETTLED}
    if kind.startswith(("CausalLM", "InstructionTuning")):
        options["generation"] = config["model"]["init_args"]["generation"]
    if kind == "TokenClassificationModule":
        options["constrained_decoding"] = config["model"]["init_args"]["constrained_decoding"]
    found = load_predictor(folder, task=kind.removesuffix("Module"), **options)(asked(written))
    if kind == "MultipleChoiceModule":  # how the data writes labels stands in checkpoints alone
        found = [
            {"predicted_label": told.get("predicted_label"), **row} for row, told in zip(found, written, strict=True)
        ]
    return unlike(found, written)


def weights(run: Path, exported: Path, kind: str, adapter: bool) -> str:
    """transformers' own class loads the folder; nothing is missing, and all is as the checkpoint has it."""
    model, info = getattr(transformers, CLASSES[kind]).from_pretrained(exported, output_loading_info=True, dtype="auto")
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem] and not (kind == "SentenceEmbeddingModule" and problem == "missing_keys"):
            return f"{problem}: {[*info[problem]][:3]}"
    if adapter:  # merged: other numbers under other names
        return ""
    saved = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True, mmap=True)["state_dict"]
    loaded = model.state_dict()
    known = {name.removeprefix("model."): value for name, value in saved.items()}
    shared = loaded.keys() & known.keys()
    if len(shared) < len(loaded) - 3:  # tied ones stand there once
        return f"{len(loaded) - len(shared)} of {len(loaded)} weights have other names in the checkpoint"
    unequal = [name for name in shared if not torch.equal(loaded[name], known[name].to(loaded[name].dtype))]
    return f"{len(unequal)} weights differ, such as {unequal[0]}" if unequal else ""


def piped_labels(config: dict[str, Any], exported: Path, written: Rows) -> str:
    """transformers' pipeline, text by text."""
    data = config["data"]["init_args"]
    columns = [data["text_column_names"], data.get("text_pair_column_names")]
    names = [each[0] if isinstance(each, list) else each for each in columns if each]
    pipe = pipeline("text-classification", str(exported), device="cpu")
    for at, row in enumerate(written[:8]):
        inputs = dict(zip(("text", "text_pair"), (row[name] for name in names), strict=False))
        if len(pipe.tokenizer(*inputs.values())["input_ids"]) > data["max_seq_length"]:
            continue  # is cut in ways of their own
        found = {each["label"]: each["score"] for each in pipe(inputs, top_k=None)}
        expected = row.get("scores") or {next(iter(found)): row["prediction"]}
        if not near(found, expected):
            return f"pipeline, row {at}: {found} for {expected}"
    return ""


def piped_entities(config: dict[str, Any], exported: Path, written: Rows) -> str:
    """transformers' pipeline on whole sentences."""
    if config["model"]["init_args"]["constrained_decoding"] or "entities" not in written[0]:
        return NOT_TRIED  # it knows of no scheme, nor of tags that are no entities
    tag = pipeline("token-classification", str(exported), aggregation_strategy="first", device="cpu")
    column = next(name for name in ("tokens", "words", "text", "column_2") if name in written[0])
    for at, row in enumerate(written[:8]):
        found = [[each["entity_group"], each["start"], each["end"]] for each in tag(" ".join(row[column]))]
        expected = [[each["entity_group"], each["start"], each["end"]] for each in row["entities"]]
        if found != expected:
            return f"pipeline, row {at}: {found} for {expected}"
    return ""


@torch.no_grad()
def written_again(config: dict[str, Any], exported: Path, written: Rows) -> str:
    """transformers' generate on the sources, where each is a column."""
    data = config["data"]["init_args"]
    column = next((data[name] for name in ("text_column", "source_column_name", "source_lang") if data.get(name)), None)
    if column is None or column not in written[0] or data.get("source_lang") == "en_XX":
        return NOT_TRIED
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(exported).eval()
    tokenizer = AutoTokenizer.from_pretrained(exported)
    for at, row in enumerate(written[:4]):
        inputs = tokenizer((data.get("source_prefix") or "") + row[column], return_tensors="pt")
        if inputs["input_ids"].shape[1] > data["max_source_length"]:
            continue
        inputs.pop("token_type_ids", None)
        (text,) = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)
        if text != row["prediction"]:
            return f"generate, row {at}: {text!r} for {row['prediction']!r}"
    return ""


def encoded(config: dict[str, Any], exported: Path, written: Rows) -> str:
    """sentence-transformers on the texts of the first column."""
    from sentence_transformers import SentenceTransformer

    vectors = [name for name in written[0] if name.endswith("embedding")]
    column = vectors[0].removesuffix("_embedding") if vectors[0] != "embedding" else "text"
    found = SentenceTransformer(str(exported), device="cpu").encode([row[column] for row in written]).tolist()
    return "" if near(found, [row[vectors[0]] for row in written]) else "sentence-transformers gives other vectors"


OTHERS: dict[str, Callable[[dict[str, Any], Path, Rows], str]] = {
    "TextClassificationModule": piped_labels,
    "TokenClassificationModule": piped_entities,
    "SummarizationModule": written_again,
    "TranslationModule": written_again,
    "Seq2SeqModule": written_again,
    "SentenceEmbeddingModule": encoded,
}
"""Libraries that others use, on the exported folder."""
