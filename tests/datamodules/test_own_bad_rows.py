"""Kinds of bad rows that a task adds, or says in words of its own: counted, named, dropped, refused as all are."""

import re
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_ft import (
    PreferenceDataModule,
    SentenceEmbeddingDataModule,
    Seq2SeqDataModule,
    TextClassificationDataModule,
    TokenClassificationDataModule,
)
from lit_ft.data.quality.kinds import KINDS, kinds_with
from lit_ft.errors import UserError
from lit_ft.tasks import BadRows
from tests.pairs import make_seq2seq
from tests.tiny import texts

ROWS = [
    {"text": text.upper() if at % 5 == 2 else text.lower(), "label": "xy"[at % 2]}
    for at, text in enumerate(texts()[:20])
]
LOUD = [at for at in range(20) if at % 5 == 2]


class Quiet(TextClassificationDataModule):
    """Counts texts in capitals."""

    bad_rows: Mapping[str, BadRows] = {"shouting": BadRows("are in capitals", "write them small")}

    def tokenize(self, rows: dict[str, list[Any]], split: Any) -> dict[str, Any]:
        features = super().tokenize(rows, split)
        loud = np.array([text.isupper() for text in rows["text"]])
        return {**features, "shouting": loud[features["row"]]}


Make = Callable[..., Quiet]


@pytest.fixture
def make(tiny: Callable[..., str], tmp_path: Path) -> Make:
    def made(**options: Any) -> Quiet:
        options = {"dataset": ROWS, "validation_split_percentage": 0, **options}
        return Quiet(model_name_or_path=tiny("bert"), preparation_dir=str(tmp_path / "prepared"), **options)

    return made


def ready(data: Quiet) -> Quiet:
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.parametrize("stride", [None, 2])
def test_they_are_counted_and_named(make: Make, stride: int | None) -> None:
    data = ready(make(max_seq_length=10, stride=stride))
    (found,) = (one["found"]["shouting"] for one in data.report["sets"])
    assert (found["count"], found["dropped"], found["rows"]) == (len(LOUD), 0, LOUD)
    assert data.report["meaning"]["shouting"] == "are in capitals"
    (said,) = (each for each in data.summary()["findings"] if "in capitals" in each["what"])
    assert said["gravity"] == "harms"
    assert said["what"] == "train: 4 of 20 rows are in capitals"
    assert said["fix"] == "write them small, or on_bad_rows: {shouting: drop}"


def test_they_can_be_dropped(make: Make) -> None:
    data = ready(make(on_bad_rows={"shouting": "drop"}))
    kept = data.features["train"][""].row_of_feature
    assert sorted(set(kept.tolist())) == [at for at in range(20) if at not in LOUD]


def test_they_can_be_refused(make: Make) -> None:
    with pytest.raises(
        UserError, match=r"4 of 20 rows are in capitals, the first is .*row 3; write them small, or set"
    ):
        make(on_bad_rows={"shouting": "error"}).prepare_data()


def test_other_tasks_do_not_know_them(tiny: Callable[..., str]) -> None:
    for kind, task in (("shouting", TextClassificationDataModule), ("equal_replies", Quiet)):
        with pytest.raises(UserError, match=f"there is no kind '{kind}'"):
            task(model_name_or_path=tiny("bert"), dataset=ROWS, on_bad_rows={kind: "drop"})


def test_streamed_rows_are_judged_too(make: Make) -> None:
    options = {"streaming": True, "label_names": ["x", "y"], "batch_size": 4}
    data = ready(make(on_bad_rows={"shouting": "drop"}, **options))
    batches = list(islice(data.train_dataloader(), 10))
    pairs = [pair for batch in batches for pair in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    seen = {tuple(ids[mask > 0].tolist()) for ids, mask in pairs}
    assert seen == {tuple(data.tokenizer(row["text"])["input_ids"]) for at, row in enumerate(ROWS) if at not in LOUD}
    with pytest.raises(UserError, match="one of the rows that are in capitals: write them small"):
        list(islice(ready(make(on_bad_rows={"shouting": "error"}, **options)).train_dataloader(), 10))


def test_names_are_their_own_and_few() -> None:
    names = list(kinds_with(TokenClassificationDataModule.bad_rows))
    assert names.index("unknown_label") + 1 == names.index("ill_formed_tags")
    assert [name for name in names if name != "ill_formed_tags"] == list(KINDS)
    assert set(kinds_with(PreferenceDataModule.bad_rows)) == {*KINDS, "equal_replies"}
    one = BadRows("are so", "mend them")
    for own in ({"duplicate": one}, {str(number): one for number in range(5)}):
        with pytest.raises(UserError, match="bad_rows: at most 4 kinds with names of their own"):
            kinds_with(own)


CUT: dict[str, tuple[type[Any], tuple[str, str], dict[str, Any], str, str]] = {
    "seq2seq": (
        Seq2SeqDataModule, ("source", "target"), {"max_source_length": 6},
        "are longer than max_source_length or max_target_length", "raise the one that is short",
    ),
    "embedding": (
        SentenceEmbeddingDataModule, ("anchor", "positive"), {"max_seq_length": 6},
        "are longer than max_seq_length", "raise max_seq_length",
    ),
    "classes": (
        TextClassificationDataModule, ("text", "label"), {"max_seq_length": 6, "label_names": ["no", "yes"]},
        "are longer than max_seq_length", "raise max_seq_length, or set stride to read them in windows",
    ),
}  # fmt: skip
"""Of some tasks, columns, options, and what is said of rows that are too long."""


@pytest.mark.parametrize("task", CUT)
def test_rows_that_are_cut_are_said_in_the_words_of_the_task(
    task: str, tiny: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lit_ft")
    kind, columns, options, are, fix = CUT[task]
    model = make_seq2seq("t5", tmp_path / "t5") if task == "seq2seq" else tiny("bert")
    cells = (("one", "yes"), ("one two three four five six seven", "no"), ("two", "yes"))
    rows = [dict(zip(columns, each, strict=True)) for each in cells]

    def made(**more: Any) -> Any:
        return ready(
            kind(model_name_or_path=model, dataset={"train": rows}, validation_split_percentage=0, **options, **more)
        )

    data = made()
    assert data.report["meaning"]["cut"] == are
    assert re.search(rf"1 of 3 rows {are} and lose \d+ tokens \({fix}\)", caplog.text)
    (found,) = (each for each in data.summary()["findings"] if "longer" in each["what"])
    assert re.fullmatch(rf"train: 1 of 3 rows {are}, and lose \d+ tokens", found["what"])
    assert found["fix"] == f"{fix}, or on_bad_rows: {{cut: drop}}"
    with pytest.raises(UserError, match=rf"rows {are}, the first is row 2; {fix}, or set on_bad_rows: .cut: drop"):
        made(on_bad_rows={"cut": "error"})
    caplog.clear()
    next(iter(made(streaming=True).train_dataloader()))
    assert re.search(rf"streamed rows {are}, such as one that loses \d+ tokens", caplog.text)
    with pytest.raises(UserError, match=rf"row 2, one of the rows that {are}: {fix}, or set on_bad_rows"):
        next(iter(made(streaming=True, on_bad_rows={"cut": "error"}).train_dataloader()))
