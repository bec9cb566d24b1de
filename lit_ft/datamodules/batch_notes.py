"""What is said once about training batches that are not the default ones: their figures, and what they mean."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from lit_ft.data.features.ragged import Array
from lit_ft.data.ordering.samplers import GlobalOrderSampler, StepSampler
from lit_ft.data.ordering.training_order import OwnOrder
from lit_ft.data.viewing.batch_figures import BatchFigures
from lit_ft.objects import option_defaults

log = logging.getLogger("lit_ft")

DEFAULTS = {"packing": "wrapped", "train_sampling_strategy": "random", "max_tokens_per_batch": None}
"""Options that change what a batch holds, as they are by themselves; not every task has all of them."""
LITTLE = 0.01
"""Share of padding that is not worth a word."""


def note_on_batches(data: Any, sampler: StepSampler[Any], own: OwnOrder | None) -> str | None:
    """Says what the batches of a data module are like where an option makes others than random ones of `batch_size`.

    Args:
        data: the data module, set up to fit.
        sampler: of its training rows.
        own: the task's order of them.

    Returns:
        One line; `None` where there is nothing to say.
    """
    options, order = data.hparams, data.training_order
    chosen = {name: options[name] for name, value in DEFAULTS.items() if options.get(name, value) != value}
    if option_defaults(type(data)).get("packing") != DEFAULTS["packing"]:  # there is nothing usual to compare with
        chosen.pop("packing", None)
    if chosen.get("train_sampling_strategy") == "sequential":
        del chosen["train_sampling_strategy"]  # the rows' own order
    if not chosen:
        return None
    (replicas, rank), size = data.processes, options["batch_size"]
    store = data.features["train"][""].store
    usual: StepSampler[Any]
    if "packing" in chosen:
        blocks = _blocks(int(sum(store.sides()).sum()), data.longest_feature)
        usual = GlobalOrderSampler(lambda _: np.arange(len(blocks)), len(blocks), size, replicas, rank)
        usual_figures, name = _counter(data)(usual.spans(0), blocks), f"packing {DEFAULTS['packing']}"
    else:
        random = replace(order, strategy="random", max_tokens=None)
        usual = random.sampler(store, data._train_sizes, own, size, replicas, rank)
        usual_figures, name = figures_of(data, usual), "random batches"
    figures = figures_of(data, sampler)
    title = ", ".join(f"{option} {value}" for option, value in chosen.items())
    meaning = _meaning(figures, usual_figures, list(chosen))
    return f"{title}: {figures}; {name}, batch_size {size}: {usual_figures}. {meaning}"


def figures_of(data: Any, sampler: StepSampler[Any]) -> BatchFigures:
    """Returns what the optimizer steps of an epoch of a sampler hold."""
    store = data.features["train"][""].store
    widths = store.sides() if store.most_sequences == 1 else [store.widths()]
    return _counter(data)(sampler.spans(0), sum(store.sides()), widths=widths)


def _counter(data: Any) -> Callable[..., BatchFigures]:
    most, order, micro = data.features["train"][""].store.most_sequences, data.training_order, 1
    if data.trainer is not None:
        micro = data.trainer.accumulate_grad_batches
    steps = data.processes[0] * micro
    return partial(BatchFigures.of, padded=lambda widest: most * order.padded(widest), per_step=steps)


def _meaning(figures: BatchFigures, usual: BatchFigures, chosen: list[str]) -> str:
    if chosen == ["train_sampling_strategy"]:
        if usual.padding - figures.padding < LITTLE:
            return "Here grouping saves next to nothing: leave it out"
        return "A step has as many rows as before, so a learning rate stays what it is"
    times = float(figures.tokens.mean() / usual.tokens.mean())
    if abs(times - 1) < 0.1:
        return "A step has about as many tokens as before, so a learning rate stays what it is"
    return (
        f"A learning rate is per step, and a step has {times:.2g}x the tokens: one that was found for the usual "
        f"batches wants {math.sqrt(times):.2g}x (AdamW's square-root rule)"
    )


def _blocks(tokens: int, size: int) -> Array:
    """Returns the lengths of the blocks that so many tokens fill."""
    rest = [tokens % size] if tokens % size else []
    return np.array([size] * (tokens // size) + rest)


def note_on_change(place: dict[str, Any], now: dict[str, Any], budgeted: bool) -> None:
    """Says where a run goes on with another number of processes, another batch size, or other rows.

    Args:
        place: what the checkpoint says: `epoch`, `units` done in it, and facts of its `run`.
        now: the same facts of this run.
        budgeted: batches are made by a token budget, not of `batch_size` rows, and `units` are these.
    """
    then = place.get("run", now)
    if then["rows"] != now["rows"]:
        log.warning(
            "the training rows are others than the checkpoint's (a file has changed?): it goes on at the same place"
        )
    facts, units = (("processes",), "batches") if budgeted else (("processes", "batch_size"), "rows")
    changed = [f"{name} {then[name]}, now {now[name]}" for name in facts if then[name] != now[name]]
    if changed:
        where = f"epoch {place['epoch']} after its first {place['units']:,} {units}"
        log.info(f"the checkpoint was written with {'; '.join(changed)}: goes on in {where}")
