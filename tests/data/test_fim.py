"""Fill-in-the-middle: the permutations of run_fim, one document at a time, their rates, and the way back."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_ft.data.features.ragged import Ragged
from lit_ft.data.grouping.fim import fill_in_the_middle, uniform_draws
from lit_ft.errors import UserError

PREFIX, MIDDLE, SUFFIX = 1001, 1002, 1003
rows_of_tokens = st.lists(st.lists(st.integers(0, 1000), max_size=12), max_size=10)


def run(rows: list[list[int]], rate: float, spm: float, seed: int = 0) -> list[list[int]]:
    return fill_in_the_middle(Ragged.of(rows), rate, spm, PREFIX, MIDDLE, SUFFIX, seed).tolist()


def one_by_one(rows: list[list[int]], fim_rate: float, fim_spm_rate: float, seed: int) -> list[list[int]]:
    """What transformers' `run_fim.py` does with a document, with the numbers drawn given."""
    changed = []
    for row, draws in zip(rows, uniform_draws(Ragged.of(rows), seed).tolist(), strict=True):
        if draws[0] >= fim_rate or len(row) < 3:
            changed.append(row)
            continue
        low, high = sorted(int(draw * (len(row) + 1)) for draw in draws[2:])
        prefix, middle, suffix = row[:low], row[low:high], row[high:]
        if draws[1] < fim_spm_rate:
            changed.append([PREFIX, SUFFIX, *suffix, MIDDLE, *prefix, *middle])
        else:
            changed.append([PREFIX, *prefix, SUFFIX, *suffix, MIDDLE, *middle])
    return changed


@given(rows_of_tokens, st.floats(0, 1), st.floats(0, 1), st.integers(-5, 2**40))
def test_documents_become_what_run_fim_makes_of_them(
    rows: list[list[int]], fim_rate: float, fim_spm_rate: float, seed: int
) -> None:
    assert run(rows, fim_rate, fim_spm_rate, seed) == one_by_one(rows, fim_rate, fim_spm_rate, seed)


@given(rows_of_tokens, st.integers(0, 100))
def test_undoing_the_permutation_gives_the_documents(rows: list[list[int]], seed: int) -> None:
    for row, changed in zip(rows, run(rows, 1.0, 0.0, seed), strict=True):
        if len(row) >= 3:
            suffix, middle = changed.index(SUFFIX), changed.index(MIDDLE)
            assert changed[0] == PREFIX
            assert changed[1:suffix] + changed[middle + 1 :] + changed[suffix + 1 : middle] == row
    for row, changed in zip(rows, run(rows, 1.0, 1.0, seed), strict=True):
        if len(row) >= 3:
            middle = changed.index(MIDDLE)
            assert changed[:2] == [PREFIX, SUFFIX]
            assert changed[middle + 1 :] + changed[2:middle] == row


def test_rates_are_kept_and_every_split_is_as_likely_as_with_two_independent_places() -> None:
    rng = np.random.default_rng(0)
    rows = [row.tolist() for row in rng.integers(0, 1000, (20_000, 3))]
    changed = run(rows, 0.3, 0.25, seed=7)
    fim = [row for row in changed if len(row) == 6]
    assert [row for row in changed if len(row) == 3] == [
        old for old, row in zip(rows, changed, strict=True) if row == old
    ]
    assert abs(len(fim) - 6000) < 5 * np.sqrt(20_000 * 0.3 * 0.7)
    splits = [(row.index(SUFFIX) - 1, 5 - row.index(MIDDLE)) for row in run(rows, 1.0, 0.0, seed=7)]
    for low in range(4):
        for length in range(4 - low):
            chance = 1 / 16 if length == 0 else 2 / 16
            assert abs(splits.count((low, length)) - 20_000 * chance) < 5 * np.sqrt(20_000 * chance * (1 - chance))
    # PSM begins with both ids too where the prefix is empty
    both = 0.25 + 0.75 * 7 / 16
    assert abs(sum(row[1] == SUFFIX for row in fim) - len(fim) * both) < 5 * np.sqrt(len(fim) * both * (1 - both))


def test_a_document_becomes_the_same_wherever_it_stands_and_another_with_another_seed() -> None:
    rows = [list(range(i, i + 40)) for i in range(30)]
    together = run(rows, 0.5, 0.5, seed=3)
    for first, second in permutations(range(0, 30, 7), 2):
        assert run([rows[first], rows[second]], 0.5, 0.5, seed=3) == [together[first], together[second]]
    wide = Ragged(Ragged.of(rows).values.astype(np.int64), Ragged.of(rows).offsets.astype(np.int32))
    result = fill_in_the_middle(wide, 0.5, 0.5, PREFIX, MIDDLE, SUFFIX, 3)
    assert result.tolist() == together
    assert result.values.dtype == np.int64
    assert sum(a != b for a, b in zip(together, run(rows, 0.5, 0.5, seed=4), strict=True)) > 15


def test_short_documents_stay_as_they_are() -> None:
    assert run([[], [1], [1, 2]], 1.0, 0.5) == [[], [1], [1, 2]]
    assert run([], 1.0, 0.5) == []


@pytest.mark.parametrize(("rate", "spm", "named"), [(1.2, 0.5, "fim_rate"), (0.5, -0.1, "fim_spm_rate")])
def test_rates_that_are_no_shares_are_refused(rate: float, spm: float, named: str) -> None:
    with pytest.raises(UserError, match=f"^{named} is"):
        run([[1, 2, 3]], rate, spm)
