"""Texts that Seq2SeqModule generates: their scores, which rows and epochs have them, what data and checkpoint say."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BartConfig

from lit_ft import (
    Seq2SeqDataModule,
    Seq2SeqModule,
    SummarizationDataModule,
    SummarizationModule,
    TranslationDataModule,
    TranslationModule,
)
from lit_ft.callbacks.evaluation_record import EvaluationRecord
from lit_ft.errors import UserError
from lit_ft.ops.building.seq2seq import set_padding
from lit_ft.ops.decoding.generation import chosen_tokens, texts_of
from tests.pairs import LANGUAGES, make_seq2seq, pair_rows

Fit = Callable[..., Trainer]


def data_of(folder: str, family: str = "bart", **options: Any) -> TranslationDataModule:
    source, target = LANGUAGES.get(family, ("en", "de"))
    names = {"source": source, "target": target}
    usual = {
        "dataset": {"train": pair_rows(8, **names), "predict": pair_rows(3, 30, **names)}, "batch_size": 4,
        "predict_split_name": "predict", "max_target_length": 6, "source_lang": source, "target_lang": target,
        "validation_split_percentage": 0,
    }  # fmt: skip
    return TranslationDataModule(model_name_or_path=folder, **{**usual, **options})


def predicted(run: Trainer, module: Any, data: Any) -> list[dict[str, Any]]:
    return [row for batch in run.predict(module, data) for row in batch]


@pytest.mark.parametrize(
    ("family", "own"),
    [("nllb", {}), ("mbart", {}), ("mbart50", {}), ("bart", {"forced_eos_token_id": 2}), ("t5", {"length_penalty": 1})],
)
def test_scores_are_those_that_beams_are_compared_by(
    family: str, own: dict[str, Any], folder: Callable[..., str], trainer: Fit
) -> None:
    path = folder(family, **own)
    module = TranslationModule(
        model_name_or_path=path, metrics=["exact_match"], generation={"num_beams": 3, "num_return_sequences": 3}
    )
    data = data_of(path, family)
    rows = predicted(trainer(), module, data)
    assert module.model is not None
    inputs = data.tokenizer([row[data.hparams["source_lang"]] for row in rows], return_tensors="pt", padding=True)
    beams = module.model.eval().generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], return_dict_in_generate=True,
        output_scores=True,
    )  # fmt: skip
    found = [each["score"] for row in rows for each in row["predictions"]]
    np.testing.assert_allclose(found, beams.sequences_scores.numpy(), atol=2e-5)
    assert len(set(found)) == 9


def test_tokens_that_a_model_chose() -> None:
    config = copy.deepcopy(AutoModelForSeq2SeqLM.from_config(_bart()).generation_config)
    config.update(eos_token_id=[2, 9], pad_token_id=1, forced_bos_token_id=5, forced_eos_token_id=2, max_new_tokens=4)
    ids = torch.tensor([[2, 5, 7, 8, 2], [2, 5, 9, 1, 1], [2, 5, 7, 2, 1]])
    counted, chosen = chosen_tokens(ids, config)
    assert counted.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]
    assert chosen.tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]]
    assert chosen_tokens(ids[:, :4], config)[1].tolist() == [[0, 1, 1], [0, 1, 0], [0, 1, 1]]
    config.update(max_new_tokens=None, max_length=5)  # counts what the decoder begins with, too
    assert chosen_tokens(ids, config)[1].tolist() == chosen.tolist()


def _bart() -> Any:
    sizes = {f"{side}_{what}": 8 for side in ("encoder", "decoder") for what in ("ffn_dim", "attention_heads")}
    return BartConfig(vocab_size=20, d_model=8, encoder_layers=1, decoder_layers=1, **sizes)


def test_samples_come_best_first_and_again(folder: Callable[..., str], trainer: Fit) -> None:
    path, found = folder("bart"), []
    for _ in range(2):
        seed_everything(3)
        module = Seq2SeqModule(model_name_or_path=path, generation={"do_sample": True, "num_return_sequences": 4})
        found.append(predicted(trainer(), module, data_of(path)))
    assert found[0] == found[1]
    for row in found[0]:
        scores = [each["score"] for each in row["predictions"]]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) > 1


def test_options_may_need_the_models_own_or_the_tokenizer(folder: Callable[..., str], trainer: Fit) -> None:
    several = {"num_return_sequences": 2}
    path = folder("bart", num_beams=3)
    rows = predicted(trainer(), Seq2SeqModule(model_name_or_path=path, generation=several), data_of(path))
    assert [len(row["predictions"]) for row in rows] == [2, 2, 2]
    with pytest.raises(UserError, match=r"generation: Greedy methods .*num_return_sequences"):
        predicted(
            trainer(), Seq2SeqModule(model_name_or_path=folder("bart"), generation=several), data_of(folder("bart"))
        )
    module = Seq2SeqModule(model_name_or_path=path, generation={"stop_strings": ["e"], "max_new_tokens": 30})
    for row in predicted(trainer(), module, data_of(path)):
        assert row["prediction"].find("e") in (-1, len(row["prediction"]) - 1)


@pytest.mark.parametrize("own", [None, -1])
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_what_nobody_says_is_bounded_and_padded(
    family: str, own: int | None, folder: Callable[..., str], trainer: Fit, tmp_path: Path
) -> None:
    path = make_seq2seq(family, tmp_path / family)
    config = tmp_path / family / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "pad_token_id": own}))
    module = Seq2SeqModule(model_name_or_path=path, generation={"max_new_tokens": None})
    trainer(max_steps=1).fit(module, data_of(path))
    assert module.model is not None
    assert module.model.generation_config.max_new_tokens == 6
    assert module.model.config.pad_token_id == AutoTokenizer.from_pretrained(path).pad_token_id
    model = AutoModelForSeq2SeqLM.from_pretrained(path)
    with pytest.raises(UserError, match="neither model nor tokenizer has a token for padding"):
        set_padding(model, None)


class Counting(Seq2SeqModule):
    """Notes for how many rows texts are generated."""

    written = 0

    def generated_ids(self, inputs: Any) -> Any:
        self.written += len(inputs["input_ids"])
        return super().generated_ids(inputs)


@pytest.mark.parametrize("case", ["rows left out", "few batches", "somebody else's loader"])
def test_as_many_rows_as_asked_for_are_generated(case: str, folder: Callable[..., str], trainer: Fit) -> None:
    path, rows = folder("bart"), pair_rows(40, source="en", target="de")
    if case == "rows left out":
        rows = [row if number % 10 < 3 else {**row, "de": None} for number, row in enumerate(rows)]
    module = Counting(model_name_or_path=path, max_generate_samples=4)
    data: Any = data_of(path, dataset={"validation": rows})
    if case == "somebody else's loader":
        tokenizer = AutoTokenizer.from_pretrained(path)
        batch = tokenizer([row["en"] for row in rows[:6]], return_tensors="pt", padding=True)
        batches = [{**batch, "labels": batch["input_ids"]}] * 2
        data = DataLoader(batches, batch_size=None)
    limit = {"limit_val_batches": 2} if case == "few batches" else {}
    (scores,) = trainer(**limit).validate(module, data, verbose=False)
    assert module.written == 4
    assert scores["val_exact_match"] == 0.0


def test_early_stopping_by_texts_of_some_epochs(folder: Callable[..., str], trainer: Fit) -> None:
    path, names = folder("bart"), {"source": "en", "target": "de"}
    data = {"train": pair_rows(8, **names), "validation": pair_rows(3, 20, **names)}
    for strict in (True, False):
        stopping = EarlyStopping("val_exact_match", mode="max", strict=strict, patience=9)
        module = Seq2SeqModule(model_name_or_path=path, eval_generate_every_n_epochs=2)
        run = trainer(max_epochs=2, callbacks=[stopping])
        if strict:
            with pytest.raises(UserError, match=r"'val_exact_match', which not every validation has.*strict: false"):
                run.fit(module, data_of(path, dataset=data))
        else:
            run.fit(module, data_of(path, dataset=data))
            assert run.current_epoch == 2


def test_scores_of_texts_of_some_epochs_have_intervals(
    folder: Callable[..., str], trainer: Fit, tmp_path: Path
) -> None:
    path, names = folder("bart"), {"source": "en", "target": "de"}
    data = data_of(path, dataset={"train": pair_rows(8, **names), "validation": pair_rows(3, 20, **names)})
    module = Seq2SeqModule(model_name_or_path=path, eval_generate_every_n_epochs=2, metrics=["rouge"])
    trainer(max_epochs=2, callbacks=[EvaluationRecord()]).fit(module, data)
    record = json.loads((tmp_path / "evaluation.val.json").read_text())
    (between,) = [one["intervals"] for one in record["sets"]]
    assert {"rouge1", "rouge2", "rougeL", "rougeLsum"} < set(between)
    low, high = between["rouge1"]
    assert low <= record["metrics"]["val_rouge1"] <= high


def test_what_data_say_reaches_the_model_of_a_checkpoint(
    folder: Callable[..., str], trainer: Fit, tmp_path: Path
) -> None:
    path, options = folder("mbart50"), {"model_name_or_path": folder("mbart50"), "metrics": ["exact_match"]}
    run, module = trainer(max_steps=1), TranslationModule(**options)
    run.fit(module, data_of(path, "mbart50"))
    run.save_checkpoint(tmp_path / "run.ckpt")
    rows = [{"en_XX": row["source"], "fr_XX": "x"} for row in pair_rows(3)]
    for given, new, begin in (
        ({}, 6, "de_DE"),
        ({"max_target_length": 99}, 6, "de_DE"),
        ({"val_max_target_length": 9}, 9, "de_DE"),
        ({"target_lang": "fr_XX", "dataset": {"predict": rows}}, 6, "fr_XX"),
    ):
        loaded = TranslationModule.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
        data = data_of(path, "mbart50", **given)
        predicted(trainer(), loaded, data)
        assert loaded.model is not None
        told = loaded.model.generation_config
        assert told.max_new_tokens == new
        assert data.tokenizer.convert_ids_to_tokens(told.forced_bos_token_id) == begin
    loaded = TranslationModule.load_from_checkpoint(
        tmp_path / "run.ckpt", generation={"max_new_tokens": 7}, weights_only=True
    )
    predicted(trainer(), loaded, data_of(path, "mbart50", val_max_target_length=9))
    assert loaded.model is not None
    assert loaded.model.generation_config.max_new_tokens == 7


def test_a_text_file_is_predicted_by_a_run_on_named_columns(
    folder: Callable[..., str], trainer: Fit, tmp_path: Path
) -> None:
    path = folder("bart")
    rows = [{"document": row["source"], "summary": row["target"]} for row in pair_rows(6)]
    module = SummarizationModule(model_name_or_path=path, metrics=["exact_match"])
    trainer(max_steps=1).fit(module, SummarizationDataModule(model_name_or_path=path, dataset={"train": rows}))
    (tmp_path / "new.txt").write_text("one\ntwo\n", encoding="utf-8")
    data = SummarizationDataModule(model_name_or_path=path, predict_file=str(tmp_path / "new.txt"))
    assert [row["source"] for row in predicted(trainer(), module, data)] == ["one", "two"]


def test_global_attention_is_there_when_texts_are_written(folder: Callable[..., str], trainer: Fit) -> None:
    path = folder("led")
    module = Seq2SeqModule(model_name_or_path=path, generation={"max_new_tokens": 5})
    texts = [row["source"] for row in pair_rows(3)]
    inputs = dict(AutoTokenizer.from_pretrained(path)(texts, return_tensors="pt", padding=True))
    inputs.pop("token_type_ids", None)
    first = torch.zeros_like(inputs["input_ids"])
    first[:, 0] = 1
    scores = []
    for batch in (inputs, {**inputs, "global_attention_mask": first}):
        rows = predicted(trainer(), module, DataLoader([batch], batch_size=None))
        scores.append([row["score"] for row in rows])
        assert module.model is not None
        ids = module.model.eval().generate(**batch)
        with torch.no_grad():
            logits = module.model(**batch, decoder_input_ids=ids[:, :-1]).logits.log_softmax(-1)
        chances = logits.gather(2, ids[:, 1:, None])[..., 0]
        counted = chosen_tokens(ids, module.model.generation_config)[0]
        expected = (chances * counted).sum(1) / counted.sum(1)
        np.testing.assert_allclose(scores[-1], expected.numpy(), atol=2e-5)
    assert scores[0] != scores[1]


@pytest.mark.parametrize("family", ["marian", "pegasus"])
def test_no_parameter_waits_for_a_gradient(family: str, folder: Callable[..., str]) -> None:
    # DistributedDataParallel refuses those; loading makes parameters of computed positions
    module = Seq2SeqModule(model_name_or_path=folder(family))
    module.build()
    ids = torch.randint(5, 50, (2, 6))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    module.loss(module.outputs(batch), batch)[0].backward()
    assert [name for name, each in module.named_parameters() if each.requires_grad and each.grad is None] == []


def test_positions_that_grow_by_themselves(folder: Callable[..., str], trainer: Fit) -> None:
    path = folder("m2m_100")
    long = [{"source": " ".join(text["source"] for text in pair_rows(60)), "target": "A"}] * 3
    module = Seq2SeqModule(model_name_or_path=path, padding_free="on", predict_with_generate=False)
    data = Seq2SeqDataModule(
        model_name_or_path=path, dataset={"train": pair_rows(4), "validation": long}, max_source_length=300,
        on_bad_rows={"duplicate": "keep"},
    )  # fmt: skip
    (scores,) = trainer().validate(module, data, verbose=False)
    (batch,) = data.val_dataloader()[0]
    assert batch["input_ids"].shape[1] == 300
    model = AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    names = ("input_ids", "attention_mask", "labels")
    assert scores["val_loss"] == pytest.approx(float(model(**{name: batch[name] for name in names}).loss), rel=1e-5)


def test_codes_of_languages_are_no_text(folder: Callable[..., str]) -> None:
    """M2M100's tokenizer in transformers 5 does not take them for special tokens; here an ordinary one does so, too."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder("mbart50"))
    text = tokenizer("THE END", add_special_tokens=False).input_ids
    ids = torch.tensor([[2, tokenizer.convert_tokens_to_ids("de_DE"), *text, 2]])

    class Telling(type(tokenizer)):  # type: ignore[misc]
        def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **more: Any) -> Any:
            return super().batch_decode([[i for i in row if i > 4] for row in sequences.tolist()], **more)

    tokenizer.__class__ = Telling
    assert "de_DE" in tokenizer.batch_decode(ids)[0]
    assert texts_of(tokenizer, ids) == ["THE END"]
