"""Who gets which rows: every row once, the same steps in any number of processes, going on, in little memory."""

import json
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, Dataset

from lit_ft.data.ordering.orders import shuffled, token_batch_order, token_boundaries, weighted
from lit_ft.data.ordering.samplers import (
    FILLER,
    RUN,
    ContiguousSampler,
    GlobalOrderSampler,
    Key,
    LengthSortedSampler,
    TokenBudgetSampler,
    balanced_weights,
)
from tests.processes import two_processes

LENGTHS = np.minimum(np.random.default_rng(0).geometric(0.05, 199) + 2, 64)


def by_row(rows: int, batch: int, processes: int = 1, rank: int = 0) -> GlobalOrderSampler:
    return GlobalOrderSampler(partial(shuffled, rows, 42), rows, batch, processes, rank)


def by_tokens(budget: int, processes: int = 1, rank: int = 0, rows: int = 199) -> TokenBudgetSampler:
    lengths = LENGTHS[:rows]
    boundaries = token_boundaries(lengths, budget)
    order = partial(token_batch_order, lengths, boundaries, 42)
    return TokenBudgetSampler(order, len(boundaries) - 1, processes, rank)


def epoch(sampler: GlobalOrderSampler, number: int = 0) -> list[Key]:
    sampler.set_epoch(number)
    keys = list(sampler)
    assert len(sampler) == len(keys)
    return keys


def real(keys: list[Key]) -> list[int]:
    return [row for _, row in keys if row != FILLER]


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 16, 47, 48, 50])
@pytest.mark.parametrize("batch", [1, 4, 8])
def test_every_row_once_in_the_same_number_of_steps(rows: int, batch: int, processes: int) -> None:
    samplers = [by_row(rows, batch, processes, rank) for rank in range(processes)]
    for number in range(2):
        parts = [epoch(sampler, number) for sampler in samplers]
        assert len({len(part) for part in parts}) == 1
        assert sorted(real([key for part in parts for key in part])) == list(range(rows))
        assert -(-len(parts[0]) // batch) == samplers[0].steps == -(-rows // (batch * processes))


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [48, 64, 75, 79])
def test_processes_see_per_step_what_one_sees_with_the_whole_batch(rows: int, processes: int) -> None:
    one = real(epoch(by_row(rows, 4 * processes)))
    parts = [epoch(by_row(rows, 4, processes, rank)) for rank in range(processes)]
    for step in range(by_row(rows, 4, processes).steps):
        seen = real([key for part in parts for key in part[step * 4 : step * 4 + 4]])
        assert seen == one[step * 4 * processes : (step + 1) * 4 * processes]


def test_keys_name_the_epoch_and_follow_the_order() -> None:
    torch.manual_seed(1)
    first = epoch(by_row(50, 8), 3)
    torch.manual_seed(2)
    np.random.seed(2)
    assert epoch(by_row(50, 8), 3) == first == [(3, row) for row in np.random.default_rng([42, 3]).permutation(50)]
    assert real(epoch(by_row(50, 8), 4)) != real(first)
    assert real(epoch(GlobalOrderSampler(lambda _: np.arange(6)[::-1], 6, 4))) == [5, 4, 3, 2, 1, 0]


def test_weights_draw_every_class_equally_often() -> None:
    labels = torch.tensor([0] * 900 + [2] * 90 + [3] * 10)
    weights = balanced_weights(labels)
    assert [weights[labels == label].sum() for label in (0, 2, 3)] == pytest.approx([1, 1, 1])
    keys = epoch(GlobalOrderSampler(partial(weighted, weights, 42), 1000, 8))
    shares = torch.bincount(labels[real(keys)]) / 1000
    assert len(keys) == 1000
    torch.testing.assert_close(shares, torch.tensor([1 / 3, 0, 1 / 3, 1 / 3]), atol=0.06, rtol=0)


@pytest.mark.parametrize("rows", [1, 60, 199])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_processes_take_turns_at_the_batches_of_one(processes: int, rows: int) -> None:
    one = by_tokens(200, rows=rows)
    samplers = [by_tokens(200, processes, rank, rows) for rank in range(processes)]
    for number in range(3):
        for sampler in [one, *samplers]:
            sampler.set_epoch(number)
        alone, parts = list(one), [list(sampler) for sampler in samplers]
        assert {len(part) for part in parts} == {len(samplers[0])} == {-(-len(alone) // processes)}
        assert len(one) == len(alone)
        turns = [batch for step in zip(*parts, strict=True) for batch in step]
        assert turns[: len(alone)] == alone
        assert turns[len(alone) :] == [[(number, FILLER)]] * (len(turns) - len(alone))
        assert sorted(real([key for batch in alone for key in batch])) == list(range(rows))


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("units", [0, 1, 8, 13, 46, 47])
def test_a_start_in_the_middle_gives_the_rest_and_then_whole_epochs(units: int, processes: int) -> None:
    samplers = [by_row(47, 4, processes, rank) for rank in range(processes)]
    for sampler in samplers:
        sampler.start_at(3, units)
    whole = real(epoch(by_row(47, 4), 3))
    parts = [list(sampler) for sampler in samplers]
    left = -(-(47 - units) // (4 * processes))
    assert {-(-len(part) // 4) for part in parts} == {left}
    steps = [[key for part in parts for key in part[step * 4 : step * 4 + 4]] for step in range(left)]
    assert real([key for step in steps for key in step]) == whole[units:]
    # Lightning counts on from the steps done, up to the length of a whole epoch
    sampler = samplers[0]
    done = sampler.steps_before(units)
    assert done + left == sampler.steps == -(-len(sampler) // 4)
    for step in range(left + 1):
        seen = real([key for part in steps[:step] for key in part])
        assert sampler.units_after(3, done + step) == units + len(seen)
    assert sampler.units_after(4, 2) == min(8 * processes, 47)
    assert len(epoch(sampler, 4)) == len(sampler)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("units", [0, 1, 6, 9])
def test_a_start_in_the_middle_of_token_batches(units: int, processes: int) -> None:
    one = by_tokens(300)
    one.set_epoch(3)
    samplers = [by_tokens(300, processes, rank) for rank in range(processes)]
    for sampler in samplers:
        sampler.start_at(3, units)
    parts = [list(sampler) for sampler in samplers]
    turns = [batch for step in zip(*parts, strict=True) for batch in step if batch != [(3, FILLER)]]
    assert turns == list(one)[units:]
    sampler = samplers[0]
    assert sampler.steps_before(units) + len(parts[0]) == len(sampler) == -(-len(one) // processes)
    assert sampler.units_after(3, sampler.steps_before(units) + 1) == units + processes
    assert sampler.units_after(3, len(sampler)) == len(one)
    sampler.set_epoch(4)
    assert len(list(sampler)) == len(sampler)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("units", [0, 5])
def test_the_rows_of_a_step_are_those_that_a_process_was_given(units: int, processes: int) -> None:
    for rank in range(processes):
        rows, tokens = by_row(47, 4, processes, rank), by_tokens(300, processes, rank)
        rows.start_at(3, units)
        tokens.start_at(3, units)
        keys = list(rows)
        steps = [keys[at : at + 4] for at in range(0, len(keys), 4)]
        for sampler, given in ((rows, steps), (tokens, list(tokens))):
            done = sampler.steps_before(units)
            found = [sampler.rows_at(3, done + step).tolist() for step in range(len(given))]
            assert found == [real(each) for each in given]


def test_another_number_of_processes_goes_on_where_the_first_stopped() -> None:
    first = [by_row(47, 4, 2, rank) for rank in range(2)]
    done = first[0].units_after(0, 3)
    parts = [epoch(sampler)[:12] for sampler in first]
    then = [by_row(47, 2, 3, rank) for rank in range(3)]
    for sampler in then:
        sampler.start_at(0, done)
    rest = [list(sampler) for sampler in then]
    assert sorted(real([key for part in parts + rest for key in part])) == list(range(47))
    # and once more, off any multiple of the batches
    assert then[0].units_after(0, then[0].steps_before(done) + 1) == done + 6 == 30


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("windows", [[1] * 7, [3, 1, 1, 2], [1, 9], [4], []])
def test_evaluation_is_in_order_and_splits_no_row(windows: list[int], processes: int) -> None:
    row_of_feature = np.repeat(np.arange(len(windows)), windows)
    samplers = [ContiguousSampler(row_of_feature, processes, rank) for rank in range(processes)]
    parts = [[index for _, index in sampler] for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(part) for part in parts]
    assert all(parts)  # a process without rows takes part with a filler
    parts = [[index for index in part if index != FILLER] for part in parts]
    assert [index for part in parts for index in part] == list(range(len(row_of_feature)))
    owners = [set(row_of_feature[part].tolist()) for part in parts]
    assert sum(map(len, owners)) == len(windows)


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("windows", [[1] * 400, [3, 1, 1, 2] * 60, [1, 9], [4], []])
def test_sorted_evaluation_gives_each_process_the_rows_it_has_in_input_order(
    windows: list[int], processes: int
) -> None:
    rows = np.repeat(np.arange(len(windows)), windows)
    lengths = np.resize(LENGTHS, len(rows))
    for rank in range(processes):
        plain, ours = (
            ContiguousSampler(rows, processes, rank), LengthSortedSampler(rows, lengths, 2, 1.0, processes, rank)
        )  # fmt: skip
        places = [index for _, index in ours]
        assert len(ours) == len(plain) == len(places)
        for start in range(0, len(places), RUN * 2):
            part = slice(start, start + RUN * 2)
            assert sorted(places[part]) == [index for _, index in list(plain)[part]]
        if places == [FILLER]:
            assert not ours.settles
            continue
        assert lengths[places[0]] == lengths[sorted(places)[: RUN * 2]].max() or max(windows) > 1
        # a row is settled when it and all before it have come, and at the end all are
        for place, index in enumerate(places):
            if index in ours.settles:
                missing = rows[places[place + 1 :]]
                assert ours.settles[index] == min(missing.tolist(), default=rows[max(places)] + 1)
        assert ours.settles[places[-1]] == rows[max(places)] + 1
        assert len(ours.settles) == -(-len(places) // (RUN * 2))


@pytest.mark.parametrize(
    ("limit", "features"), [(3, 12), (0, 0), (200, 400), (0.5, 200), (0.33, 132), (0.998, 396), (1.0, 400)]
)
def test_a_limit_takes_the_rows_that_it_takes_in_input_order(limit: float, features: int) -> None:
    sampler = LengthSortedSampler(np.arange(400), np.resize(LENGTHS, 400), 4, limit)
    places = [index for _, index in sampler]
    assert sorted(places[:features]) == list(range(features))
    assert sorted(places) == list(range(400))
    if features:
        assert sampler.settles[places[features - 1]] == features


def test_spans_are_the_batches_of_all_processes() -> None:
    for processes, rows, batch in ((1, 47, 4), (3, 47, 4), (3, 50, 4), (2, 48, 4), (5, 3, 1)):
        samplers = [by_row(rows, batch, processes, rank) for rank in range(processes)]
        order, spans = samplers[0].spans(1)
        each = [epoch(sampler, 1) for sampler in samplers]
        steps = range(samplers[0].steps)
        batches = [real(part[step * batch : (step + 1) * batch]) for step in steps for part in each]
        assert [order[start:stop].tolist() for start, stop in spans] == [rows for rows in batches if rows]
    one = by_tokens(200)
    order, spans = one.spans(0)
    assert [order[start:stop].tolist() for start, stop in spans] == [real(batch) for batch in one]


def test_two_million_sorted_rows_need_a_few_bytes_each() -> None:
    rows = np.arange(2_000_000)
    lengths = np.resize(LENGTHS, len(rows)).astype(np.int32)
    tracemalloc.start()
    sampler = LengthSortedSampler(rows, lengths, 8)
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now / len(rows) <= 10
    assert peak / len(rows) <= 12
    assert len(sampler) == len(rows)


def test_two_million_rows_make_no_python_list() -> None:
    rows = 2_000_000
    lengths = np.tile(LENGTHS, -(-rows // 199))[:rows].astype(np.int32)
    boundaries = token_boundaries(lengths, 4096)
    budget = partial(token_batch_order, lengths, boundaries, 42)
    for make, limit in (
        (lambda: by_row(rows, 16, 2, 1), 12),
        (lambda: TokenBudgetSampler(budget, len(boundaries) - 1, 2, 1), 48),
    ):
        tracemalloc.start()
        sampler = make()
        assert tracemalloc.get_traced_memory()[1] < 100_000  # nothing is made before the first row is asked for
        places = iter(sampler)
        assert next(places) is not None
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert now / rows <= 16
        assert peak / rows <= limit


class Keys(Dataset[list[Key]]):
    """Gives the keys themselves, a list for a list."""

    def __getitem__(self, key: Key) -> Key:
        return key

    def __len__(self) -> int:
        return 199


def loaders(processes: int, rank: int) -> dict[str, DataLoader[list[Key]]]:
    rows, tokens = by_row(199, 8, processes, rank), by_tokens(600, processes, rank)
    windows = ContiguousSampler(np.arange(199), processes, rank)
    by_length = LengthSortedSampler(np.arange(199), LENGTHS, 8, 1.0, processes, rank)
    return {
        "rows": DataLoader(Keys(), batch_size=8, sampler=rows, collate_fn=list),
        "tokens": DataLoader(Keys(), batch_size=None, sampler=tokens, collate_fn=list),
        "windows": DataLoader(Keys(), batch_size=8, sampler=windows, collate_fn=list),
        "sorted": DataLoader(Keys(), batch_size=8, sampler=by_length, collate_fn=list),
    }


class Recorder(LightningModule):
    """Writes down the batches of one loader that each process sees."""

    def __init__(self, stage: str, loader: str, folder: Path) -> None:
        super().__init__()
        self.stage, self.loader, self.folder = stage, loader, folder
        self.layer, self.seen = torch.nn.Linear(1, 1), list[Any]()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch)
        return cast(torch.Tensor, self.layer(torch.ones(1, 1)).sum())

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def write(self) -> None:
        (self.folder / f"{self.stage}_{self.loader}_{self.trainer.global_rank}.json").write_text(json.dumps(self.seen))

    on_train_end = on_predict_end = write

    def train_dataloader(self) -> DataLoader[list[Key]]:
        return loaders(self.trainer.world_size, self.trainer.global_rank)[self.loader]

    predict_dataloader = train_dataloader


def test_lightning_leaves_the_samplers_alone_on_two_processes(tmp_path: Path) -> None:
    for stage, names in (("fit", ("rows", "tokens")), ("predict", ("rows", "tokens", "windows", "sorted"))):
        for name in names:
            trainer = Trainer(
                accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, **two_processes(),
            )  # fmt: skip
            recorder = Recorder(stage, name, tmp_path)
            trainer.fit(recorder) if stage == "fit" else trainer.predict(recorder, return_predictions=False)
    for rank in range(2):
        for name, loader in loaders(2, rank).items():
            passes = []
            for number in range(2):
                loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
                passes.append([[list(key) for key in batch] for batch in loader])
                assert len(loader) == len(passes[-1])
            if name not in ("windows", "sorted"):
                assert json.loads((tmp_path / f"fit_{name}_{rank}.json").read_text()) == passes[0] + passes[1]
                assert passes[0] != passes[1]
            assert json.loads((tmp_path / f"predict_{name}_{rank}.json").read_text()) == passes[0]
