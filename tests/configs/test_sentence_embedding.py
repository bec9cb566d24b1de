"""Every YAML of sentence embeddings through the real command; vectors of the export by sentence-transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_ft.cli import main
from tests.configs.running import fit_test_predict, read_lines, to_run
from tests.conversations import write_rows
from tests.modules.test_sentence_embedding import ROWS
from tests.tiny import texts

EMBEDDINGS = {
    "sentence_embedding/all_nli": "triplets",
    "sentence_embedding/files": "pairs",
    "sentence_embedding/stsb": "scored",
}
"""Kind of the rows of each YAML."""


@pytest.mark.parametrize("name", to_run("sentence_embedding"))
def test_yaml_runs_from_texts_to_vectors(name: str, tiny: Callable[..., str], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = ROWS[EMBEDDINGS[name]]
    alone = [{"text": text} for text in texts()[:5]]
    parts = (("train", rows), ("validation", rows[:9]), ("test", rows[9:19]), ("predict", alone))
    files = {split: write_rows(tmp_path / f"{split}.jsonl", part) for split, part in parts}
    words = [
        f"--model.model_name_or_path={tiny('bert')}", "--data.dataset_name=null", "--data.dataset_config_name=null",
        *(f"--data.{split}_file={path}" for split, path in files.items()), "--data.batch_size=6",
        "--data.validation_split_name=null", "--data.test_split_name=null", "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
    ]  # fmt: skip
    if name.endswith("all_nli"):
        words.append("--model.matryoshka_dims=[32,16]")
    run, _ = fit_test_predict(name, words, tmp_path / "runs", ["--data.text_column_names=null"])
    (predictions,) = (run / "predictions").glob("*.jsonl")
    found = np.array([row["embedding"] for row in read_lines(predictions)])
    library = pytest.importorskip("sentence_transformers")
    expected = library.SentenceTransformer(str(run / "hf"), device="cpu").encode([row["text"] for row in alone])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if not name.endswith("files"):
        return
    again = main(
        ["predict", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}", "--predictions.format=npy",
         "--data.text_column_names=null"]
    ).folder  # fmt: skip
    assert again is not None
    np.testing.assert_allclose(np.load(again / "predictions" / "predict.npy"), expected, atol=1e-5)
