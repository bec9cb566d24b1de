"""Every YAML of token classification through the real command, against transformers' pipeline and seqeval."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from transformers import AutoModel, pipeline

from tests.configs.lively import lively_model
from tests.configs.running import fit_test_predict, logged, read_config, read_lines, to_run
from tests.configs.tagged import SPLITS, TAGGED

TESTED = SPLITS["test"]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return cache(lambda kind: lively_model(kind, AutoModel, tmp_path_factory.mktemp(kind)))


@pytest.mark.parametrize("name", to_run("token_classification"))
def test_yaml_runs_from_words_to_entities(name: str, model_of: Callable[[str], str], tmp_path: Path) -> None:
    plain = name.endswith("ud_pos")
    quick = ["--data.batch_size=4", "--model.learning_rate=0.003", "--trainer.max_epochs=2"]
    words = [*TAGGED[name](tmp_path / "rows"), *quick, f"--model.model_name_or_path={model_of('bert')}"]
    run, done = fit_test_predict(name, words, tmp_path / "runs")
    (file,) = (run / "predictions").glob("*.jsonl")
    written, values = read_lines(file), logged(run)
    assert [row["tokens"] for row in written] == [row["tokens"] for row in TESTED]
    assert [row["id"] for row in written] == [row["id"] for row in TESTED]
    gold, predicted = (
        [row[key] for row in rows]
        for rows, key in ((TESTED, "parts" if plain else "tags"), (written, "predicted_tags"))
    )
    assert len({tag for row in predicted for tag in row}) > 1
    if plain:
        pairs = [pair for rows in zip(gold, predicted, strict=True) for pair in zip(*rows, strict=True)]
        assert values["test_accuracy"] == pytest.approx(sum(one == other for one, other in pairs) / len(pairs))
        assert done["fit"].trainer.checkpoint_callback.monitor == "val_accuracy"
        assert not any("entities" in row for row in written)
        return
    assert done["fit"].trainer.checkpoint_callback.monitor == "val_f1"
    for metric, score in {"f1": f1_score, "precision": precision_score, "recall": recall_score}.items():
        assert values[f"test_{metric}"] == pytest.approx(score(gold, predicted), abs=1e-6)
    assert values["test_accuracy"] == pytest.approx(accuracy_score(gold, predicted), abs=1e-6)
    assert any(row["entities"] for row in written)
    if read_config(name)["model"]["init_args"].get("constrained_decoding"):
        return  # the pipeline knows of no scheme
    tag = pipeline("token-classification", str(run / "hf"), aggregation_strategy="first", device="cpu")
    for row in written:
        found = tag(" ".join(row["tokens"]))
        keys = ("entity_group", "start", "end")
        assert [[each[key] for key in keys] for each in row["entities"]] == [
            [each[key] for key in keys] for each in found
        ]
        assert [each["score"] for each in row["entities"]] == pytest.approx(
            [float(each["score"]) for each in found], abs=1e-5
        )
