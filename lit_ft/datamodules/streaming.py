"""A data module's training rows as a stream: what it needs of the Trainer, and its loader."""

import logging
from functools import partial
from typing import Any

import numpy as np
import torch

from lit_ft.data.features.ragged import as_column, taken
from lit_ft.data.preparing.featurizing import checked
from lit_ft.data.quality.marks import OF_A_ROW
from lit_ft.data.streaming.batches import StreamDataset
from lit_ft.data.streaming.loader import StreamLoader
from lit_ft.datamodules.loader_processes import begin_loading
from lit_ft.errors import RowError, UserError

log = logging.getLogger("lit_ft")


def check_streaming(data: Any) -> None:
    """Refuses what a stream cannot do, before anything is prepared.

    Raises:
        UserError: an option needs all rows, or the Trainer waits for an end that never comes.
    """
    options = data.hparams
    plain = {"train_sampling_strategy": "random", "max_tokens_per_batch": None, "dataloader_drop_last": False}
    for option, value in plain.items():
        if options.get(option, value) != value:
            raise UserError(f"{option} needs to know all rows, streaming does not: leave one of the two out")
    for kind, action in data.on_bad_rows.items():
        if kind not in (*OF_A_ROW, *data.bad_rows) and action != "keep":
            raise UserError(f"on_bad_rows: {kind}: {action} needs to know all rows, streaming does not: leave one out")
    if len(data.source.streams) > 1 and options["probabilities"] is None:
        raise UserError("a stream does not know how many rows a source has: set probabilities, one for each source")
    if (
        data.trainer is not None
        and data.trainer.max_steps < 0
        and not isinstance(data.trainer.limit_train_batches, int)
    ):
        raise UserError("streaming never comes to the end of an epoch: set trainer.max_steps")


def check_order(data: Any) -> None:
    """Refuses an order of rows that the task itself asks for; what it goes by is described by now.

    Raises:
        UserError: it asks for one.
    """
    if (own := data.train_order()) is not None:
        raise UserError(f"{own.option} needs to know all rows, streaming does not: leave one of the two out")


def check_validation(data: Any) -> None:
    """Refuses a validation that would never come.

    Raises:
        UserError: the Trainer waits for the end of an epoch.
    """
    trainer = data.trainer
    if trainer is None or not data.set_names("validation") or not trainer.limit_val_batches:
        return
    if not isinstance(trainer.val_check_interval, int) and not isinstance(trainer.limit_train_batches, int):
        raise UserError(
            "streaming never comes to the end of an epoch: set trainer.val_check_interval to the number of steps "
            "between validations (such as 500), or trainer.limit_val_batches: 0"
        )


def stream_loader(data: Any) -> StreamLoader:
    """Makes the loader of a data module's streamed training rows."""
    options, (replicas, rank) = data.hparams, data.processes
    stream = StreamDataset(
        data.source.streams,
        partial(features_of, data),
        options["batch_size"],
        data.seed,
        options["shuffle_buffer_size"],
        options["probabilities"],
        options["stopping_strategy"],
        replicas,
        rank,
        partial(data.grouping, "train"),
    )
    workers = options["num_workers"]
    return StreamLoader(
        stream,
        partial(data.batch_of, "train"),
        workers,
        multiprocessing_context=options["multiprocessing_context"] if workers else None,
        worker_init_fn=partial(begin_loading, rank=rank) if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def features_of(data: Any, rows: dict[str, list[Any]]) -> dict[str, Any]:
    """Tokenizes streamed rows; of the row checks, those that need no other row.

    Raises:
        RowError: a row is of a kind whose action is `error`.
    """
    features = {name: as_column(values) for name, values in data.tokenize(rows, "train").items()}
    row = np.asarray(features["row"])
    columns, cut, marks = checked(data.row_content(rows, "train"), features, data.unknown_id, data.bad_rows)
    if cut.any() and not data.said_cut:
        data.said_cut = True  # once in each loader process
        log.info(f"streamed rows {data.kinds_of_bad_rows['cut'].are}, such as one that loses {int(cut.max())} tokens")
    dropped = np.zeros(len(marks), bool)
    for kind in marks.kinds:
        shown, action = marks.shows(kind), data.on_bad_rows[kind]
        if action == "error" and shown.any():
            bad = data.kinds_of_bad_rows[kind]
            fix = f"{bad.fix}, or set on_bad_rows: {{{kind}: drop}}"
            raise RowError(int(shown.argmax()), f"one of the rows that {bad.are}: {fix}")
        dropped |= shown & (action == "drop")
    if dropped.any():
        kept = np.flatnonzero(~dropped[row])
        return {name: taken(column, kept) for name, column in columns.items()}
    return columns
