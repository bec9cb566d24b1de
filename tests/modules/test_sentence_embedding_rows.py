"""Rows of sentence embeddings: which come together, which are left out, kinds validated on others; what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from lightning.pytorch import Trainer

from lit_ft import SentenceEmbeddingDataModule, SentenceEmbeddingModule
from lit_ft.errors import UserError
from tests.modules.test_sentence_embedding import ROWS, fitted, made
from tests.tiny import texts


def test_labelled_texts_come_two_of_a_label_at_a_time(tiny: Callable[..., str]) -> None:
    rows = [{"text": text, "label": "abcdefg"[at % 7]} for at, text in enumerate(texts()[:52])]
    _, data = made(tiny("bert"), "labelled", rows=rows, batch_options={"train_sampling_strategy": "random"})
    data.setup("fit")
    orders = []
    for epoch in range(2):
        data._train_sampler.set_epoch(epoch)
        orders.append([index for _, index in data._train_sampler])
        assert sorted(orders[-1]) == [*range(52)]
        twos = [[rows[at]["label"] for at in orders[-1][first : first + 2]] for first in range(0, 52, 2)]
        # 52 = 3 labels with 8 rows and 4 with 7, of which one each is left over
        assert sum(one != other for one, other in twos) <= 2
    assert orders[0] != orders[1]
    for option in ({"max_tokens_per_batch": 400}, {"train_sampling_strategy": "group_by_length"}):
        _, data = made(tiny("bert"), "labelled", batch_options={"train_sampling_strategy": "random", **option})
        with pytest.raises(UserError, match="two of a label at a time"):
            data.setup("fit")
    _, data = made(tiny("bert"), "labelled", batch_options={"train_sampling_strategy": "random", "streaming": True})
    with pytest.raises(UserError, match="labelled texts come two of a label at a time: leave streaming out"):
        data.setup("fit")


def test_prompts_stand_before_the_texts(tiny: Callable[..., str]) -> None:
    data = SentenceEmbeddingDataModule(
        model_name_or_path=tiny("bert"), dataset={"train": ROWS["pairs"]}, prompts={"anchor": "query: "},
        validation_split_percentage=0,
    )  # fmt: skip
    data.setup("fit")
    first = data.sequences(data.batch_of("train", [data.features["train"][""][(0, 0)]]))
    assert first[0].title == "anchor"
    assert first[0].text.split()[1:5] != first[1].text.split()[1:5]
    whole = data.tokenizer("query: " + ROWS["pairs"][0]["anchor"])["input_ids"]
    assert len(first[0].tokens) == min(len(whole), data.longest_feature)


@pytest.mark.parametrize(
    ("trained", "other"), [("labelled", "scored"), ("scored", "labelled"), ("labelled", "pairs"), ("scored", "pairs")]
)
def test_a_model_is_validated_on_rows_of_another_kind(tiny: Callable[..., str], trained: str, other: str) -> None:
    _, before = made(tiny("bert"), trained)
    before.setup("fit")
    found = []
    for known in ({}, before.description):  # of a model that nobody trained, and of one that was trained on others
        module, data = made(tiny("bert"), other)
        module.description = known
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        found.append(trainer.validate(module, data, verbose=False)[0])
        assert module.kind == other
    assert found[1] == pytest.approx(found[0])


@pytest.mark.parametrize("kind", ["scored", "labelled"])
def test_rows_without_a_score_or_a_label_are_dropped_or_not_scored(tiny: Callable[..., str], kind: str) -> None:
    mark = "score" if kind == "scored" else "label"
    none = [None] if kind == "scored" else [None, "-1", ""]  # a score may be -1
    rows = [*ROWS[kind], *({**ROWS[kind][at], mark: cell} for at, cell in enumerate(none))]
    data = SentenceEmbeddingDataModule(
        model_name_or_path=tiny("bert"), dataset={"train": rows}, validation_split_percentage=0,
        on_bad_rows={"unlabelled": "drop"},
    )  # fmt: skip
    data.setup("fit")
    assert data.features["train"][""].store.column("row").tolist() == [*range(24)]
    assert "-1" not in (data.description.get("label_names") or [])
    found = []
    for each in (ROWS[kind], rows):
        data = SentenceEmbeddingDataModule(model_name_or_path=tiny("bert"), dataset={"validation": each}, batch_size=50)
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        found += trainer.validate(SentenceEmbeddingModule(model_name_or_path=tiny("bert")), data, verbose=False)
    assert data.label_of(data.batch_of("validation", [data.features["validation"][""][24]])) is None
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("pairs", {"loss": "cosent"}, "is not for pairs:"),
        ("scored", {"loss": "multiple_negatives"}, "is not for pairs with scores"),
        ("pairs", {"loss": "triplet"}, "wants three columns"),
        ("pairs", {"matryoshka_dims": [64]}, "more than the model's 32"),
        ("labelled", {"loss": "triplet"}, "not for texts with labels: choose one of batch_all"),
        ("scored", {"gather_across_devices": True}, "is for multiple_negatives, not for cosent"),
    ],
)
def test_what_does_not_fit_is_named(tiny: Callable[..., str], kind: str, options: Any, message: str) -> None:
    module, data = made(tiny("bert"), kind, **options)
    with pytest.raises(UserError, match=message):
        fitted(module, data)


def test_options_out_of_their_range_are_named(tiny: Callable[..., str]) -> None:
    for options, message in (
        ({"loss": "multiple_negative"}, "did you mean 'multiple_negatives'"),
        ({"pooling": "max"}, "choices: mean, cls, last"),
        ({"scale": 0}, "must be above 0"),
        ({"mini_batch_size": 0}, "must be above 0"),
        ({"matryoshka_dims": []}, "at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            SentenceEmbeddingModule(model_name_or_path=tiny("bert"), **options)
    rows = [{"one": "a", "two": "b"}]
    data = SentenceEmbeddingDataModule(
        model_name_or_path=tiny("bert"), dataset={"train": rows}, validation_split_percentage=0
    )
    with pytest.raises(UserError, match="which columns are anchor and positive"):
        data.setup("fit")
