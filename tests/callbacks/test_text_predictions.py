"""Predictions as plain text: a line for each row, whatever the texts hold."""

import json
from pathlib import Path
from typing import Any

import pytest

from lit_ft import CausalLMModule, InstructionTuningModule, QuestionAnsweringModule, TranslationModule
from lit_ft.callbacks.prediction_files import PlainText
from lit_ft.cli import main
from lit_ft.errors import UserError
from tests.pairs import make_seq2seq, pair_rows

TEXTS = ["one line", "two\nlines", "\r\nWindows\r\n", "a path: C:\\new", "", " \u2028 ", "\\\n\\n"]


def read_back(line: str) -> str:
    """Undoes the escapes one sign at a time."""
    found, signs = [], iter(line)
    for sign in signs:
        found.append(sign if sign != "\\" else {"n": "\n", "r": "\r", "\\": "\\"}[next(signs)])
    return "".join(found)


def test_line_ends_and_backslashes_can_be_read_back(tmp_path: Path) -> None:
    for number, part in enumerate((TEXTS[:3], TEXTS[3:])):
        file = PlainText(tmp_path / f"{number}", None, None)  # a module that does not say what it calls a text
        file.write([{"answer": "own", "text": "own", "prediction": text, "score": 0.5} for text in part])
        file.close()
    PlainText.join([tmp_path / "0", tmp_path / "1"], tmp_path / "whole.txt")
    with (tmp_path / "whole.txt").open(encoding="utf-8") as whole:
        lines = [line.removesuffix("\n") for line in whole]
    assert [read_back(line) for line in lines] == TEXTS
    assert lines[1] == "two\\nlines"


@pytest.mark.parametrize("row", [{"predicted_label": "x", "scores": {}}, {"prediction": ["one", "two"]}])
def test_rows_without_one_text(row: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"need one text a row, but rows have .*{next(iter(row))}.*use jsonl"):
        PlainText(tmp_path / "x", None, None).write([row])


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (TranslationModule, "prediction"),
        (CausalLMModule, "generated_text"),
        (InstructionTuningModule, "reply"),
        (QuestionAnsweringModule, "answer"),
    ],
)
def test_each_task_says_what_it_calls_its_text(module: Any, name: str, tmp_path: Path) -> None:
    own = dict.fromkeys(("prediction", "generated_text", "answer", "reply"), "a column of the row's own")
    file = PlainText(tmp_path / "x", None, module)
    file.write([{**own, name: "written"}])
    file.close()
    assert (tmp_path / "x").read_text() == "written\n"


def test_texts_of_a_run_are_the_best_of_each_row(tmp_path: Path) -> None:
    model = make_seq2seq("bart", tmp_path / "bart")
    rows = pair_rows(14, source="document", target="summary")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model=SummarizationModule", f"--model.model_name_or_path={model}", "--model.metrics=[exact_match]"]
    words += ["--data=SummarizationDataModule", "--trainer.enable_progress_bar=false", "--data.max_target_length=20"]
    words += [f"--data.{split}_file={tmp_path / 'rows.jsonl'}" for split in ("train", "validation", "test")]
    words += ['--model.generation={"num_beams": 3, "num_return_sequences": 2}', "--data.batch_size=4"]
    words += [f"--trainer.default_root_dir={tmp_path / 'runs'}", "--trainer.max_steps=1"]
    main(["fit", *words])
    for kind in ("jsonl", "txt"):
        main(["predict", *words, "--ckpt_path=last", f"--predictions.format={kind}"])
    folder = tmp_path / "runs" / "version_0" / "predictions"
    written = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["document"] for row in written] == [row["document"] for row in rows]
    for row in written:
        assert row["predictions"][0]["text"] == row["prediction"]
        assert len(row["predictions"]) == 2
    with (folder / "rows.txt").open(encoding="utf-8") as file:
        assert [read_back(line.removesuffix("\n")) for line in file] == [row["prediction"] for row in written]
