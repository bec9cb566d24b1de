"""The benchmark of generated texts: a tiny run, and that other texts are no equal work."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.pairs import make_lively_seq2seq, pair_rows


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2] / "benchmarks")])
    return import_module("generation")


def test_generation(script: Any, tmp_path: Path) -> None:
    model = make_lively_seq2seq("bart", tmp_path / "model")
    sources = tmp_path / "sources.txt"
    sources.write_text("".join(f"{row['source']}\n" for row in pair_rows(12)))
    command = ["--model", model, "--source_file", str(sources), "--rows", "10", "--batch_size", "4", "--rounds", "1"]
    command += ["--warmup", "0", "--max_new_tokens", "6", "--num_beams", "2", "--allowed", "0", "--out", str(tmp_path)]
    content = script.main(command)
    names = ["Seq2SeqTrainer.predict", "Seq2SeqTrainer.predict, sorted by length"]
    assert content["checks"] == [f"{name}: 10 of 10 texts are the same" for name in names]
    (texts,) = content["comparisons"]
    assert list(texts["contestants"]) == ["lit_ft", *names]
    assert content["notes"][0].startswith("10 texts of ")


def test_other_texts_are_no_equal_work(script: Any) -> None:
    texts = {script.OURS: ["a", "b", "c", "d"], "theirs": ["a", "b", "x", "d"]}
    assert script.check(texts, 0.25) == ["theirs: 3 of 4 texts are the same"]
    with pytest.raises(RuntimeError, match=r"lit_ft and theirs: 1 of 4 texts differ, the first: \('c', 'x'\)"):
        script.check(texts, 0.2)
