"""Several sources of training rows, each with columns, validation and test rows of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lit_ft.data.caching.fingerprints import Stamp
from lit_ft.data.reading.raw import COVERED, Groups, RawRows, RawSource, Scratch, Split, Strata, named_sets
from lit_ft.data.reading.readers import ReadOptions
from lit_ft.data.reading.sources import Files, HubSource
from lit_ft.data.streaming.order import Source
from lit_ft.errors import UserError, did_you_mean

KINDS: tuple[Split, ...] = ("train", "validation", "test")
OPTIONS = {
    "dataset", "dataset_name", "dataset_config_name", "dataset_revision", "column_names", "quoting", "delimiter",
    "sample_by", "keep_linebreaks", "column_mapping", "validation_split_percentage", "max_train_samples",
    "max_eval_samples", *(f"{kind}_file" for kind in KINDS), *(f"{kind}_split_name" for kind in KINDS),
}  # fmt: skip


@dataclass(frozen=True)
class MixedSource:
    """Reads as one `RawSource`: training rows are a set per source, evaluation sets are named after their source.

    Args:
        own: evaluation rows beside those of the sources, and the rows to predict.
        members: the sources by name.
    """

    own: RawSource
    members: Mapping[str, RawSource]
    covered_options = COVERED

    @property
    def streams(self) -> list[Source]:
        """The training rows of each source, where they are streamed."""
        return [stream for member in self.members.values() for stream in member.streams]

    def sets(self, kind: Split) -> dict[str, Files | str]:
        """Returns the sets of one kind by name; see `RawSource.sets`."""
        found = {} if kind == "train" else {name or "own": where for name, where in self.own.sets(kind).items()}
        for member, source in self.members.items() if kind != "predict" else ():
            named = {_joined(member, name): where for name, where in source.sets(kind).items()}
            for name in named.keys() & found.keys():
                raise UserError(f"two {kind} sets are named {name!r}: give sources.{member} another name")
            found |= named
        return {"": found["own"]} if list(found) == ["own"] else found

    def stem(self, kind: Split) -> str:
        """Returns a name for the one unnamed set of a kind."""
        return self.own.stem(kind)

    def fingerprint(self, kind: Split, root: Path) -> Any:
        """Returns plain values that change whenever the rows of this kind do."""
        own = None if kind == "train" else self.own.fingerprint(kind, root)
        if kind == "predict":
            return own
        return [own, {name: source.fingerprint(kind, root) for name, source in self.members.items()}]

    def stamps(self, kind: Split) -> dict[Path, Stamp]:
        """Returns what shows, a moment later, whether the files of this kind are still the same."""
        sources = [self.own, *(self.members.values() if kind != "predict" else ())]
        return {path: stamp for source in sources for path, stamp in source.stamps(kind).items()}

    def load(
        self,
        kind: Split,
        strata: Strata,
        scratch: Scratch,
        groups: Groups | None = None,
        limited_as: Split | None = None,
    ) -> dict[str, RawRows]:
        """Loads the rows of one kind, by set; see `RawSource.load`."""
        self.sets(kind)  # raises where two sets have one name
        own = {} if kind == "train" else self.own.load(kind, strata, scratch, groups, limited_as)
        found = {name or "own": rows for name, rows in own.items()}
        for member, source in self.members.items() if kind != "predict" else ():
            loaded = source.load(kind, strata, scratch, groups, limited_as)
            found |= {_joined(member, name): rows for name, rows in loaded.items()}
        return {"": found["own"]} if list(found) == ["own"] else found


def mixed_source(own: RawSource, sources: Mapping[str, Mapping[str, Any]]) -> RawSource | MixedSource:
    """Returns the source of a data module's rows: its own options, or a mixture where `sources` are given.

    Args:
        own: the source by the data module's own options; its limits and its seed hold for every source.
        sources: options of each source by name, such as `train_file` and `column_mapping`.

    Raises:
        UserError: an option is unknown, a source has no training rows, or training rows are given twice.
    """
    if not sources:
        return own
    if own.files.get("train") is not None or own.dataset is not None or own.hub is not None:
        raise UserError("training rows come from `sources`: move train_file, dataset_name or dataset into one of them")
    members = {name: _member(name, options or {}, own) for name, options in named_sets(sources).items()}
    # a validation split is cut from the sources, never from what only evaluates
    return MixedSource(replace(own, validation_split_percentage=0), members)


def _member(name: str, options: Mapping[str, Any], own: RawSource) -> RawSource:
    if not isinstance(options, Mapping):
        raise UserError(f"sources.{name} is {options!r}; write its options, such as {{train_file: {options}}}")
    for option in options:
        if option not in OPTIONS:
            raise UserError(
                f"sources.{name} has no option {option!r}{did_you_mean(option, OPTIONS)}; options: {sorted(OPTIONS)}"
            )
    for option in ("max_train_samples", "max_eval_samples"):
        if not isinstance(options.get(option, 1), int | None):
            raise UserError(f"sources.{name}: {option} is {options[option]!r}, expected a number of rows")
    hub = options.get("dataset_name")
    if hub is None and options.get("dataset") is None and options.get("train_file") is None:
        raise UserError(f"sources.{name} has no training rows: set train_file or dataset_name in it")
    evaluated = options.get("max_eval_samples", own.limits.get("validation"))
    return replace(
        own,
        dataset=options.get("dataset"),
        hub=HubSource(hub, options.get("dataset_config_name"), options.get("dataset_revision")) if hub else None,
        files={kind: options.get(f"{kind}_file") for kind in KINDS},
        split_names={kind: options.get(f"{kind}_split_name", "train" if kind == "train" else None) for kind in KINDS},
        read=ReadOptions(
            options.get("column_names", own.read.column_names),
            options.get("quoting", own.read.quoting),
            options.get("delimiter", own.read.delimiter),
            options.get("sample_by", own.read.sample_by),
            options.get("keep_linebreaks", own.read.keep_linebreaks),
            own.read.as_conll,
            own.read.sides,
        ),
        column_mapping={**own.column_mapping, **(options.get("column_mapping") or {})},
        validation_split_percentage=options.get("validation_split_percentage", own.validation_split_percentage),
        limits={
            "train": options.get("max_train_samples", own.limits.get("train")),
            "validation": evaluated,
            "test": evaluated,
            "predict": own.limits.get("predict"),
        },
    )


def _joined(member: str, name: str) -> str:
    return f"{member}_{name}" if name else member
