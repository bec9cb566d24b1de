"""Every YAML of multiple choice through the real command, checked by the exported folder under transformers alone."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

from tests.configs.choices import CHOICES, LocalChoices
from tests.configs.lively import lively_model
from tests.configs.running import fit_test_predict, logged, read_config, read_lines, to_run


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return cache(lambda kind: lively_model(kind, AutoModelForMultipleChoice, tmp_path_factory.mktemp(kind)))


def scores_of(run: Path, local: LocalChoices, rows: list[dict[str, Any]]) -> list[torch.Tensor]:
    """Probabilities of each row's choices by the exported folder, each row by itself."""
    model, tokenizer = (kind.from_pretrained(run / "hf") for kind in (AutoModelForMultipleChoice, AutoTokenizer))
    found = []
    for row in rows:
        firsts, seconds = zip(*local.pairs(row), strict=True)
        inputs = tokenizer(list(firsts), list(seconds), padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model.eval()(**{name: value[None] for name, value in inputs.items()}).logits[0]
        found.append(logits.softmax(-1))
    return found


@pytest.mark.parametrize("name", to_run("multiple_choice"))
def test_yaml_runs_from_rows_to_predictions(name: str, model_of: Callable[[str], str], tmp_path: Path) -> None:
    assert name in CHOICES, f"configs/{name}.yaml has no local rows in tests/configs/choices.py"
    local = CHOICES[name](tmp_path / "rows")
    kind = "roberta" if "roberta" in read_config(name)["model"]["init_args"]["model_name_or_path"] else "bert"
    quick = ["--data.batch_size", "4", "--model.learning_rate", "0.005", "--trainer.max_epochs", "1"]
    words = [*local.overrides, *quick, "--model.model_name_or_path", model_of(kind)]
    run, _ = fit_test_predict(name, words, tmp_path / "runs")

    tested = scores_of(run, local, local.test)
    labels = [local.label(row) for row in local.test]
    hits = [int(scores.argmax()) == label for scores, label in zip(tested, labels, strict=True)]
    losses = [-float(scores[label].log()) for scores, label in zip(tested, labels, strict=True)]
    values = logged(run)
    assert values["test_accuracy"] == pytest.approx(np.mean(hits), abs=1e-4)
    assert values["test_loss"] == pytest.approx(np.mean(losses), abs=1e-3)
    sizes = {len(scores) for scores in tested}
    for size in sizes if len(sizes) > 1 else ():
        some = [hit for hit, scores in zip(hits, tested, strict=True) if len(scores) == size]
        assert values[f"test_accuracy_{size}"] == pytest.approx(np.mean(some), abs=1e-4)

    written = read_lines(run / "predictions" / f"{local.predict_name}.jsonl")
    expected = scores_of(run, local, local.predict)
    for row, given, scores in zip(written, local.predict, expected, strict=True):
        assert {column: row[column] for column in given} == given
        np.testing.assert_allclose(row["scores"], scores, atol=1e-4)
        assert row["predicted_index"] == np.argmax(row["scores"])
        second = local.pairs(given)[row["predicted_index"]][1]
        assert row["predicted_choice"] in second
        again = local.label(
            {**given, next(name for name in ("label", "answer", "answerKey") if name in given): row["predicted_label"]}
        )
        assert again == row["predicted_index"]  # the label is written as the data writes it
    assert np.ptp([row["score"] for row in written]) > 0.01
