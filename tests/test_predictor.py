"""`load_predictor`: the rows that `predict` writes, of checkpoints, runs and folders of every task."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer, seed_everything
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

import lit_ft
from lit_ft import (
    InstructionTuningDataModule,
    InstructionTuningModule,
    PreferenceDataModule,
    PreferenceModule,
    Seq2SeqModule,
    cli,
)
from lit_ft.commands.export import export as export_command
from lit_ft.errors import UserError
from tests.conversations import conversation
from tests.modules.test_adapters import LORA, causal, with_adapter
from tests.modules.test_exact_resume import choosing, classification, masked, questions, tagged, writing
from tests.pairs import NO_DROPOUT, make_seq2seq, pair_rows
from tests.preferences import make_preference_model
from tests.preferences import pair_rows as preferred
from tests.questions import question_rows
from tests.sentences import sentences
from tests.tiny import texts


def plain_trainer(**options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip


def chatting(model: str, **options: Any) -> tuple[Any, Any]:
    chats = [{"messages": conversation(number)} for number in range(12)]
    data = InstructionTuningDataModule(
        model_name_or_path=model, dataset={"train": chats}, validation_split_percentage=0, max_seq_length=100, **options
    )
    return InstructionTuningModule(model_name_or_path=model, generation={"max_new_tokens": 4}), data


def preferring(model: str, **options: Any) -> tuple[Any, Any]:
    data = PreferenceDataModule(
        model_name_or_path=model, dataset={"train": preferred(12)}, validation_split_percentage=0, max_seq_length=100,
        **options,
    )  # fmt: skip
    return PreferenceModule(model_name_or_path=model, peft=LORA), data


def preferring_whole(model: str, **options: Any) -> tuple[Any, Any]:
    """Without an adapter: the reference is a second model, made of the weights that training began with."""
    return PreferenceModule(model_name_or_path=model), preferring(model, **options)[1]


def summing_up(model: str, **options: Any) -> tuple[Any, Any]:
    _, data = writing(model, **options)
    return Seq2SeqModule(model_name_or_path=model, learning_rate=3e-3, generation={"max_new_tokens": 6}), data


MASKED = [{"text": f"{text[:30]} [MASK] {text[40:60]}"} for text in texts()[:9]]
TASKS: dict[str, tuple[Any, Any, list[dict[str, Any]]]] = {
    "classification": (classification, "bert", [{"text": text, "extra": at} for at, text in enumerate(texts()[:19])]),
    "adapter": (with_adapter(classification, LORA), "bert", [{"text": text} for text in texts()[:19]]),
    "masked": (masked, "bert", MASKED),
    "choosing": (
        choosing, "bert", [{"context": text[:40], "options": [text[3:9], text[4:30], text[:8]]} for text in texts()[:9]]
    ),
    "questions": (questions, "bert", [{k: v for k, v in row.items() if k != "answers"} for row in question_rows(9)]),
    "tagged": (tagged, "bert", [{"tokens": row["tokens"]} for row in sentences(9, 5)]),
    "causal": (causal, "llama", [{"text": text[:40]} for text in texts()[:9]]),
    "chats": (chatting, "chat", [{"messages": conversation(number)[:-1]} for number in range(20, 27)]),
    "preferences": (preferring, "chat", preferred(7, 30)),
    "preferences, whole": (preferring_whole, "chat", preferred(7, 30)),
    "pairs": (summing_up, "t5", [{"source": row["source"]} for row in pair_rows(9, 50)]),
}  # fmt: skip

OPTIONS = {
    "questions": ("max_seq_length", "doc_stride"), "tagged": ("max_seq_length",), "chats": ("max_seq_length",),
    "preferences": ("max_seq_length",), "preferences, whole": ("max_seq_length",), "masked": ("line_by_line",),
    "causal": ("block_size",),
}  # fmt: skip
"""Options that the data of a task were made with."""


def same(one: Any, other: Any) -> None:
    assert type(one) is type(other), (one, other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            same(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            same(mine, theirs)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=2e-5)
    else:
        assert one == other


@pytest.mark.parametrize("task", TASKS)
def test_rows_are_those_of_predict(tiny: Callable[..., str], tmp_path: Path, task: str) -> None:
    make, kind, rows = TASKS[task]
    if kind == "chat":
        model = make_preference_model(tmp_path / "model")
    else:
        model = make_seq2seq("t5", tmp_path / "t5", **NO_DROPOUT) if kind == "t5" else tiny(kind)
    module, data = make(model)
    seed_everything(3, verbose=False)
    trainer = plain_trainer(max_steps=2, limit_val_batches=0)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")

    options = {name: data.hparams[name] for name in OPTIONS.get(task, ())}
    predictor = lit_ft.load_predictor(tmp_path / "model.ckpt", batch_size=4, **options)
    found = predictor(rows)
    source = type(data)(
        model_name_or_path=model, dataset={"predict": rows}, predict_split_name="predict", batch_size=5, **options
    )
    batches = plain_trainer().predict(module, source)
    expected = [row for batch in batches or [] for row in batch]
    assert len(found) == len(rows)
    same(found, expected)
    same(predictor(rows[3]), found[3:4])
    assert predictor([]) == []


@pytest.mark.parametrize(
    ("task", "column"),
    [("classification", "sentence"), ("causal", "story"), ("masked", "story"), ("tagged", "tokens"),
     ("chats", "prompt"), ("pairs", "source")],
)  # fmt: skip
def test_lines_of_a_txt_file_are_texts_alone(tiny: Callable[..., str], tmp_path: Path, task: str, column: str) -> None:
    """Whatever the column of the training rows is called."""
    make, kind, _ = TASKS[task]
    if kind == "t5":
        model = make_seq2seq("t5", tmp_path / "t5", **NO_DROPOUT)
    else:
        model = make_preference_model(tmp_path / "model") if kind == "chat" else tiny(kind)
    module, data = make(model)
    name = {"classification": "text_column_names", "causal": "text_column_name", "masked": "text_column_name"}.get(task)
    if name:
        data = type(data)(
            model_name_or_path=model, train_file=data.hparams["train_file"], column_mapping={"text": column},
            validation_split_percentage=0, **{name: column},
        )  # fmt: skip
    trainer = plain_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    lines = [f"{text[:20]} [MASK]." for text in texts()[:5]]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")

    options = {name: data.hparams[name] for name in OPTIONS.get(task, ())}
    found = lit_ft.load_predictor(tmp_path / "model.ckpt", **options)(lines)
    source = type(data)(model_name_or_path=model, predict_file=str(tmp_path / "lines.txt"), **options)
    same(found, [row for batch in plain_trainer().predict(module, source) or [] for row in batch])
    assert [row[column] for row in found] == lines


def test_a_run_brings_its_options_and_a_folder_is_told_by_its_head(
    tiny: Callable[..., str], sample: Path, tmp_path: Path
) -> None:
    words = [
        "--model=TextClassificationModule", f"--model.model_name_or_path={tiny('bert')}",
        "--data=TextClassificationDataModule", f"--data.train_file={sample / 'train.csv'}",
        f"--data.validation_file={sample / 'validation.csv'}", "--data.max_seq_length=16", "--data.stride=4",
        "--data.text_column_names=text", "--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path / 'runs'}",
        "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--data.max_train_samples=50",
    ]  # fmt: skip
    run = cli.main(["fit", *words]).folder
    assert run is not None
    predictor = lit_ft.load_predictor(run)
    assert predictor.data.hparams["stride"] == 4
    said = texts()[5] * 3
    (one,) = predictor(said)
    assert one["text"] == said
    (other,) = lit_ft.load_predictor(run / "hf")(said)  # it says how rows are read, and nothing of this machine
    same(one, other)
    assert json.loads((run / "hf" / "lit_ft.json").read_text()) == {
        "lit_ft": lit_ft.__version__, "module": "lit_ft.modules.text_classification.TextClassificationModule",
        "data": "lit_ft.TextClassificationDataModule",
        "options": {"max_seq_length": 16, "stride": 4, "text_column_names": "text"},
    }  # fmt: skip
    (whole,) = lit_ft.load_predictor(run / "hf", task="TextClassification")(said)
    assert whole["scores"] != pytest.approx(one["scores"], abs=1e-7)


def test_what_a_folder_says_is_read_from_the_hub_too_and_not_trusted(tiny: Callable[..., str], tmp_path: Path) -> None:
    hub = tmp_path / "models--me--intents"
    snapshot = hub / "snapshots" / ("0" * 40)
    shutil.copytree(tiny("bert"), snapshot)
    AutoModelForSequenceClassification.from_pretrained(snapshot).save_pretrained(snapshot)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("0" * 40)
    told = {
        "module": "lit_ft.TextClassificationModule", "data": "lit_ft.TextClassificationDataModule",
        "options": {"stride": 4, "max_seq_length": 16, "trust_remote_code": True, "train_file": "/etc/passwd"},
    }  # fmt: skip
    (snapshot / "lit_ft.json").write_text(json.dumps(told))
    read = lit_ft.load_predictor("me/intents", cache_dir=str(tmp_path)).data.hparams
    assert (read["stride"], read["max_seq_length"]) == (4, 16)
    assert (read["trust_remote_code"], read["train_file"]) == (False, None)
    for wrong in ("{", json.dumps({**told, "module": "lit_ft.faults.explained"}), json.dumps([told])):
        (snapshot / "lit_ft.json").write_text(wrong)
        with pytest.raises(UserError, match=r"is not as lit_ft writes it|it is no TransformerModule of lit_ft"):
            lit_ft.load_predictor(snapshot)


class Shouting(lit_ft.TextClassificationDataModule):
    """Reads texts in its own way."""

    def tokenize(self, rows: dict[str, list[Any]], split: Any) -> dict[str, Any]:
        return super().tokenize({**rows, "text": [f"{text} !!" for text in rows["text"]]}, split)


class Own(lit_ft.TextClassificationModule):
    """A class of somebody's."""


@pytest.mark.parametrize("own", [lit_ft.TextClassificationModule, Own])
def test_rows_are_read_by_the_class_that_the_run_read_them_with(
    own: type[Any], tiny: Callable[..., str], sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        f"--model=tests.test_predictor.{own.__name__}", "--data=tests.test_predictor.Shouting",
        f"--data.train_file={sample / 'train.csv'}", "--data.text_column_names=text", "--data.max_train_samples=40",
        f"--model.model_name_or_path={tiny('bert')}", "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
        f"--trainer.default_root_dir={tmp_path / 'runs'}", "--trainer.enable_progress_bar=false",
    ]  # fmt: skip
    words[0] = words[0] if own is Own else "--model=TextClassificationModule"
    run = cli.main(["fit", *words]).folder
    assert run is not None
    path = f"{own.__module__}.{own.__name__}"
    for source in (run, run / "hf"):
        with pytest.raises(UserError, match=f"which is not lit_ft's: if you trust it, set class_path.*{own.__name__}"):
            lit_ft.load_predictor(source)
        predictor = lit_ft.load_predictor(source, class_path=path)
        assert (type(predictor.module), type(predictor.data)) == (own, Shouting)
        plain = lit_ft.load_predictor(run / "hf", task="TextClassification")
        same(predictor("late")[0]["scores"], plain("late !!")[0]["scores"])
    if own is Own:
        return
    (tmp_path / "trap.py").write_text("raise RuntimeError('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("tests.test_predictor.Shouting", "trap.Data"))
    with pytest.raises(UserError, match=r"read with trap.Data, which is not lit_ft's"):
        lit_ft.load_predictor(run)


def test_a_folder_says_how_long_its_texts_become(tmp_path: Path) -> None:
    model = make_seq2seq("t5", tmp_path / "t5", **NO_DROPOUT)
    module = Seq2SeqModule(model_name_or_path=model, generation={"max_new_tokens": 3})
    module.build().save_pretrained(tmp_path / "folder")
    assert module.tokenizer is not None
    module.tokenizer.save_pretrained(tmp_path / "folder")
    (found,) = lit_ft.load_predictor(tmp_path / "folder")("where is my parcel")
    inputs = module.tokenizer("where is my parcel", return_tensors="pt")
    written = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "folder").eval().generate(**inputs)
    assert written.shape[1] == 1 + 3
    assert found["prediction"] == module.tokenizer.decode(written[0], skip_special_tokens=True)
    (longer,) = lit_ft.load_predictor(tmp_path / "folder", generation={"max_new_tokens": 9})("where is my parcel")
    assert len(longer["prediction"]) > len(found["prediction"])


def test_a_folder_says_from_where_on_labels_count(tiny: Callable[..., str], tmp_path: Path) -> None:
    module = lit_ft.TextClassificationModule(
        model_name_or_path=tiny("bert"), label_names=["a", "b"], problem_type="multi_label", threshold=0.01
    )
    module.build().save_pretrained(tmp_path / "folder")
    assert module.tokenizer is not None
    module.tokenizer.save_pretrained(tmp_path / "folder")
    (found,) = lit_ft.load_predictor(tmp_path / "folder")("where is my parcel")
    assert found["predicted_labels"] == ["a", "b"]
    (none,) = lit_ft.load_predictor(tmp_path / "folder", threshold=0.99)("where is my parcel")
    assert none["predicted_labels"] == []


def test_an_adapters_folder_and_texts_alone(tmp_path: Path) -> None:
    model = make_preference_model(tmp_path / "model")
    module, data = with_adapter(chatting, LORA)(model)
    trainer = plain_trainer(max_steps=2, limit_val_batches=0)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    folder = export_command(["--ckpt_path", str(tmp_path / "model.ckpt"), "--out", str(tmp_path / "hf")])
    predictor = lit_ft.load_predictor(folder, task="InstructionTuning", generation={"max_new_tokens": 4})
    (row,) = predictor("how are you?")
    (expected,) = lit_ft.load_predictor(tmp_path / "model.ckpt")("how are you?")
    assert row == expected
    assert set(row) == {"prompt", "reply"}
    assert isinstance(lit_ft.load_predictor(folder).module, lit_ft.CausalLMModule)


def test_what_cannot_be_is_named(tiny: Callable[..., str], tmp_path: Path) -> None:
    bert = tiny("bert")
    with pytest.raises(UserError, match="did you mean 'TextClassification'"):
        lit_ft.load_predictor(bert, task="TextClasification")
    with pytest.raises(UserError, match="task is not"):
        lit_ft.load_predictor(bert)  # an encoder without a head
    predictor = lit_ft.load_predictor(bert, task="MaskedLM", batch_size=2)
    with pytest.raises(UserError, match="text"):
        predictor([{"number": 3}])
    with pytest.raises(UserError, match="QuestionAnsweringDataModule settles stride"):
        lit_ft.load_predictor(bert, task="QuestionAnswering", stride=3)
    with pytest.raises(UserError, match="has no option 'max_length'"):
        lit_ft.load_predictor(bert, task="MaskedLM", max_length=3)
    assert not predictor.module.training
