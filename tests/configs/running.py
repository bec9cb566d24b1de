"""A YAML of configs/ through the real command, and what its run left, as plain values."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from transformers import AutoConfig

from lit_ft.cli import LitFtCLI, main

CONFIGS = Path(__file__).parents[2] / "configs"
LEFT = (
    "config.yaml",
    "config.test.yaml",
    "config.predict.yaml",
    "checkpoints/best.ckpt",
    "hf/README.md",
    "hf/tokenizer.json",
)


ALIKE = {
    "causal_lm/wikitext2", "instruction_tuning/files", "instruction_tuning/messages", "instruction_tuning/sharegpt",
    "instruction_tuning/qlora_gpu", "preference/ultrafeedback",
    "masked_lm/wikitext2", "masked_lm/line_by_line", "multiple_choice/race",
    "multiple_choice/swag", "question_answering/squad", "summarization/cnn_dailymail", "summarization/files",
    "summarization/samsum", "summarization/xsum", "text_classification/ag_news", "text_classification/cola",
    "text_classification/imdb", "text_classification/sst2", "text_to_text/files", "text_to_text/grammar_correction",
    "text_to_text/paraphrase", "token_classification/conll2003",
    "token_classification/wnut17", "translation/multi30k", "translation/wmt16_ro_en",
}  # fmt: skip
"""YAMLs whose rows, options and models are of the kind of another one's; `make soak` runs them."""


def to_run(*tasks: str) -> list[Any]:
    """Names of the YAMLs of tasks, as parameters of a test."""
    return marked(f"{task}/{path.stem}" for task in tasks for path in sorted((CONFIGS / task).glob("*.yaml")))


def marked(names: Iterable[str]) -> list[Any]:
    """Names of YAMLs as parameters of a test, those that are like another one for `make soak`."""
    return [pytest.param(name, marks=pytest.mark.soak if name in ALIKE else ()) for name in names]


def read_config(name: str) -> dict[str, Any]:
    """What stands in a YAML."""
    written: dict[str, Any] = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return written


def fit_test_predict(
    name: str, overrides: Sequence[str], root: Path, after: Sequence[str] = ()
) -> tuple[Path, dict[str, LitFtCLI]]:
    """Runs the three commands with a YAML; checks that they share one run folder with all that belongs into it.

    Args:
        name: of the YAML.
        overrides: further words of every command.
        root: where run folders go.
        after: further words of test and predict.

    Returns:
        The run's folder, and what each command returned.
    """
    words = ["--config", str(CONFIGS / f"{name}.yaml"), *overrides, f"--trainer.default_root_dir={root}"]
    best = ["--ckpt_path", "best", *after]
    done = {"fit": main(["fit", *words, "--trainer.log_every_n_steps", "1"])}
    done |= {command: main([command, *words, *best]) for command in ("test", "predict")}
    assert [path.name for path in root.iterdir()] == ["version_0"]
    run = root / "version_0"
    for left in LEFT:
        assert (run / left).is_file(), left
    values = logged(run)
    assert all(math.isfinite(value) for value in values.values())
    assert {"train_loss", "val_loss", "test_loss", *monitors(read_config(name))} <= set(values)
    check_ordinary(run / "hf")
    return run, done


def monitors(config: dict[str, Any]) -> list[str]:
    """The metrics that a YAML's callbacks watch."""
    found = [config.get("checkpoint", {}).get("monitor", "val_loss")]
    return found + [each["init_args"]["monitor"] for each in config["trainer"].get("callbacks", [])]


def check_ordinary(folder: Path) -> None:
    """An exported folder has weights, and a configuration of nothing but what transformers itself would write."""
    assert len(load_file(folder / "model.safetensors")) > 0
    config = json.loads((folder / "config.json").read_text())
    ours = {"classification_threshold", "version_2_with_negative", "null_score_diff_threshold", "tag_scheme"}
    known = set(AutoConfig.for_model(config["model_type"]).to_dict()) | ours
    named = {"decoder_start_token_id"}  # T5's own have it, its defaults do not
    assert set(config) <= known | named | {"architectures", "dtype", "transformers_version", "problem_type"}
    assert len(config["architectures"]) == 1


def logged(run: Path) -> dict[str, float]:
    """The last value of every column of metrics.csv."""
    with (run / "metrics.csv").open(newline="") as file:
        return {name: float(value) for row in csv.DictReader(file) for name, value in row.items() if value}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
