"""The YAMLs of zero-shot classification through the real command, on rows of its own kind."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_ft.cli import main
from tests.configs.running import CONFIGS, read_config, read_lines
from tests.modules.test_zero_shot import make_nli
from tests.tiny import texts

ZERO_SHOT = {"zero_shot/nli": ["contradiction", "neutral", "entailment"], "zero_shot/embeddings": []}
"""Labels of the models that each YAML is for; none of bodies alone."""


@pytest.mark.parametrize("name", ZERO_SHOT)
def test_yaml_runs_from_texts_to_labels(name: str, tiny: Callable[..., str], tmp_path: Path) -> None:
    names = ZERO_SHOT[name]
    model = make_nli(tmp_path / "nli", tiny("bert"), names) if names else tiny("bert")
    options = read_config(name)["data"]["init_args"]
    labels = options["candidate_labels"]
    for split in ("new", "test"):
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([text, labels[at % len(labels)]] for at, text in enumerate(texts()[:9]))
    words = [
        "--config", str(CONFIGS / f"{name}.yaml"), f"--model.model_name_or_path={model}", "--trainer.accelerator=cpu",
        f"--trainer.default_root_dir={tmp_path / 'runs'}", f"--data.predict_file={tmp_path / 'new.csv'}",
        f"--data.test_file={tmp_path / 'test.csv'}",
    ]  # fmt: skip
    folder = main(["predict", *words]).folder
    assert folder is not None
    rows = read_lines(folder / "predictions" / "new.jsonl")
    assert [row["text"] for row in rows] == texts()[:9]
    assert all(sum(row["scores"].values()) == pytest.approx(1) for row in rows)
    assert all([*row["scores"]] == labels for row in rows)
    tested = main(["test", *words]).folder
    assert tested is not None
    assert json.loads((tested / "evaluation.test.json").read_text())["sets"][0]["rows"] == 9
