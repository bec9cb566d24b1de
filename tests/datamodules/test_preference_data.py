"""Batches of preferences against TRL's collator, what is compared in them, and rows that are not as they should be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from lit_ft import PreferenceDataModule
from lit_ft.errors import UserError
from tests.conversations import write_rows
from tests.preferences import judged_rows, make_preference_model, pair_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_preference_model(tmp_path_factory.mktemp("preference") / "model")


def data(model: str, rows: list[dict[str, Any]], folder: Path, **options: Any) -> PreferenceDataModule:
    path = write_rows(folder / "train.jsonl", rows)
    made = PreferenceDataModule(
        model_name_or_path=model, train_file=path, batch_size=4,
        train_sampling_strategy="sequential", preparation_dir=str(folder / "cache"),
        **{"max_seq_length": 400, "validation_file": path, **options},
    )  # fmt: skip
    made.setup("fit")
    return made


@pytest.mark.parametrize("longest", [400, 60])
def test_batches_are_those_of_trls_collator(model: str, tmp_path: Path, longest: int) -> None:
    dpo = pytest.importorskip("trl.trainer.dpo_trainer")
    rows = pair_rows(8)
    tokenizer = AutoTokenizer.from_pretrained(model)

    def ids(messages: list[dict[str, str]], asks: bool) -> list[int]:
        made = tokenizer.apply_chat_template(messages, add_generation_prompt=asks, return_dict=True)
        return list(made["input_ids"])

    examples = []
    for row in rows:
        prompt = ids(row["prompt"], True)
        replies = {
            f"{side}_ids": ids(row["prompt"] + row[side], False)[len(prompt) :] for side in ("chosen", "rejected")
        }
        examples.append({"prompt_ids": prompt, **replies})
    made = data(model, rows, tmp_path, max_seq_length=longest)
    collate = dpo.DataCollatorForPreference(pad_token_id=made.tokenizer.pad_token_id, max_length=longest)
    for number, batch in enumerate(made.train_dataloader()):
        expected = collate(examples[4 * number : 4 * number + 4])
        for name in ("input_ids", "attention_mask"):
            assert torch.equal(batch[name], expected[name])
        learned = expected["completion_mask"].bool()
        assert torch.equal(batch["labels"], torch.where(learned, expected["input_ids"], -100))


def test_judged_replies_come_with_their_judgement(model: str, tmp_path: Path) -> None:
    rows = judged_rows(8)
    made = data(model, rows, tmp_path)
    batch = next(iter(made.train_dataloader()))
    assert batch["desirable"].tolist() == [row["label"] for row in rows[:4]]
    assert batch["input_ids"].shape[0] == 4
    tokenizer = AutoTokenizer.from_pretrained(model)
    for row, ids, labels in zip(rows, batch["input_ids"], batch["labels"], strict=False):
        said = row["completion"][0]["content"] + "<|im_end|>"
        found = tokenizer.decode(ids[labels != -100]).replace("##", "")
        assert "".join(found.split()) == "".join(said.lower().split())
    assert made.description["paired"] is False


@pytest.mark.parametrize(
    ("written", "none"),
    [(bool, None), (str, ""), (str, " "), (str, "-1"), (int, -1), (float, None), (float, float("nan"))],
    ids=["null", "empty", "blank", "text", "number", "pandas", "nan"],
)
def test_replies_that_nobody_judged_are_an_error_left_out_or_not_scored(
    written: Callable[[bool], Any], none: Any, model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = judged_rows(8)
    gaps = [{**row, "label": none if at in (2, 5) else written(row["label"])} for at, row in enumerate(rows)]
    kept = [row for at, row in enumerate(rows) if at not in (2, 5)]
    with pytest.raises(UserError, match=r"2 of 8 rows have no label .*the first is row 3"):
        data(model, gaps, tmp_path)
    made = data(model, gaps, tmp_path, on_bad_rows={"unlabelled": "drop"})
    whole = data(model, kept, tmp_path)
    for ours, theirs in zip(made.features["train"][""], whole.features["train"][""], strict=True):
        assert ours["input_ids"].tolist() == theirs["input_ids"].tolist()
        assert ours["desirable"] == theirs["desirable"]
    evaluated = write_rows(tmp_path / "gaps.jsonl", gaps)
    with caplog.at_level("INFO", logger="lit_ft"):
        made = data(model, kept, tmp_path, validation_file=evaluated, eval_batch_size=8)
    assert any("2 of 8 rows have no label" in record.message for record in caplog.records)
    (batch,) = made.val_dataloader()[0]
    scored = (batch["labels"] != -100).any(1)
    assert batch["row"][~scored].sort().values.tolist() == [2, 5]
    told = dict(zip(batch["row"].tolist(), batch["desirable"].tolist(), strict=True))
    assert all(told[at] == rows[at]["label"] for at in range(8) if at not in (2, 5))
    assert all(told[at] == -1 for at in (2, 5))
    said = [made.label_of({name: value[[at]] for name, value in batch.items() if name != "info"}) for at in range(8)]
    assert [each is None for each in said] == (~scored).tolist()
    store = made.features["validation"][""].store
    good = sum(row["label"] for row in kept)
    assert [*made.label_counts(store).values()] == [good, len(kept) - good]


def test_rows_to_predict_need_no_judgement(model: str, tmp_path: Path) -> None:
    rows = [{**row, "label": None} for row in judged_rows(3)]
    made = PreferenceDataModule(model_name_or_path=model, predict_file=write_rows(tmp_path / "new.jsonl", rows))
    made.setup("predict")
    (batch,) = made.predict_dataloader()[0]
    assert len(batch["input_ids"]) == 3
    assert "desirable" not in batch


def test_every_row_comes_once_for_what_is_computed_before(model: str, tmp_path: Path) -> None:
    made = data(model, pair_rows(11), tmp_path, eval_batch_size=3)
    sizes = [len(batch["input_ids"]) // 2 for batch in made.every_batch()]
    assert sum(sizes) == 22  # the validation set has the same rows
    assert max(sizes) == 3


def test_equal_replies_and_those_that_are_cut_off_are_counted(
    model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = pair_rows(6)
    rows[2]["rejected"] = rows[2]["chosen"]
    with caplog.at_level("INFO", logger="lit_ft"):
        made = data(model, rows, tmp_path)
    assert made.report["sets"][0]["found"]["equal_replies"]["count"] == 1
    made = data(model, rows, tmp_path, on_bad_rows={"equal_replies": "drop"})
    assert len(made.features["train"][""]) == 5
    with pytest.raises(UserError, match="same reply as chosen and as rejected, the first is row 3"):
        data(model, rows, tmp_path, on_bad_rows={"equal_replies": "error"})
    caplog.clear()
    with caplog.at_level("INFO", logger="lit_ft"):
        data(model, rows, tmp_path, max_seq_length=50)
    assert any("rows have nothing to learn" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": [{"role": "assistant", "content": None}]}, r"row 3, .*no content"),
        ({"rejected": [{"role": "robot", "content": "No."}]}, r"row 3, .*unknown role 'robot'"),
        ({"prompt": []}, r"row 3, .*chosen"),
    ],
)
def test_a_bad_row_in_the_middle_of_a_file_is_named(
    model: str, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    rows = pair_rows(5)
    rows[2] = {**rows[2], **change}
    with pytest.raises(UserError, match=message):
        data(model, rows, tmp_path)


def test_sets_of_different_kinds_are_refused(model: str, tmp_path: Path) -> None:
    other = write_rows(tmp_path / "other.jsonl", judged_rows(4))
    with pytest.raises(UserError, match=r"holds pairs of replies, .* single ones"):
        data(model, pair_rows(4), tmp_path, validation_file=other)
    with pytest.raises(UserError, match="no format of preferences has the columns"):
        data(model, [{"question": "Why?", "answer": "So."}] * 3, tmp_path)
