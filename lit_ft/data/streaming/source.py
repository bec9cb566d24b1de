"""Where streamed training rows come from: a data module's source whose training rows are never all read."""

import logging
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features

from lit_ft.data.reading.raw import Groups, RawRows, RawSource, Scratch, Split, Strata
from lit_ft.data.streaming.order import Source, held_out
from lit_ft.data.streaming.streams import FileStream, MemoryStream, Stream, collect, open_hub
from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")


@dataclass(frozen=True)
class StreamedSource(RawSource):
    """As `RawSource`, but training rows are a stream, of which `load` returns the first rows only.

    A validation split that is cut from train is collected in one pass over the stream: a share of its rows, by a hash
    of their number, of which those beyond `limits` are used nowhere. Training takes exactly the rows outside of it.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limits.get("train") is not None:
            raise UserError("max_train_samples does not go with streaming: set trainer.max_steps")

    @property
    def streams(self) -> list[Source]:
        """The training rows."""
        return [self.stream]

    @cached_property
    def stream(self) -> Source:
        """The training rows.

        Raises:
            UserError: there are none, or they cannot be read.
        """
        sets = self.sets("train")
        if not sets:
            raise UserError("no training rows to stream: set train_file or dataset_name")
        (where,) = sets.values()
        cut = self.validation_split_percentage if self.cuts_validation() else 0
        return Source(self._opened(where), cut, self.seed)

    def _opened(self, where: Any) -> Stream:
        if self.files.get("train") is not None:
            return FileStream(self._paths(where), self.read, self.column_mapping)
        if self.dataset is not None:
            return MemoryStream(self._split(str(where)), f"dataset, split {where!r}", self.column_mapping)
        return open_hub(self._hub(), str(where), self.column_mapping)

    def fingerprint(self, kind: Split, root: Path) -> Any:
        """Returns plain values that change with the rows; of streamed files only size and time: they may be huge."""
        if kind == "train" or (kind == "validation" and self.cuts_validation()):
            files = {str(path): list(stamp) for path, stamp in self.stamps("train").items()}
            memory = None if self.dataset is None else self._split(str(*self.sets("train").values()))._fingerprint
            return [files, memory, self.stream.stream.fingerprint(), self.stream.held_out]
        return super().fingerprint(kind, root)

    def load(
        self,
        kind: Split,
        strata: Strata,
        scratch: Scratch,
        groups: Groups | None = None,
        limited_as: Split | None = None,
    ) -> dict[str, RawRows]:
        """Loads rows, by set; of train, the first ones."""
        if kind == "train":
            stream = self.stream.stream
            _, table = next(stream.chunks(0))
            return {"": RawRows(data_set_of(table, stream), stream.name)}
        if kind == "validation" and self.cuts_validation():
            stream = self.stream.stream
            if self.limits.get("validation") is None:
                log.info(
                    f"{stream.name}: one pass over all rows, to hold {self.validation_split_percentage} % of them out "
                    "for validation, in memory; max_eval_samples ends it earlier"
                )
            wanted = partial(held_out, percentage=self.validation_split_percentage, seed=self.seed)
            table = collect(stream, wanted, self.limits.get("validation"))
            numbers = np.asarray(table["row_number"])
            if len(numbers) == self.limits.get("validation"):
                log.info(
                    f"{stream.name}: {len(numbers)} rows held out for validation; further rows of these "
                    f"{self.validation_split_percentage} %, if there are, are used nowhere (max_eval_samples)"
                )
            rows = data_set_of(table.drop_columns(["row_number"]), stream)
            return {"": RawRows(rows, stream.name, kept=numbers, naming=stream.where)}
        return super().load(kind, strata, scratch, groups, limited_as)


def data_set_of(table: pa.Table, stream: Stream) -> Dataset:
    """Returns rows of a stream with what their columns hold, such as names of labels."""
    if stream.features is None:
        return Dataset(table)
    features = {stream.columns.get(name, name): feature for name, feature in stream.features.items()}
    return Dataset(table, DatasetInfo(features=Features({name: features[name] for name in table.column_names})))
