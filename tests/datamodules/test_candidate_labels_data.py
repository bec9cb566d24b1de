"""Texts beside what is said with each label: what is cut, what fits, which columns are read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from lit_ft.data.labels import IGNORED
from lit_ft.datamodules import EmbeddingZeroShotDataModule, ZeroShotDataModule
from lit_ft.errors import UserError

LABELS = ["refunds", "praise", "delivery"]
TEMPLATE = "it is all about {} and so on"


@pytest.fixture
def predicting(tiny: Callable[..., str], tmp_path: Path) -> Callable[..., Any]:
    def build(kind: type, rows: list[dict[str, Any]], stage: str = "predict", **options: Any) -> Any:
        path = tmp_path / "new.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        given = {"candidate_labels": LABELS, "hypothesis_template": TEMPLATE, f"{stage}_file": str(path), **options}
        data = kind(model_name_or_path=tiny("bert"), **given)
        data.setup(stage)
        return data

    return build


def test_texts_are_cut_as_the_pipeline_cuts_and_hypotheses_stay(
    tiny: Callable[..., str], predicting: Callable[..., Any]
) -> None:
    tokenizer, said = AutoTokenizer.from_pretrained(tiny("bert")), [TEMPLATE.format(label) for label in LABELS]
    longest = max(len(tokenizer(each, add_special_tokens=False)["input_ids"]) for each in said)
    rows = ["my parcel", "word " * 50, "thanks"]
    # [CLS] text [SEP] hypothesis [SEP]: room for one token of a text
    data = predicting(ZeroShotDataModule, [{"text": text} for text in rows], max_seq_length=longest + 4)
    (loader,) = data.predict_dataloader()
    found = {int(row): ids for batch in loader for row, ids in zip(batch["row"], batch["input_ids"], strict=True)}
    for number, text in enumerate(rows):
        theirs = tokenizer([text] * 3, said, truncation="only_first", max_length=longest + 4)["input_ids"]
        assert [[token for token in ids.tolist() if token != 0] for ids in found[number]] == theirs


@pytest.mark.parametrize(("kind", "frame"), [(ZeroShotDataModule, 4), (EmbeddingZeroShotDataModule, 2)])
def test_what_is_said_with_a_label_has_to_fit(kind: type, frame: int, predicting: Callable[..., Any]) -> None:
    rows, label = [{"text": "my parcel"}], "a " * 20
    assert predicting(kind, rows, candidate_labels=["b", label], hypothesis_template="{}", max_seq_length=20 + frame)
    with pytest.raises(UserError, match=f"a ' is 1 tokens longer than max_seq_length {19 + frame} has room for"):
        predicting(kind, rows, candidate_labels=["b", label], hypothesis_template="{}", max_seq_length=19 + frame)


def test_a_pair_is_not_read_as_its_first_text(predicting: Callable[..., Any]) -> None:
    rows = [{"premise": "my parcel", "hypothesis": "it is late"}]
    with pytest.raises(UserError, match=r"'premise' and 'hypothesis' are a pair.*text_column_names"):
        predicting(ZeroShotDataModule, rows)
    data = predicting(ZeroShotDataModule, rows, text_column_names=["premise", "hypothesis"])
    assert data.texts({name: [cell] for name, cell in rows[0].items()}) == ["my parcel it is late"]


def test_minus_one_is_no_label_unless_it_is_a_candidate(predicting: Callable[..., Any]) -> None:
    rows = [{"text": f"text {at}", "label": label} for at, label in enumerate(["praise", "-1", None, " ", "refunds"])]
    data = predicting(ZeroShotDataModule, rows, "test")
    assert data.features["test"][""].store.column("labels").tolist() == [1, IGNORED, IGNORED, IGNORED, 0]
    data = predicting(ZeroShotDataModule, rows[:2], "test", candidate_labels=["-1", "praise"])
    assert data.features["test"][""].store.column("labels").tolist() == [1, 0]
    rows = [{"text": f"text {at}", "label": label} for at, label in enumerate([1, -1])]
    data = predicting(ZeroShotDataModule, rows, "test", candidate_labels=["0", "1"])
    assert data.features["test"][""].store.column("labels").tolist() == [1, IGNORED]
