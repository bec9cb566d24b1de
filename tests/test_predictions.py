"""Predictions run in batches of similar length, and are handed back and written in input order."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_ft import CausalLMDataModule, CausalLMModule, TextClassificationDataModule, TextClassificationModule
from lit_ft.callbacks.prediction_files import Parquet
from lit_ft.callbacks.predictions import PredictionWriter
from lit_ft.data.batching.merging import RowMerger
from lit_ft.data.ordering.samplers import RUN
from lit_ft.errors import UserError
from tests.processes import two_processes

WORDS = ["where", "is", "my", "order", "i", "want", "the", "refund", "now", "please"]
ROWS = [
    {"id": number, "text": " ".join(WORDS[(number * place) % 10] for place in range(1 + number * 7 % 23))}
    for number in range(2 * RUN + 77)
]
"""With batches of 2: a run of sorted rows and most of another."""
LABELS = ["no", "yes"]
LABELLED = [{**row, "label": LABELS[row["id"] % 3 == 0]} for row in ROWS]


def test_parquet_of_empty_lists_first(tmp_path: Path) -> None:
    batches = [[[{"labels": []}], [{"labels": ["x"]}]], [[{"labels": []}]]]
    for number, part in enumerate(batches):
        writer = Parquet(tmp_path / f"{number}", None, None)
        for batch in part:
            writer.write(batch)
        writer.close()
    Parquet.join([tmp_path / "0", tmp_path / "1"], tmp_path / "whole")
    assert pq.read_table(tmp_path / "whole")["labels"].to_pylist() == [[], ["x"], []]


class Widths(Callback):
    """Notes the shape of every batch that is evaluated."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_predict_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        self.seen.append(tuple(batch["input_ids"].shape))

    def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        self.seen.append(tuple(batch["input_ids"].shape))

    @property
    def places(self) -> int:
        return sum(rows * width for rows, width in self.seen)


def trainer_in(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(
        accelerator="cpu", logger=False, default_root_dir=folder, callbacks=list(callbacks), **{**quiet, **options}
    )


def data_of(model: str, **options: Any) -> TextClassificationDataModule:
    return TextClassificationDataModule(
        model_name_or_path=model, text_column_names="text", label_column_name="label",
        **{"dataset": {"train": LABELLED[:9], "predict": ROWS}, "batch_size": 2, **options},
    )  # fmt: skip


def module_of(model: str) -> TextClassificationModule:
    torch.manual_seed(0)
    return TextClassificationModule(model_name_or_path=model, label_names=LABELS)


def returned(folder: Path, module: LightningModule, data: Any, *callbacks: Callback, **options: Any) -> list[Any]:
    made = trainer_in(folder, *callbacks, **options).predict(module, data)
    return [row for batch in made or [] for row in batch]


@pytest.mark.parametrize(
    "options",
    [{}, {"max_seq_length": 12, "stride": 2}, {"eval_batch_size": 5, "num_workers": 1}],
    ids=["rows", "windows", "workers"],
)
@pytest.mark.parametrize("limit", [1.0, 3, 0.7])
def test_rows_come_back_in_input_order(options: dict[str, Any], limit: float, tiny: Any, tmp_path: Path) -> None:
    made, shapes = {}, {}
    for strategy in ("sequential", "group_by_length"):
        widths = Widths()
        data = data_of(tiny("bert"), eval_sampling_strategy=strategy, **options)
        written = PredictionWriter("parquet" if "stride" in options else "jsonl")
        rows = returned(
            tmp_path / strategy, module_of(tiny("bert")), data, widths, written, limit_predict_batches=limit
        )
        assert [row["id"] for row in rows] == list(range(len(rows)))
        (path,) = written.written
        on_disk = (
            pq.read_table(path).to_pylist()
            if path.suffix == ".parquet"
            else [json.loads(line) for line in path.read_text().splitlines()]
        )
        assert on_disk == rows
        made[strategy], shapes[strategy] = rows, widths
    plain, ours = made["sequential"], made["group_by_length"]
    assert len(ours) == len(plain)
    assert limit != 1.0 or len(ours) == len(ROWS)
    for one, other in zip(plain, ours, strict=True):
        assert {**one, "score": 0, "scores": 0} == {**other, "score": 0, "scores": 0}
        assert other["scores"] == pytest.approx(one["scores"], abs=1e-5)
    assert len(shapes["group_by_length"].seen) == len(shapes["sequential"].seen)
    if limit == 1.0:
        assert shapes["group_by_length"].places < 0.95 * shapes["sequential"].places
    run = [width for _, width in shapes["group_by_length"].seen[:RUN]]
    assert run == sorted(run, reverse=True)


def test_no_row_waits_for_longer_than_its_run(tiny: Any, tmp_path: Path) -> None:
    made = trainer_in(tmp_path).predict(module_of(tiny("bert")), data_of(tiny("bert"))) or []
    assert [len(batch) for batch in made if batch] == [2 * RUN, len(ROWS) - 2 * RUN]
    assert len(made[RUN - 1]) == 2 * RUN


def test_generated_texts_come_back_in_input_order(tiny: Any, tmp_path: Path) -> None:
    texts = {}
    for strategy in ("sequential", "group_by_length"):
        torch.manual_seed(0)
        data = CausalLMDataModule(
            model_name_or_path=tiny("gpt2"), dataset={"predict": ROWS[:40]}, batch_size=4, text_column_name="text",
            eval_sampling_strategy=strategy,
        )  # fmt: skip
        module = CausalLMModule(model_name_or_path=tiny("gpt2"), generation={"max_new_tokens": 3, "do_sample": False})
        rows = returned(tmp_path, module, data)
        assert [row["id"] for row in rows] == list(range(40))
        texts[strategy] = [row["generated_text"] for row in rows]
    assert texts["sequential"] == texts["group_by_length"]
    assert len(set(texts["sequential"])) > 1


@pytest.mark.parametrize("limit", [1.0, 4])
@pytest.mark.parametrize("stride", [None, 2])
def test_scores_do_not_depend_on_the_order(limit: float, stride: int | None, tiny: Any, tmp_path: Path) -> None:
    logged, places = [], []
    for strategy in ("sequential", "group_by_length"):
        widths = Widths()
        data = data_of(
            tiny("bert"), dataset={"train": LABELLED[:9], "validation": LABELLED}, eval_sampling_strategy=strategy,
            max_seq_length=12, stride=stride,
        )  # fmt: skip
        trainer = trainer_in(tmp_path, widths, limit_val_batches=limit)
        (scores,) = trainer.validate(module_of(tiny("bert")), data, verbose=False)
        logged.append(scores)
        places.append(widths.places)
    assert logged[1] == pytest.approx(logged[0], abs=1e-5)
    assert limit != 1.0 or places[1] < places[0]


def test_static_lengths_and_bare_loaders_keep_the_input_order(tiny: Any, tmp_path: Path) -> None:
    class Rows(Widths):
        def on_predict_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
            self.seen += batch["row"].tolist()

    rows = Rows()
    returned(tmp_path, module_of(tiny("bert")), data_of(tiny("bert"), pad_to_max_length=True, max_seq_length=32), rows)
    assert rows.seen == list(range(len(ROWS)))
    data = data_of(tiny("bert"))
    data.setup("predict")
    (before,) = data.predict_dataloader()
    returned(tmp_path, module_of(tiny("bert")), data)
    (after,) = data.predict_dataloader()  # of nobody's run: another Trainer may use any number of its batches
    for loader in (before, after):
        assert [row for batch in loader for row in batch["row"].tolist()] == list(range(len(ROWS)))
    some = trainer_in(tmp_path, limit_predict_batches=3).predict(module_of(tiny("bert")), after)
    assert [row["id"] for batch in some or [] for row in batch] == list(range(6))


class Foreign(LightningModule):
    """Somebody else's module: it counts tokens, and puts its rows back with a merger."""

    def __init__(self) -> None:
        super().__init__()
        self.merger = RowMerger()

    def predict_step(self, batch: Any, batch_idx: int) -> list[tuple[int, int]]:
        parts = [{"tokens": int(mask.sum())} for mask in batch["attention_mask"]]
        return [
            (info["id"], sum(part["tokens"] for part in parts)) for parts, info, *_ in self.merger.add(parts, batch)
        ]


def test_a_foreign_module_puts_rows_back(tiny: Any, tmp_path: Path) -> None:
    data = data_of(tiny("bert"))
    lengths = [len(ids) for ids in data.tokenizer([row["text"] for row in ROWS])["input_ids"]]
    assert returned(tmp_path, Foreign(), data) == list(enumerate(lengths))


def test_an_unknown_strategy_is_named(tiny: Any) -> None:
    with pytest.raises(UserError, match="eval_sampling_strategy is 'by_length'; choices: group_by_length, sequen"):
        data_of(tiny("bert"), eval_sampling_strategy="by_length")


@pytest.mark.parametrize(("kind", "limit"), [("jsonl", 1.0), pytest.param("parquet", 5, marks=pytest.mark.soak)])
def test_two_processes_write_in_input_order(kind: str, limit: float, tiny: Callable[..., str], tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, PredictionWriter(kind), limit_predict_batches=limit, **two_processes())
    data = data_of(tiny("bert"), max_seq_length=12, stride=2)
    trainer.predict(module_of(tiny("bert")), data, return_predictions=False)
    (path,) = (tmp_path / "predictions").iterdir()
    written = (
        pq.read_table(path).to_pylist()
        if kind == "parquet"
        else [json.loads(line) for line in path.read_text().splitlines()]
    )
    plain = data_of(tiny("bert"), max_seq_length=12, stride=2, eval_sampling_strategy="sequential")
    alone = returned(tmp_path / "alone", module_of(tiny("bert")), plain)
    ids = [row["id"] for row in written]
    if limit == 1.0:
        assert ids == list(range(len(ROWS)))
    else:  # each process stops after as many batches of its half, where a row may be cut open
        middle = len(ROWS) // 2
        front, back = [each for each in ids if each < middle], [each for each in ids if each >= middle]
        assert ids == [*range(len(front)), *range(middle, middle + len(back))]
        assert 3 <= len(front) <= 10
        assert 3 <= len(back) <= 10
    for row in written:
        assert row["scores"] == pytest.approx(alone[row["id"]]["scores"], abs=1e-5)
