"""The raw rows of a stage: which split comes from where, what is cut from train, how many rows are kept."""

import hashlib
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset

from lit_ft.data.readers import ReadOptions, read_file
from lit_ft.data.sources import Files, HubSource, NamedFiles, expand_files, in_memory, pick_split, read_files
from lit_ft.data.splits import cut_validation, rows_kept
from lit_ft.errors import UserError

Kind = Literal["train", "validation", "test", "predict"]
SplitNames = str | dict[str, str]

Strata = Callable[[Dataset, str], Sequence[Hashable] | None]


@dataclass
class RawRows:
    """One named set of rows.

    Attributes:
        data: the rows.
        place: how messages name them (the file, or the data set and split).
        whole: all rows of the file or split, before the validation cut and the cap; `None` = `data`.
        kept: which of the whole's rows `data` holds; `None` = all.
    """

    data: Dataset
    place: str
    whole: Dataset | None = None
    kept: list[int] | None = None

    def select(self, chosen: list[int] | None) -> "RawRows":
        """Returns some of the rows, with their numbers in the whole; `None` = all."""
        if chosen is None:
            return self
        kept = chosen if self.kept is None else [self.kept[row] for row in chosen]
        return RawRows(self.data.select(chosen), self.place, self.uncut, kept)

    @property
    def uncut(self) -> Dataset:
        """All rows of the file or split."""
        return self.data if self.whole is None else self.whole

    def number(self, row: int) -> int:
        """Returns the number, from 1, that a row of `data` has in its file or split."""
        return 1 + (row if self.kept is None else self.kept[row])


@dataclass(frozen=True)
class RawSource:
    """Finds and loads the rows of each kind of split.

    Args:
        dataset: objects in memory, by split (see `lit_ft.data.sources.in_memory`), or `None`.
        hub: a data set by name, or `None`.
        files: the files of each kind; they come before the data set's own splits.
        split_names: the split of each kind in the data set; a dict names several evaluation sets.
        read: how delimited files are read.
        validation_split_percentage: share cut from train where there is no validation split; 0 = none.
        seed: of the cut and of the samples.
        limits: most rows of each kind.
        head: keep the first rows instead of a seeded sample.
    """

    dataset: Any
    hub: HubSource | None
    files: Mapping[Kind, NamedFiles | None]
    split_names: Mapping[Kind, SplitNames | None]
    read: ReadOptions = field(default_factory=ReadOptions)
    validation_split_percentage: float = 5
    seed: int = 42
    limits: Mapping[Kind, int | None] = field(default_factory=dict)
    head: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.validation_split_percentage < 100:
            raise UserError(f"validation_split_percentage {self.validation_split_percentage} is not from 0 to 99")
        for kind, limit in self.limits.items():
            if limit is not None and limit < 1:
                raise UserError(f"the most rows to {kind} cannot be {limit}; leave the option out for all")

    @cached_property
    def parts(self) -> dict[str, Dataset]:
        """Splits of the objects in memory."""
        return {} if self.dataset is None else in_memory(self.dataset)

    def sets(self, kind: Kind) -> dict[str, Files | str]:
        """Returns the sets of one kind by name: their files, or their split's name; a single unnamed set is `""`."""
        files = self.files.get(kind)
        if files is not None:
            return _named(files) if isinstance(files, dict) else {"": files}
        names = self.split_names.get(kind)
        if self.dataset is None and self.hub is None:
            return {}
        if names is None:
            return {"": kind} if kind in self._known_splits() else {}
        return _named(names) if isinstance(names, dict) else {"": names}

    def stem(self, kind: Kind) -> str:
        """Returns a name for the one unnamed set of a kind: its file's, without extensions, or its split's."""
        (where,) = self.sets(kind).values()
        if self.files.get(kind) is None:
            return str(where).rpartition("/")[2]
        path = expand_files(where)[0]
        return Path(path.name.removesuffix(".gz")).stem

    def cuts_validation(self) -> bool:
        """Says whether the validation split is cut from train."""
        return self.validation_split_percentage > 0 and not self.sets("validation")

    def fingerprint(self, kind: Kind) -> Any:
        """Returns plain values that change whenever the rows of this kind do."""
        if kind == "validation" and not self.sets(kind):
            return self.fingerprint("train") if self.cuts_validation() else None
        prints: dict[str, Any] = {"cut": kind == "train" and self.cuts_validation()}
        for name, where in self.sets(kind).items():
            if self.files.get(kind) is not None:
                prints[name] = [[str(path), _content_digest(path, self.read)] for path in expand_files(where)]
            else:
                prints[name] = self._split(str(where))._fingerprint
        return prints

    def load(self, kind: Kind, strata: Strata) -> dict[str, RawRows]:
        """Loads the rows of one kind, by set.

        Args:
            kind: which split.
            strata: gives one key per row of train, for the cut.

        Raises:
            UserError: there is no such split, or a file cannot be read.
        """
        if kind in ("train", "validation") and self.cuts_validation():
            return {"": self._capped(self._cut(kind, strata), kind)}
        return {name: self._capped(self._read(kind, where), kind) for name, where in self.sets(kind).items()}

    def _cut(self, kind: Kind, strata: Strata) -> RawRows:
        sets = self.sets("train")
        if not sets:
            raise UserError("no training rows: set train_file or dataset_name" + self._known_message())
        (where,) = sets.values()
        whole = self._read("train", where)
        keys = strata(whole.data, whole.place)
        train, validation = cut_validation(len(whole.data), self.validation_split_percentage, self.seed, keys)
        return whole.select(train if kind == "train" else validation)

    def _read(self, kind: Kind, where: Files | str) -> RawRows:
        if self.files.get(kind) is not None:
            names = [where] if isinstance(where, str) else where
            return RawRows(read_files(where, self.read), ", ".join(names))
        return RawRows(self._split(str(where)), f"{self._name()}, split {where!r}")

    def _split(self, name: str) -> Dataset:
        data = pick_split(self.parts, name, self._name()) if self.dataset is not None else self._hub().load(name)
        if len(data) == 0:
            raise UserError(f"{self._name()}, split {name!r}: no rows")
        return data

    def _capped(self, rows: RawRows, kind: Kind) -> RawRows:
        return rows.select(rows_kept(len(rows.data), self.limits.get(kind), self.seed, self.head))

    def _hub(self) -> HubSource:
        assert self.hub is not None
        return self.hub

    def _name(self) -> str:
        return "dataset" if self.dataset is not None else f"dataset {self._hub().name!r}"

    def _known_splits(self) -> set[str]:
        return set(self.parts) if self.dataset is not None else self._hub().splits()

    def _known_message(self) -> str:
        return (
            ""
            if self.dataset is None and self.hub is None
            else f"; splits of {self._name()}: {sorted(self._known_splits())}"
        )


def _named(sets: Mapping[str, Any]) -> dict[str, Any]:
    for name in sets:
        if not re.fullmatch(r"[\w.-]+", name):
            raise UserError(
                f"{name!r} cannot name a set: metrics and files are called after it; use letters and digits"
            )
    return dict(sets)


def _content_digest(path: Path, options: ReadOptions) -> str:
    if not path.is_file():
        read_file(path, options)  # raises with the closest name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
