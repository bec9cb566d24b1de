"""Seq2SeqModule on tiny models of every family: trains as transformers' Trainer does, generates, scores, exports."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from rouge_score.rouge_scorer import RougeScorer
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    GenerationConfig,
    PegasusConfig,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from lit_ft import Seq2SeqDataModule, Seq2SeqModule, SummarizationModule, TranslationDataModule, TranslationModule
from lit_ft.callbacks import RunCheckpoint
from lit_ft.callbacks.export import export
from lit_ft.errors import UserError
from lit_ft.ops.building.seq2seq import check_lengths
from lit_ft.runs import read_checkpoint
from tests.pairs import FAMILIES, LANGUAGES, make_seq2seq, pair_rows
from tests.processes import two_processes
from tests.scored_texts import streams

Fit = Callable[..., Trainer]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    made: dict[str, str] = {}

    def make(family: str) -> str:
        if family not in made:
            made[family] = make_seq2seq(family, tmp_path_factory.mktemp(family))
        return made[family]

    return make


def data_of(folder: str, family: str = "bart", **options: Any) -> TranslationDataModule:
    source, target = LANGUAGES.get(family, ("en", "de"))
    names = {"source": source, "target": target}
    usual = {
        "dataset": {"train": pair_rows(48, **names), "validation": pair_rows(10, 60, **names)},
        "batch_size": 6, "max_target_length": 40, "source_lang": source, "target_lang": target,
    }  # fmt: skip
    return TranslationDataModule(model_name_or_path=folder, **{**usual, **options})


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.values.append(float(outputs["loss"]))


class Fixed(Seq2SeqTrainer):
    """Hugging Face's Trainer on given batches; its own log rounds the losses, so they are kept here."""

    def __init__(self, batches: list[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batches, self.losses = batches, []

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.batches, batch_size=None)

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        self.losses.append(float(loss))
        return loss


@pytest.mark.parametrize(
    ("family", "smoothing"), [("t5", 0.0), ("t5", 0.1), ("bart", 0.0), ("marian", 0.1), ("mbart", 0.0)]
)
def test_twenty_steps_equal_seq2seq_trainers(
    family: str, smoothing: float, folder: Callable[[str], str], trainer: Fit, tmp_path: Path
) -> None:
    steps, path = 20, folder(family)
    data = data_of(
        path,
        family,
        dataset={
            "train": pair_rows(120, **dict(zip(("source", "target"), LANGUAGES.get(family, ("en", "de")), strict=True)))
        },
        validation_split_percentage=0,
    )
    seed_everything(1)
    losses = Losses()
    ours = Seq2SeqModule(
        model_name_or_path=path, learning_rate=1e-3, num_warmup_steps=3, label_smoothing_factor=smoothing,
        padding_free="on",
    )  # fmt: skip
    trainer(max_steps=steps, gradient_clip_val=1.0, callbacks=[losses]).fit(ours, data)

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForSeq2SeqLM.from_pretrained(path)
    assert ours.model is not None
    for name, value in ours.model.named_parameters():  # some releases of transformers train Marian's computed positions
        model.get_parameter(name).requires_grad_(value.requires_grad)
    collate = DataCollatorForSeq2Seq(tokenizer, model=model)
    batches = []
    for batch, _ in zip(data.train_dataloader(), range(steps), strict=False):
        rows = [
            {
                "input_ids": ids[mask > 0].tolist(),
                "attention_mask": mask[mask > 0].tolist(),
                "labels": labels[labels != -100].tolist(),
            }
            for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
        ]
        batches.append(dict(collate(rows)))
    assert len({batch["labels"].shape for batch in batches}) > 2
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path / "theirs"), max_steps=steps, warmup_steps=3, learning_rate=1e-3, max_grad_norm=1.0,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, label_smoothing_factor=smoothing,
    )  # fmt: skip
    theirs = Fixed(batches, model=model, args=arguments, processing_class=tokenizer)
    theirs.train()
    assert len(losses.values) == len(theirs.losses) == steps
    np.testing.assert_allclose(losses.values, theirs.losses, atol=1e-4)
    assert max(theirs.losses) - min(theirs.losses) > 0.2
    assert ours.model is not None
    for name, value in ours.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], atol=2e-4, rtol=0, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_generates_and_is_exported(
    family: str, folder: Callable[[str], str], trainer: Fit, tmp_path: Path
) -> None:
    data = data_of(folder(family), family, max_target_length=40)
    module = TranslationModule(
        model_name_or_path=folder(family), learning_rate=3e-3, generation={"num_beams": 2}, metrics=["exact_match"]
    )
    run = trainer(max_steps=8, val_check_interval=8, enable_checkpointing=False)
    run.fit(module, data)
    scores = {name: float(value) for name, value in run.callback_metrics.items()}
    assert {"val_loss", "val_perplexity", "val_accuracy", "val_exact_match"} <= set(scores)
    assert scores["val_loss"] == pytest.approx(math.log(scores["val_perplexity"]), abs=1e-4)
    path = tmp_path / "run.ckpt"
    run.save_checkpoint(path)
    target = export(module, read_checkpoint(path), tmp_path / "hf", None)

    predicted = [
        row
        for batch in run.predict(
            module,
            data_of(
                folder(family),
                family,
                dataset={"predict": pair_rows(5, 30, source=LANGUAGES.get(family, ("en",))[0], target="x")},
                predict_split_name="predict",
            ),
        )
        for row in batch
    ]
    tokenizer, model = AutoTokenizer.from_pretrained(target), AutoModelForSeq2SeqLM.from_pretrained(target).eval()
    texts = [row["source"] for row in pair_rows(5, 30)]
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    inputs.pop("token_type_ids", None)
    written = tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)
    assert [row["prediction"] for row in predicted] == written
    assert model.generation_config.num_beams == 2
    assert model.generation_config.max_new_tokens == 40
    if family in LANGUAGES:
        code = tokenizer.convert_tokens_to_ids(LANGUAGES[family][1])
        began = model.generation_config
        assert code in (began.forced_bos_token_id, began.decoder_start_token_id)
        assert (tokenizer.src_lang, tokenizer.tgt_lang) == LANGUAGES[family]
        assert (model.generate(**inputs)[:, :2] == code).any(1).all()


def test_loss_of_a_set_is_that_of_transformers(folder: Callable[[str], str], trainer: Fit) -> None:
    path, rows = folder("t5"), pair_rows(10, 60, source="en", target="de")
    module = Seq2SeqModule(model_name_or_path=path, label_smoothing_factor=0.2, predict_with_generate=False)
    (scores,) = trainer().validate(module, data_of(path, "t5", batch_size=4), verbose=False)
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForSeq2SeqLM.from_pretrained(path).eval()
    total, count = 0.0, 0
    for row in rows:
        inputs = tokenizer(row["en"], text_target=row["de"], return_tensors="pt")
        size = inputs["labels"].numel()
        total += float(model(**inputs).loss) * size
        count += size
    assert scores["val_loss"] == pytest.approx(total / count, rel=1e-5)
    assert set(scores) == {"val_loss", "val_perplexity", "val_accuracy"}


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


def test_targets_of_fillers_count_nowhere(folder: Callable[[str], str]) -> None:
    for family in ("mbart", "t5", "m2m_100"):
        module = Seq2SeqModule(model_name_or_path=folder(family))
        module.build()
        ids = torch.tensor([[5, 6, 7], [8, 9, 1]])
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.full((2, 3), -100)}
        total, count = module.loss(module.outputs(batch), batch)
        assert (float(total), float(count)) == (0.0, 0.0)
        total.backward()
        batch["labels"][0, :2] = torch.tensor([7, 2])
        inputs = module.model_inputs(batch)
        assert (inputs["decoder_input_ids"] >= 0).all()
        total, count = module.loss(module.outputs(batch), batch)
        assert module.model is not None
        assert float(total / count) == pytest.approx(
            float(module.model(**inputs, labels=batch["labels"]).loss), rel=1e-5
        )


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


@pytest.mark.parametrize("options", [{}, {"max_tokens_per_batch": 150}, {"train_sampling_strategy": "group_by_length"}])
def test_a_step_is_the_mean_over_its_labelled_tokens(
    options: dict[str, Any], folder: Callable[[str], str], trainer: Fit
) -> None:
    batches: list[Any] = []
    slopes: list[dict[str, torch.Tensor]] = []

    class Noting(Seq2SeqModule):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            batches.append(batch)
            return super().training_step(batch, batch_idx)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            super().on_before_optimizer_step(optimizer)
            slopes.append({name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None})

    module = Noting(model_name_or_path=folder("t5"), learning_rate=0.0, predict_with_generate=False)
    trainer(max_steps=2, accumulate_grad_batches=3).fit(module, data_of(folder("t5"), "t5", **options))
    model = AutoModelForSeq2SeqLM.from_pretrained(folder("t5"))
    counts = [int((batch["labels"] != -100).sum()) for batch in batches]
    assert len(set(counts[:3])) > 1
    for step in range(2):
        model.zero_grad()
        some = range(3 * step, 3 * step + 3)
        for number in some:
            batch = batches[number]
            names = ("input_ids", "attention_mask", "labels")
            loss = model(**{name: batch[name] for name in names}).loss
            (loss * counts[number] / sum(counts[at] for at in some)).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(slopes[step][name], parameter.grad, atol=1e-6, rtol=1e-4, msg=name)


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("bart", {}, {"generation": {"num_beam": 4}}, "no option 'num_beam'.*num_beams"),
    ("bart", {}, {"generation": {"max_length": 9}}, "set max_new_tokens"),
    ("bart", {}, {"generation": {"temperature": 0.5}}, "generation: .*do_sample"),
    ("bart", {}, {"generation": {"min_length": 50, "max_new_tokens": 9}}, "at least 50 tokens.*max_new_tokens is 9"),
    ("bart", {}, {"generation": {"max_new_tokens": 500}}, "max_new_tokens 500 is above the model's 160"),
    ("bart", {}, {"metrics": ["exact_mach"]}, "no 'exact_mach'.*exact_match"),
    ("bart", {}, {"label_smoothing_factor": 1.0}, "label_smoothing_factor is 1.0"),
    ("bart", {"max_source_length": 200}, {}, "max_source_length 200 is above the model's 160 positions, and bart"),
    ("bart", {"max_target_length": 200}, {}, "max_target_length 200 is above the model's 160 positions"),
    ("pegasus", {"max_target_length": 200}, {"resize_position_embeddings": False}, "set resize_position_embeddings"),
    ("led", {"max_target_length": 200}, {}, "max_target_length 200 is above the model's 160"),
    ("t5", {}, {"max_generate_samples": 0}, "max_generate_samples is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "data", "options", "message"), BAD, ids=[message[:40] for *_, message in BAD])
def test_bad_options(
    family: str, data: dict[str, Any], options: dict[str, Any], message: str, folder: Callable[[str], str], trainer: Fit
) -> None:
    with pytest.raises(UserError, match=message):
        trainer(max_steps=1).fit(
            Seq2SeqModule(model_name_or_path=folder(family), **options), data_of(folder(family), family, **data)
        )


def test_decoders_that_begin_with_nothing(tmp_path: Path, trainer: Fit) -> None:
    path = make_seq2seq("bart", tmp_path / "bart")
    config = json.loads((Path(path) / "config.json").read_text())
    (Path(path) / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": None}))
    with pytest.raises(UserError, match=r"does not say what its decoder begins with.*target_lang"):
        trainer(max_steps=1).fit(Seq2SeqModule(model_name_or_path=path), data_of(path))
    with pytest.raises(UserError, match="bert is no encoder-decoder"):
        Seq2SeqModule(model_type="bert")


def test_longer_texts_than_positions(folder: Callable[[str], str], trainer: Fit) -> None:
    module = SummarizationModule(model_name_or_path=folder("pegasus"), metrics=["exact_match"])
    trainer(max_steps=1).fit(module, data_of(folder("pegasus"), "pegasus", max_source_length=200))
    assert module.model is not None
    assert module.model.config.max_position_embeddings == 200
    # of two sides that are too long the longer one decides
    config = PegasusConfig(max_position_embeddings=64)
    assert check_lengths(config, {"max_source_length": 200, "max_target_length": 100}, None) == 200
    assert check_lengths(config, {"max_source_length": 100, "val_max_target_length": 200}, None) == 200


def test_from_scratch_with_a_tokenizer_of_its_own(trainer: Fit, tmp_path: Path) -> None:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 37, "decoder_ffn_dim": 37}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}
    rows = pair_rows(40, source="en", target="de")
    for model_type, start in (("marian", "<pad>"), ("bart", "</s>"), ("t5", "<pad>")):
        t5 = {"d_model": 32, "d_kv": 16, "d_ff": 37, "num_layers": 1, "num_heads": 2}
        data = TranslationDataModule(
            dataset={"train": rows, "validation": rows[:6]}, source_lang="en", target_lang="de", max_target_length=20,
            max_source_length=40, train_tokenizer={"vocab_size": 300},
        )  # fmt: skip
        module = TranslationModule(
            model_type=model_type, config_overrides=t5 if model_type == "t5" else sizes, metrics=["exact_match"]
        )
        run = trainer(max_steps=2, val_check_interval=2)
        run.fit(module, data)
        assert module.model is not None
        config, tokenizer = module.model.config, data.tokenizer
        assert config.decoder_start_token_id == tokenizer.convert_tokens_to_ids(start)
        assert (config.pad_token_id, config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
        assert config.vocab_size == len(tokenizer)
        path = tmp_path / f"{model_type}.ckpt"
        run.save_checkpoint(path)
        loaded = TranslationModule.load_from_checkpoint(path, weights_only=True)
        assert loaded.model is not None
        assert loaded.model.generation_config.to_dict() == module.model.generation_config.to_dict()
        own = GenerationConfig.from_model_config(config)
        assert module.model.generation_config.eos_token_id == own.eos_token_id == tokenizer.eos_token_id
        assert module.model.generation_config.forced_eos_token_id in (None, tokenizer.eos_token_id)
