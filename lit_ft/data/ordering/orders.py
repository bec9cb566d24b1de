"""Orders of training rows: pure functions of seed and epoch, the same for every number of processes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from lit_ft.errors import UserError
from lit_ft.ranges import check_choice

Rows = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.integer[Any]]
TokenBatches = tuple[Rows, Rows]
"""Row numbers `[rows]`, and for each batch, in the order they come, where it begins and ends in them `[batches, 2]`."""
StoppingStrategy = Literal["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"]


def shuffled(rows: int, seed: int, epoch: int) -> Rows:
    """Returns a permutation of `rows` row numbers, `[rows]`."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def weighted(weights: npt.NDArray[np.float64], seed: int, epoch: int) -> Rows:
    """Returns as many draws as there are rows, with replacement, each row by its weight, `[rows]`."""
    shares = weights / weights.sum()
    return np.random.default_rng([seed, epoch]).choice(len(weights), size=len(weights), p=shares)


def in_twos(labels: npt.NDArray[np.int64], seed: int, epoch: int) -> Rows:
    """Returns each row once, by chance, but two of a label at a time, `[rows]`.

    Rows that no other one is left for come in twos, too; a last one alone stands at the end.

    Args:
        labels: of each row, `[rows]`.
        seed: seed of the order.
        epoch: the epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    rows = rng.permutation(len(labels))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    _, begins, counts = np.unique(labels[rows], return_index=True, return_counts=True)
    alone = np.zeros(len(rows), bool)
    alone[(begins + counts - 1)[counts % 2 == 1]] = True
    left = rng.permutation(rows[alone])
    twos = np.concatenate([rows[~alone], left[: len(left) // 2 * 2]]).reshape(-1, 2)
    return np.concatenate([rng.permutation(twos).ravel(), left[len(left) // 2 * 2 :]])


def mixed(
    sizes: Sequence[int],
    probabilities: Sequence[float] | None,
    stopping_strategy: StoppingStrategy,
    seed: int,
    epoch: int,
) -> Rows:
    """Interleaves several sources, so that the rows up to any place keep the proportions to about a row per source.

    Every epoch has the same rows per source, where `datasets.interleave_datasets` draws the source of each row.

    Args:
        sizes: rows of each source; their row numbers lie end to end.
        probabilities: share of each source; `None` = by its size, which gives each row once under any strategy.
        stopping_strategy: `first_exhausted` ends with the first source that is used up, `all_exhausted` with the last
            (the others begin again, in a new order), `all_exhausted_without_replacement` gives each row once.
        seed: seed of the order.
        epoch: the epoch, which changes the order and, where sources are cut short, the rows.

    Returns:
        Row numbers, `[mixed_length(...)]`.

    Raises:
        UserError: probabilities, sizes and strategy do not make a mixture.
    """
    counts = _counts(sizes, probabilities, stopping_strategy)
    rng = np.random.default_rng([seed, epoch])
    rows, times = np.empty(sum(counts), np.int64), np.empty(sum(counts), np.float64)
    first = place = 0
    for size, count, speed in zip(sizes, counts, probabilities or counts, strict=True):
        passes = np.tile(np.arange(first, first + size), (-(-count // size), 1))
        rows[place : place + count] = rng.permuted(passes, axis=1, out=passes).ravel()[:count]
        # one row per interval of 1 / speed: by chance within it, evenly over all
        times[place : place + count] = (np.arange(count) + rng.random(count)) / speed
        first, place = first + size, place + count
    return rows[np.argsort(times, kind="stable")]


def mixed_length(
    sizes: Sequence[int], probabilities: Sequence[float] | None, stopping_strategy: StoppingStrategy
) -> int:
    """Returns the number of rows that `mixed` gives in every epoch.

    Raises:
        UserError: as `mixed`.
    """
    return sum(_counts(sizes, probabilities, stopping_strategy))


def length_grouped(order: Rows, lengths: Lengths, batch: int) -> Rows:
    """Sorts each run of 50 batches by length, longest first, as transformers' `group_by_length`.

    The longest row of all comes first, so that memory runs out at once or not at all.

    Args:
        order: the epoch's row numbers, in an order of chance; rows may repeat or be missing.
        lengths: tokens of each row.
        batch: rows of a step, of all processes together.
    """
    run = batch * max(min(len(order) // (batch * 4), 50), 1)
    grouped = np.empty_like(order)
    for start in range(0, len(order), run):
        rows = order[start : start + run]
        grouped[start : start + run] = rows[_longest_first(lengths[rows])]
    longest = run * int(np.argmax(lengths[grouped[::run]]))
    grouped[[0, longest]] = grouped[[longest, 0]]
    return grouped


def length_sorted(rows: Rows, lengths: Lengths, run: int, cut: int | None = None) -> tuple[Rows, Rows]:
    """Sorts each run of features by length, longest first; the windows of a row stay in their order.

    Runs keep memory flat where outputs are put back in input order: nothing waits for longer than a run.

    Args:
        rows: the row that each feature (window) belongs to, ascending, `[features]`.
        lengths: tokens of each feature, `[features]`.
        run: features of a run.
        cut: where the features that will be used end; a run ends there, too, so that they are those in front.

    Returns:
        The numbers of the features in their new order, `[features]`, and the ends of the runs, ascending, `[runs]`.
    """
    size = len(rows)
    ends = np.unique([*range(run, size, run), min(size if cut is None else cut, size), size]).astype(np.int64)
    ends, order = ends[ends > 0], np.empty(size, np.int64)
    for begin, end in pairwise([0, *ends.tolist()]):
        order[begin:end] = begin + _windows_longest_first(rows[begin:end], lengths[begin:end])
    return order, ends


def token_boundaries(
    lengths: Lengths, max_tokens: int, sequential: bool = False, targets: Lengths | None = None
) -> Rows:
    """Cuts rows into the fewest batches whose padded size (longest row x rows) is at most `max_tokens`.

    The cut depends on the lengths alone: every epoch has the same number of batches, known before the first.

    Args:
        lengths: tokens of each row, rounded up where batches are padded to a multiple.
        max_tokens: most tokens of a batch, padding included.
        sequential: cut the rows as they come, instead of sorted by length.
        targets: tokens of each row's target, which is padded by itself: then the size is (longest row + longest target)
            x rows.

    Returns:
        Where each batch begins among the rows, longest first (or as they come), and the end, `[batches + 1]`.

    Raises:
        UserError: a row alone is longer than `max_tokens`.
    """
    both = lengths if targets is None else lengths + targets
    longest = int(both.max(initial=0))
    if longest > max_tokens:
        shorter = "max_seq_length" if targets is None else "max_source_length and max_target_length"
        raise UserError(
            f"max_tokens_per_batch is {max_tokens}, but {int((both > max_tokens).sum())} of {len(lengths)} training "
            f"rows have more tokens (the longest has {longest}): set it to at least {longest}, or lower {shorter}"
        )
    sides = [np.maximum(lengths, 1, dtype=np.int64), *([] if targets is None else [targets.astype(np.int64)])]
    if targets is not None and not sequential:
        order = _longest_first(by_both(lengths, targets))
        cuts = _cuts_as_they_come([side[order] for side in sides], max_tokens)
    else:
        cuts = _cuts_as_they_come(sides, max_tokens) if sequential else _cuts_by_length(sides[0], max_tokens)
    return np.fromiter(cuts, dtype=np.int64)


def by_both(lengths: Lengths, targets: Lengths) -> Rows:
    """Returns numbers that order rows by the tokens of both sides together, then by those of the first, `[rows]`."""
    first = lengths.astype(np.int64)
    return np.asarray((first + targets) * (int(first.max(initial=0)) + 1) + first)


def token_batch_order(lengths: Lengths, boundaries: Rows, seed: int, epoch: int) -> TokenBatches:
    """Returns the batches of an epoch, of rows of similar length, by chance: which rows of a length, which batch when.

    The batch with the most tokens, padding included, comes first, and that with the longest row second, so that memory
    runs out at once or not at all.

    Args:
        lengths: tokens of each row, as they were given to `token_boundaries`.
        boundaries: from `token_boundaries(lengths, ...)`.
        seed: seed of the order.
        epoch: the epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    rows = rng.permutation(len(lengths))
    rows = rows[_longest_first(lengths[rows])]
    sizes = lengths[rows[boundaries[:-1]]] * np.diff(boundaries)
    front = np.unique([int(sizes.argmax()), 0])[::-1]  # equal sizes: the longest rows
    others = np.setdiff1d(np.arange(len(sizes)), front)
    return rows, _spans(boundaries)[np.concatenate([front, rng.permutation(others)])]


def sequential_token_batches(boundaries: Rows) -> TokenBatches:
    """Returns the batches of `token_boundaries(..., sequential=True)` as they come."""
    return np.arange(boundaries[-1]), _spans(boundaries)


def require_same_rows(
    own: str | None, probabilities: Sequence[float] | None, stopping_strategy: StoppingStrategy
) -> None:
    """Sees to it that every epoch has the same rows, without which a token budget makes no fixed number of batches.

    Raises:
        UserError: the rows are drawn anew in each epoch.
    """
    if own is not None:
        raise UserError(
            f"max_tokens_per_batch needs the same rows in every epoch, but {own} draws others each time, so the number "
            "of steps would not be known: leave one of the two out, or set batch_size instead"
        )
    if probabilities is not None and stopping_strategy != "all_exhausted_without_replacement":
        raise UserError(
            f"max_tokens_per_batch needs the same rows in every epoch, but probabilities with stopping_strategy "
            f"{stopping_strategy} take others each time, so the number of steps would not be known: set "
            "stopping_strategy to all_exhausted_without_replacement, or batch_size instead of max_tokens_per_batch"
        )


def _counts(
    sizes: Sequence[int], probabilities: Sequence[float] | None, stopping_strategy: StoppingStrategy
) -> list[int]:
    check_choice({"stopping_strategy": stopping_strategy}, "stopping_strategy", get_args(StoppingStrategy))
    for number, size in enumerate(sizes, 1):
        if size < 1:
            raise UserError(f"source {number} of the mixture has no rows: leave it out of the sources")
    if probabilities is None:
        return list(sizes)
    _check(probabilities, len(sizes))
    if stopping_strategy == "all_exhausted_without_replacement":
        return list(sizes)
    ends = [size / share for size, share in zip(sizes, probabilities, strict=True)]
    end = min(ends) if stopping_strategy == "first_exhausted" else max(ends)
    counts = [round(end * share) for share in probabilities]
    if 0 in counts:
        number = counts.index(0)
        raise UserError(
            f"probabilities give source {number + 1} {probabilities[number]:g} of an epoch of {sum(counts)} rows, less "
            "than one row: raise it, or set stopping_strategy to all_exhausted"
        )
    return counts


def _check(probabilities: Sequence[float], sources: int) -> None:
    given = f"probabilities are {list(probabilities)}"
    if len(probabilities) != sources:
        raise UserError(f"{given}, {len(probabilities)} numbers for {sources} sources: write one for each source")
    if not all(share > 0 for share in probabilities):
        raise UserError(f"{given}; each must be more than 0: leave a source out that shall give no rows")
    total = sum(probabilities)
    if abs(total - 1) > 1e-6:
        shares = [round(share / total, 4) for share in probabilities]
        raise UserError(f"{given}, which sum to {total:g}; the sum must be 1: these proportions are {shares}")


def _longest_first(lengths: Lengths) -> npt.NDArray[np.intp]:
    return np.argsort(-lengths.astype(np.int64), kind="stable")


def _windows_longest_first(rows: Rows, lengths: Lengths) -> npt.NDArray[np.intp]:
    """A window counts as long as the longest of its row that is still to come: none overtakes the one before it."""
    above = -(rows.astype(np.int64) - rows[0]) * (int(lengths.max()) + 1)  # so that a maximum begins anew at each row
    return _longest_first(np.maximum.accumulate((above + lengths)[::-1])[::-1] - above)


def _spans(boundaries: Rows) -> Rows:
    return np.stack([boundaries[:-1], boundaries[1:]], axis=1)


def _cuts_by_length(lengths: Lengths, max_tokens: int) -> Iterator[int]:
    fitting = max_tokens // np.sort(lengths)[::-1]  # rows of a batch that begins here: its first is its longest
    place = 0
    while place < len(lengths):
        yield place
        place += int(fitting[place])
    yield len(lengths)


def _cuts_as_they_come(sides: Sequence[Lengths], max_tokens: int) -> Iterator[int]:
    place, size = 0, len(sides[0])
    while place < size:
        yield place
        rows = slice(place, place + max_tokens // int(sum(side[place] for side in sides)))
        widths = sum(np.maximum.accumulate(side[rows]) for side in sides)
        padded = widths * np.arange(1, len(sides[0][rows]) + 1)
        place += int(np.searchsorted(padded, max_tokens, side="right"))
    yield size
