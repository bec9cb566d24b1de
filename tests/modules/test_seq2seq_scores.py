"""Scores of what Seq2SeqModule writes: those of others' packages on the same texts; which epochs and rows have them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from lightning.pytorch import Trainer, seed_everything
from rouge_score.rouge_scorer import RougeScorer

from lit_ft import Seq2SeqDataModule, Seq2SeqModule, SummarizationModule, TranslationModule
from lit_ft.callbacks import RunCheckpoint
from tests.modules.test_seq2seq import Fit, data_of
from tests.pairs import pair_rows
from tests.processes import two_processes
from tests.scored_texts import streams


def learned(folder: str, trainer: Fit, **options: Any) -> tuple[Seq2SeqModule, Any, Trainer]:
    """A module that has learned four rows by heart."""
    rows = [{"source": source, "target": target} for source, target in zip("abcd", ("A", "B", "C", "D"), strict=True)]
    data = Seq2SeqDataModule(
        model_name_or_path=folder, dataset={"train": rows * 10, "validation": rows, "test": rows},
        batch_size=8, max_target_length=8, on_bad_rows={"duplicate": "keep"},
    )  # fmt: skip
    seed_everything(2)
    module = Seq2SeqModule(model_name_or_path=folder, learning_rate=1e-2, lr_scheduler_type="constant", **options)
    run = trainer(max_epochs=12, check_val_every_n_epoch=12, gradient_clip_val=1.0)
    run.fit(module, data)
    return module, data, run


def test_what_was_learned_is_generated_and_scored(folder: Callable[[str], str], trainer: Fit) -> None:
    module, data, run = learned(folder("bart"), trainer, generation={"num_beams": 3, "num_return_sequences": 2})
    assert float(run.callback_metrics["val_exact_match"]) == 100.0
    (scores,) = run.test(module, data, verbose=False)
    assert scores["test_exact_match"] == 100.0
    rows = [row for batch in run.predict(module, data) for row in batch]
    assert [row["prediction"] for row in rows] == ["A", "B", "C", "D"]
    assert [row["target"] for row in rows] == ["A", "B", "C", "D"]
    assert all(len(row["predictions"]) == 2 for row in rows)
    assert all(row["predictions"][0] == {"text": row["prediction"], "score": row["score"]} for row in rows)

    # the score is the mean log-probability of what was generated, which is how beams are compared
    assert module.model is not None
    tokenizer, model = data.tokenizer, module.model.eval()
    inputs = tokenizer([row["source"] for row in rows], return_tensors="pt", padding=True)
    asked = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 8}
    beams = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **asked)
    found = [each["score"] for row in rows for each in row["predictions"]]
    np.testing.assert_allclose(found, beams.sequences_scores.numpy(), atol=1e-4)
    assert len(set(found)) > 4
    assert all(math.exp(row["score"]) > 0.5 for row in rows)


def test_usual_metrics_are_the_packages_on_the_modules_own_texts(folder: Callable[[str], str], trainer: Fit) -> None:
    path, rows = folder("bart"), pair_rows(12)
    references = [
        [f"The {row['target']}", *([row["target"].lower(), row["target"][:-2] + " end."] if number % 3 else [])]
        for number, row in enumerate(rows)
    ]
    tests = [{**row, "target": texts} for row, texts in zip(rows, references, strict=True)]
    usual = {"model_name_or_path": path, "batch_size": 4, "max_target_length": 24}
    data = Seq2SeqDataModule(**usual, dataset={"train": rows, "validation": tests, "test": tests})
    seed_everything(3)
    metrics = ["bleu", "chrf", {"rouge": {"split_summaries": False}}, "generated_length"]
    module = Seq2SeqModule(model_name_or_path=path, learning_rate=5e-3, lr_scheduler_type="constant", metrics=metrics)
    run = trainer(max_epochs=24, check_val_every_n_epoch=24, gradient_clip_val=1.0)
    run.fit(module, data)
    (scores,) = run.test(module, data, verbose=False)
    texts = [row["prediction"] for batch in run.predict(module, data) for row in batch]
    for name, kind in (("bleu", sacrebleu.BLEU), ("chrf", sacrebleu.CHRF)):
        expected = kind().corpus_score(texts, streams(references)).score
        assert scores[f"test_{name}"] == pytest.approx(expected, abs=1e-3)
        assert 5 < expected < 100

    assert module.model is not None
    inputs = data.tokenizer([row["source"] for row in rows], return_tensors="pt", padding=True)
    ids = module.model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    lengths = (ids != data.tokenizer.pad_token_id).sum(1) - 1  # run_translation's count, less the decoder's first token
    assert scores["test_generated_length"] == pytest.approx(float(lengths.float().mean()))
    assert len({*lengths.tolist()}) > 1

    scorer = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
    each = [scorer.score_multi(some, text) for some, text in zip(references, texts, strict=True)]
    for name in scorer.rouge_types:
        expected = 100 * np.mean([score[name].fmeasure for score in each])
        assert scores[f"test_{name}"] == pytest.approx(expected, abs=1e-3)
        assert 5 < expected < 100

    names = {
        kind: kind(model_name_or_path=path).metric_names({})[2:] for kind in (TranslationModule, SummarizationModule)
    }
    assert names[TranslationModule] == ["bleu", "chrf", "generated_length"]
    assert names[SummarizationModule] == ["rouge1", "rouge2", "rougeL", "rougeLsum", "generated_length"]


def test_generation_of_some_epochs_and_some_rows_only(folder: Callable[[str], str], trainer: Fit) -> None:
    path, seen = folder("bart"), list[tuple[int, int]]()

    class Counting(Seq2SeqModule):
        def generated_ids(self, inputs: Any) -> Any:
            if not self.trainer.sanity_checking:
                seen.append((self.trainer.current_epoch, len(inputs["input_ids"])))
            return super().generated_ids(inputs)

    module = Counting(model_name_or_path=path, eval_generate_every_n_epochs=2, max_generate_samples=4)
    run = trainer(max_epochs=5)
    run.fit(module, data_of(path, batch_size=4))
    assert sorted({epoch for epoch, _ in seen}) == [1, 3, 4]  # every second one, and the last
    assert [sum(rows for epoch, rows in seen if epoch == each) for each in (1, 3, 4)] == [4, 4, 4]
    seen.clear()
    run.validate(module, data_of(path, batch_size=4), verbose=False)
    assert sum(rows for _, rows in seen) == 4
    seen.clear()
    rows = pair_rows(7, 30, source="en", target="de")
    run.test(module, data_of(path, batch_size=4, dataset={"test": rows}), verbose=False)
    assert sum(rows for _, rows in seen) == 7


def test_best_epoch_by_generated_texts_where_some_epochs_generate_none(
    folder: Callable[[str], str], tmp_path: Path
) -> None:
    saving = RunCheckpoint(monitor="val_generated_length", mode="max")
    saving.dirpath = str(tmp_path / "ckpt")
    run = Trainer(
        accelerator="cpu", max_epochs=4, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[saving], default_root_dir=tmp_path,
    )  # fmt: skip
    module = Seq2SeqModule(model_name_or_path=folder("bart"), eval_generate_every_n_epochs=2)
    run.fit(module, data_of(folder("bart")))
    assert saving.best_model_score is not None


def test_the_lowest_edit_rate_is_the_best() -> None:
    modes = {name: RunCheckpoint(monitor=name).mode for name in ("val_ter", "val_first_ter", "val_terms", "val_bleu")}
    assert modes == {"val_ter": "min", "val_first_ter": "min", "val_terms": "max", "val_bleu": "max"}


def test_two_processes_score_as_one(folder: Callable[[str], str], trainer: Fit) -> None:
    path, found = folder("bart"), []
    for spread in ({}, two_processes()):
        module = Seq2SeqModule(model_name_or_path=path, max_generate_samples=7)
        data = data_of(path, dataset={"validation": pair_rows(11, 60, source="en", target="de")}, batch_size=3)
        found += trainer(**spread).validate(module, data, verbose=False)
    assert set(found[0]) == set(found[1])
    assert len(found[0]) == 5
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-4), name
