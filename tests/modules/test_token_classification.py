"""The module of tagged words: against Hugging Face's Trainer, its pipeline, seqeval, and sequences tried one by one."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from seqeval.metrics import f1_score
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer, TrainingArguments, pipeline

from lit_ft import TokenClassificationDataModule, TokenClassificationModule
from lit_ft.data.reading.readers import ReadOptions, read_chunks
from lit_ft.errors import UserError
from tests.configs.lively import lively_model
from tests.modules.conftest import NO_DROPOUT
from tests.modules.given_batches import TrainerOnGivenBatches
from tests.modules.test_training_parity import Recorder, furthest, weights
from tests.sentences import TAGS, as_lines, sentences


@pytest.fixture(scope="module")
def tagger(tiny: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a tiny BERT with a (fresh) head for the tags, dropout off."""
    folder = tmp_path_factory.mktemp("tagger")
    torch.manual_seed(3)
    names = {"id2label": dict(enumerate(TAGS)), "label2id": {name: at for at, name in enumerate(TAGS)}}
    AutoModelForTokenClassification.from_pretrained(tiny("bert"), **names, **NO_DROPOUT).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny("bert")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> str:
    return lively_model("bert", AutoModel, tmp_path_factory.mktemp("lively"))


def data(model: str, rows: Any = None, **options: Any) -> TokenClassificationDataModule:
    return TokenClassificationDataModule(
        model_name_or_path=model,
        dataset=rows or {"train": sentences(80), "validation": sentences(20, 100), "test": sentences(20, 200)},
        **{"text_column_name": "tokens", "label_column_name": "tags", "batch_size": 4, **options},
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_twenty_steps_equal_hugging_faces_trainer(
    smoothing: float, tagger: str, tmp_path: Path, trainer: Callable[..., Trainer]
) -> None:
    steps, options = 20, {"learning_rate": 1e-3, "weight_decay": 0.01}
    module, recorder = data(tagger), Recorder()
    seed_everything(1)
    ours = TokenClassificationModule(model_name_or_path=tagger, label_smoothing_factor=smoothing, **options)
    trainer(max_steps=steps, limit_val_batches=0, gradient_clip_val=1.0, callbacks=[recorder]).fit(ours, module)
    batches = [batch for batch, _ in zip(module.train_dataloader(), range(steps), strict=False)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=steps, lr_scheduler_type="linear", max_grad_norm=1.0, save_strategy="no",
        report_to="none", use_cpu=True, disable_tqdm=True, label_smoothing_factor=smoothing, **options,
    )  # fmt: skip
    model = AutoModelForTokenClassification.from_pretrained(tagger)
    theirs = TrainerOnGivenBatches(batches, model=model, args=arguments)
    theirs.train()
    np.testing.assert_allclose(recorder.losses, theirs.losses, atol=1e-4)
    assert furthest(weights(ours), theirs.model.state_dict()) < 1e-4  # type: ignore[arg-type]


def predicted(
    model: str, rows: Any, trainer: Callable[..., Trainer], **options: Any
) -> tuple[Any, list[dict[str, Any]]]:
    own = {name: options.pop(name) for name in ("constrained_decoding", "labels") if name in options}
    seed_everything(1)
    module = TokenClassificationModule(model_name_or_path=model, **own)
    fitting, source = trainer(), data(model, {"train": sentences(80), "predict": rows}, **options)
    module.description = {}
    batches = fitting.predict(module, source)
    return module, [row for batch in batches or [] for row in batch]


def test_windows_give_every_word_one_tag(lively: str, trainer: Callable[..., Trainer]) -> None:
    rows = sentences(6, 300, length=90)
    module, found = predicted(lively, rows, trainer, max_seq_length=40, stride=10)
    assert [len(row["predicted_tags"]) for row in found] == [len(row["tokens"]) for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(lively)
    source = data(lively, {"train": sentences(80), "predict": rows}, max_seq_length=40, stride=10)
    source.setup("predict")
    (windows,) = source.features["predict"].values()
    at = dict.fromkeys(range(6), 0)
    for number in range(len(windows)):  # each window run by itself, its words where the tokenizer puts them
        feature = windows[number]
        with torch.no_grad():
            logits = module.model.eval()(input_ids=torch.tensor(feature["input_ids"])[None].long()).logits[0]
        tags = [module.description["labels"][id_] for id_ in logits[feature["first"].astype(int)].argmax(-1).tolist()]
        row, start = int(feature["row"]), at[int(feature["row"])]
        assert found[row]["predicted_tags"][start : start + len(tags)] == tags
        words = rows[row]["tokens"][start : start + len(tags)]
        pieces = [tokenizer.tokenize(word)[0] for word in words]
        assert tokenizer.convert_ids_to_tokens(feature["input_ids"][feature["first"]].tolist()) == pieces
        at[row] += len(tags)
    assert len(windows) > 12


def test_only_sequences_that_the_scheme_allows(lively: str, trainer: Callable[..., Trainer]) -> None:
    rows = [{"tokens": row["tokens"][:4], "tags": row["tags"][:4]} for row in sentences(30, 300)]
    scheme = {"tag_scheme": "BIOES"}
    module, free = predicted(lively, rows, trainer, **scheme)
    _, constrained = predicted(lively, rows, trainer, constrained_decoding=True, **scheme)
    names = module.description["labels"]

    def allowed(tags: tuple[str, ...]) -> bool:
        open_type = ""
        for tag in tags:
            letter, kind = tag[0], tag[2:]
            if (letter in "IE") != bool(open_type) or (open_type and kind != open_type):
                return False
            open_type = kind if letter in "BI" else ""
        return not open_type

    model, tokenizer, changed = module.model.eval(), AutoTokenizer.from_pretrained(lively), 0
    every = {size: itertools.product(range(len(names)), repeat=size) for size in (1, 2, 3)}
    sequences = {
        size: [ids for ids in found if allowed(tuple(names[at] for at in ids))] for size, found in every.items()
    }
    for one, other, row in zip(free, constrained, rows, strict=True):
        assert allowed(tuple(other["predicted_tags"]))
        changed += one["predicted_tags"] != other["predicted_tags"]
        if allowed(tuple(one["predicted_tags"])):
            assert other["predicted_tags"] == one["predicted_tags"]
        if len(row["tokens"]) < 4:
            encoded = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
            first = [encoded.word_ids().index(word) for word in range(len(row["tokens"]))]
            with torch.no_grad():
                scores = model(**encoded).logits[0][first].log_softmax(-1).numpy()
            best = max(sequences[len(first)], key=lambda s: sum(scores[at, tag] for at, tag in enumerate(s)))
            assert other["predicted_tags"] == [names[tag] for tag in best]
    assert changed > 3


def test_a_text_as_people_write_it(lively: str, trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    texts = ["Ada went to New  York, late.", "nothing", "(Berlin) paid: Acme's parcel!"]
    module, found = predicted(lively, [{"tokens": text} for text in texts], trainer)
    assert found[0]["words"] == ["Ada", "went", "to", "New", "York", ",", "late", "."]
    assert module.model is not None
    module.model.save_pretrained(tmp_path)
    module.tokenizer.save_pretrained(tmp_path)
    tag = pipeline("token-classification", str(tmp_path), aggregation_strategy="first", device="cpu")
    spans = 0
    for row, text in zip(found, texts, strict=True):
        expected = tag(text)
        spans += len(expected)
        keys = ("entity_group", "start", "end")
        assert [[each[key] for key in keys] for each in row["entities"]] == [
            [each[key] for key in keys] for each in expected
        ]
        assert all(each["word"] == text[each["start"] : each["end"]] for each in row["entities"])
        assert [each["score"] for each in row["entities"]] == pytest.approx(
            [float(each["score"]) for each in expected], abs=1e-5
        )
    assert spans > 2


def test_predicting_from_a_column_of_another_name(lively: str, trainer: Callable[..., Trainer]) -> None:
    module = TokenClassificationModule(model_name_or_path=lively)
    trainer(max_steps=1, limit_val_batches=0).fit(module, data(lively))
    rows = [{"satz": ["Ada", "went", "to", "Berlin"]}, {"satz": ["a", "refund"]}]
    source = data(lively, {"predict": rows}, text_column_name="satz")
    found = [row for batch in trainer().predict(module, source) or [] for row in batch]
    assert [row["satz"] for row in found] == [row["satz"] for row in rows]
    assert all("entities" in row for row in found)


def test_scores_of_rows_in_another_scheme(lively: str, trainer: Callable[..., Trainer]) -> None:
    module = TokenClassificationModule(model_name_or_path=lively)
    trainer(max_steps=1, limit_val_batches=0).fit(module, data(lively, tag_scheme="BIOES"))
    rows = sentences(20, 200)
    own = trainer().test(module, data(lively, {"test": rows}), verbose=False)[0]
    ends = [[*row["tags"][1:], "O"] for row in rows]
    letters = {("B", False): "U", ("B", True): "B", ("I", True): "I", ("I", False): "L"}
    for row, after in zip(rows, ends, strict=True):
        row["tags"] = [
            tag if tag == "O" else letters[tag[0], behind == f"I{tag[1:]}"] + tag[1:]
            for tag, behind in zip(row["tags"], after, strict=True)
        ]
    assert any(tag[0] == "U" for row in rows for tag in row["tags"])
    assert trainer().test(module, data(lively, {"test": rows}), verbose=False)[0] == own


def test_conll_lines(lively: str, tmp_path: Path) -> None:
    from lit_ft.cli import main

    rows = {"train": sentences(60), "test": sentences(9, 300)}
    words = ["--data.class_path=TokenClassificationDataModule", "--model.class_path=TokenClassificationModule"]
    for name, part in rows.items():
        (tmp_path / f"{name}.conll").write_text("-DOCSTART- O\n\n" + as_lines(part, ["tokens", "tags"]))
        words.append(f"--data.{name}_file={tmp_path / name}.conll")
    words += [f"--model.model_name_or_path={lively}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    main(["fit", *words, "--trainer.max_steps=3"])
    main(["predict", *words, "--ckpt_path=last", "--predictions.format=conll"])
    path = tmp_path / "runs/version_0/predictions/test.conll"
    ((_, table),) = read_chunks(path, ReadOptions(column_names=["tokens", "tags", "predicted"]))
    written = table.to_pylist()
    assert [row["tokens"] for row in written] == [row["tokens"] for row in rows["test"]]
    assert [row["tags"] for row in written] == [row["tags"] for row in rows["test"]]
    assert [row["id"] for row in written] == [row["id"] for row in rows["test"]]
    assert [row["opens_document"] for row in written] == [True, *[False] * 8]
    main(["test", *words, "--ckpt_path=last"])
    (metrics,) = (tmp_path / "runs").glob("*/metrics.csv")
    header, *lines = metrics.read_text().splitlines()
    found = float(lines[-1].split(",")[header.split(",").index("test_f1")])
    assert found == pytest.approx(
        f1_score([row["tags"] for row in written], [row["predicted"] for row in written]), abs=1e-5
    )


def test_batches_of_somebody_elses_loader(tagger: str, trainer: Callable[..., Trainer]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tagger)
    rows = [
        {**tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt", padding="max_length", max_length=96),
         "row": row} for row in sentences(12)
    ]  # fmt: skip
    batches = []
    for row in rows:
        labels = torch.full_like(row["input_ids"], -100)
        words = tokenizer(row["row"]["tokens"], is_split_into_words=True).word_ids()
        for word, tag in enumerate(row["row"]["tags"]):
            labels[0, words.index(word)] = TAGS.index(tag)
        batches.append({"input_ids": row["input_ids"], "attention_mask": row["attention_mask"], "labels": labels})
    loader = DataLoader(batches, batch_size=None)
    module = TokenClassificationModule(model_name_or_path=tagger, label_names=TAGS)
    (scores,) = trainer().validate(module, loader, verbose=False)
    model = AutoModelForTokenClassification.from_pretrained(tagger).eval()
    gold, found = [], []
    for batch in batches:
        with torch.no_grad():
            best = model(**batch).logits[0].argmax(-1)
        real = batch["labels"][0] != -100
        gold.append([TAGS[at] for at in batch["labels"][0][real].tolist()])
        found.append([TAGS[at] for at in best[real].tolist()])
    assert scores["val_f1"] == pytest.approx(f1_score(gold, found), abs=1e-6)
    (table,) = module.label_table("val")
    supports = Counter(tag[2:] for tags in gold for tag in tags if tag[0] == "B")
    assert {row["label"]: row["support"] for row in table} == supports
    trainer(max_steps=2, limit_val_batches=0).fit(module, loader)


@pytest.mark.parametrize(("options", "message"), [
    ({"label_smoothing_factor": 1.0}, "label_smoothing_factor is 1.0; it must be at least 0 and below 1"),
    ({"constrained_decoding": True, "label_names": ["NOUN", "VERB"]}, "constrained_decoding: plain tags have no"),
])  # fmt: skip
def test_what_does_not_go_together(
    options: dict[str, Any], message: str, lively: str, trainer: Callable[..., Trainer]
) -> None:
    with pytest.raises(UserError, match=message):
        trainer(max_steps=1).fit(TokenClassificationModule(model_name_or_path=lively, **options), DataLoader([]))


def test_a_head_of_another_size(tagger: str, trainer: Callable[..., Trainer]) -> None:
    rows = [{**row, "tags": [tag.replace("PER", "GPE") for tag in row["tags"]]} for row in sentences(20)]
    rows[0]["tags"] = ["B-NEW", *rows[0]["tags"][1:]]
    with pytest.raises(UserError, match=r"the pretrained head has 7 labels .* set ignore_mismatched_sizes"):
        trainer(max_steps=1).fit(TokenClassificationModule(model_name_or_path=tagger), data(tagger, {"train": rows}))
