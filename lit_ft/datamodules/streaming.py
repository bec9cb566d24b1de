"""A data module's training rows as a stream: what it needs of the Trainer, and its loader."""

from functools import partial
from typing import Any

import numpy as np
import torch

from lit_ft.data.quality import KINDS
from lit_ft.data.ragged import as_column, taken
from lit_ft.data.stream_loader import StreamLoader
from lit_ft.data.streaming import StreamDataset
from lit_ft.errors import RowError, UserError


def check_streaming(data: Any) -> None:
    """Refuses what a stream cannot do.

    Raises:
        UserError: an option needs all rows, or the Trainer waits for an end that never comes.
    """
    options = data.hparams
    for option, plain in (("train_sampling_strategy", "random"), ("max_tokens_per_batch", None)):
        if options[option] != plain:
            raise UserError(f"{option} needs to know all rows, streaming does not: leave one of the two out")
    if data.train_weights is not None and options.get("class_balanced_sampling"):
        raise UserError("class_balanced_sampling needs to know all rows, streaming does not: leave one of the two out")
    trainer = data.trainer
    if trainer is None:
        return
    if trainer.max_steps < 0:
        raise UserError("streaming never comes to the end of an epoch: set trainer.max_steps")
    if data.set_names("validation") and trainer.limit_val_batches and not isinstance(trainer.val_check_interval, int):
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
    )
    workers = options["num_workers"]
    return StreamLoader(
        stream,
        partial(data.batch_of, "train"),
        workers,
        multiprocessing_context=options["multiprocessing_context"] if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def features_of(data: Any, rows: dict[str, list[Any]]) -> dict[str, Any]:
    """Tokenizes streamed rows; of the row checks, those that need no other row.

    Raises:
        RowError: a row without a label, or with an unknown one, unless `on_bad_rows` drops it.
    """
    content, actions = data.row_content(rows, "train"), data.on_bad_rows
    empty = np.array([not all(text and text.strip() for text in texts) for texts in zip(*content.texts, strict=True)])
    bad = {"empty_text": empty}
    if content.labels is not None:
        bad["unlabelled"] = np.array([label is None for label in content.labels])
    features = {name: as_column(values) for name, values in data.tokenize(rows, "train").items()}
    row = np.asarray(features["row"])
    for kind in ("unknown_label", "cut"):
        flags = features.pop({"cut": "tokens_cut"}.get(kind, kind), None)
        if flags is not None:
            bad[kind] = np.bincount(row, weights=flags, minlength=len(empty)) > 0  # type: ignore[arg-type]
    dropped = np.zeros(len(empty), bool)
    for kind, rows_of_kind in bad.items():
        if actions[kind] == "error" and rows_of_kind.any():
            raise RowError(int(rows_of_kind.argmax()), KINDS[kind].are)
        dropped |= rows_of_kind & (actions[kind] == "drop")
    if not dropped.any():
        return features
    kept = np.flatnonzero(~dropped[row])
    return {name: taken(column, kept) for name, column in features.items()}
