"""Raw rows -> features on disk, once per machine, in memory that does not grow with the rows."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from lit_ft.data.caching.cache import find, once
from lit_ft.data.features.ragged import Array
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.preparing.featurizing import Featurizer, Task, featurize
from lit_ft.data.preparing.regrouping import regrouped
from lit_ft.data.preparing.row_samples import add_texts, some_rows
from lit_ft.data.quality.judgement import SEEN, Judgement, SetMarks, judge
from lit_ft.data.quality.keys import FORMS, Hashes, sorted_texts
from lit_ft.data.quality.kinds import Action
from lit_ft.data.quality.marks import RowMarks
from lit_ft.data.reading.raw import RawRows, Split
from lit_ft.errors import UserError


@dataclass
class Work:
    """What is to be prepared.

    Attributes:
        rows: raw rows by kind of split and name of set.
        description: plain JSON kept beside the features.
        task: turns rows into features.
        notes: messages to be said whenever the result is used.
        on_bad_rows: what to do with each kind of bad row.
        unknown_id: id of the tokenizer's unknown token.
    """

    rows: Mapping[Split, Mapping[str, RawRows]]
    description: dict[str, Any]
    task: Task
    notes: list[str]
    on_bad_rows: Mapping[str, Action] = field(default_factory=dict)
    unknown_id: int | None = None


@dataclass
class PreparedSet:
    """Features of one set, memory-mapped, and the raw columns that are handed along with them.

    `known_rows` says of some rows, by number, what messages call them and how many tokens they lose.
    """

    features: FeatureStore
    info: Dataset | None
    known_rows: dict[int, tuple[str, int]] = field(default_factory=dict)


@dataclass
class Prepared:
    """What was prepared: `sets` maps kind and name to features, `report` says what is wrong with the rows."""

    folder: Path
    description: dict[str, Any]
    notes: list[str]
    report: dict[str, Any]
    sets: dict[Split, dict[str, PreparedSet]]


def prepare(
    key: dict[str, Any], work: Callable[[Path], Work], root: Path, num_proc: int | None, overwrite: bool
) -> Prepared:
    """Tokenizes the rows of a stage, unless that was done before under the same key, and maps the result.

    Args:
        key: everything that the result depends on, as plain values.
        work: loads the rows, into a folder that it is given; called only when there is work to do.
        root: where prepared folders lie.
        num_proc: processes that tokenize.
        overwrite: prepare anew.
    """
    folder = None if overwrite else _earlier(key, root)
    earlier = find(str(key.get("known", {}).get("prepared")), root)
    for _ in range(3):
        folder = folder or once(key, lambda path: _build(path, work, num_proc or 1, earlier), root, overwrite)
        try:
            return opened(folder)
        except FileNotFoundError:  # cleared, or made anew by somebody else, in this very moment
            folder = None
    raise UserError(f"{root}: prepared data disappears as soon as it is made; is somebody clearing the folder?")


def _earlier(key: dict[str, Any], root: Path) -> Path | None:
    """Returns what the run behind a checkpoint prepared, when rows, options and tokenizer are the same still.

    The key alone would miss it: now the checkpoint knows the labels that were read from the rows then.
    """
    folder = find(str(key.get("known", {}).get("prepared")), root)
    if folder is None:
        return None
    before = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    now = json.loads(json.dumps(key, default=str))
    parts = ("lit_ft", "class", "options", "tokenizer", "max_seq_length", "rows")
    return folder if all(before.get(part) == now.get(part) for part in parts) else None


def opened(folder: Path) -> Prepared:
    """Maps what lies in a prepared folder."""
    content = json.loads((folder / "content.json").read_text(encoding="utf-8"))
    sets = {
        kind: {
            name: _opened_set(folder / f"{kind}-{number}", content.get("known_rows", {}).get(kind, {}).get(name))
            for number, name in enumerate(names)
        }
        for kind, names in content["sets"].items()
    }
    return Prepared(
        folder, {**content["description"], "prepared": folder.name}, content["notes"], content["report"], sets
    )


def _opened_set(folder: Path, known_rows: dict[str, tuple[str, int]] | None = None) -> PreparedSet:
    kept = folder / "kept.npy"
    store = FeatureStore(
        sorted(folder.glob("features-*.arrow")), np.load(kept, mmap_mode="r") if kept.exists() else None
    )
    info = folder / "info"
    known = {int(row): (name, lost) for row, (name, lost) in (known_rows or {}).items()}
    return PreparedSet(store, Dataset.load_from_disk(str(info)) if info.exists() else None, known)


def _build(folder: Path, load: Callable[[Path], Work], processes: int, earlier: Path | None) -> None:
    scratch = folder / "raw"
    with _no_bars():
        work = load(scratch)
    places = [
        (kind, number, name, rows)
        for kind, sets in work.rows.items()
        for number, (name, rows) in enumerate(sets.items())
    ]
    marks: list[SetMarks] = []
    lost = []
    judged, known = judge([], work.on_bad_rows), {} if earlier is None else _texts_in(earlier)
    for kind, number, name, rows in places:
        target = folder / f"{kind}-{number}"
        target.mkdir()
        found, tokens_cut = featurize(Featurizer(work.task, rows, kind, work.unknown_id, target), processes)
        marks.append(SetMarks(kind, name, rows.place, found, rows.where))
        lost.append(tokens_cut)
        if kind == "train" and len(marks) == len(work.rows["train"]):
            # what is an error there is said before other sets are tokenized
            judged = judge(marks, work.on_bad_rows, kinds=work.task.kinds_of_bad_rows)
            _save_texts(judged, "train", folder)
            known = _texts_in(folder)
    judged = judged.followed_by(judge(marks[len(judged.kept) :], work.on_bad_rows, known, work.task.kinds_of_bad_rows))
    _save_texts(judged, "validation", folder)
    known_rows: dict[str, dict[str, dict[int, tuple[str, int]]]] = {kind: {} for kind in work.rows}
    for place, kept, one, cut, report in zip(places, judged.kept, marks, lost, judged.report["sets"], strict=True):
        kind, number, name, rows = place
        target, stays = folder / f"{kind}-{number}", np.ones(len(cut), bool) if kept is None else kept
        work.notes += _remarks(rows, kind, one.marks, cut, stays, work.task)
        report["tokens_lost"] = int(cut.sum(where=stays, dtype=np.int64))
        add_texts(report["found"], one.marks, rows, kind, work.task)
        if work.task.grouping(kind) is None:
            known_rows[kind][name] = {row: (one.row(row), int(cut[row])) for row in some_rows(stays)}
        shutil.rmtree(target / "marks")
        if kept is not None:
            _keep(target, kept)
        if (grouping := work.task.grouping(kind)) is not None:
            work.notes += regrouped(target, grouping, rows.place)
        if columns := work.task.info_columns(rows.data.column_names, kind):
            with _no_bars():
                rows.data.select_columns(columns).save_to_disk(str(target / "info"))
    trained = [_opened_set(folder / f"{kind}-{number}").features for kind, number, _, _ in places if kind == "train"]
    work.description |= work.task.summarise(trained) if trained else {}
    shutil.rmtree(scratch, ignore_errors=True)
    content = {
        "description": work.description,
        "notes": work.notes,
        "sets": {kind: list(sets) for kind, sets in work.rows.items()},
        "rows": {kind: {name: len(rows) for name, rows in sets.items()} for kind, sets in work.rows.items()},
        "report": judged.report,
        "known_rows": known_rows,
    }
    (folder / "content.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _keep(folder: Path, kept: Array) -> None:
    """Writes which features are of rows that stay."""
    store = FeatureStore(sorted(folder.glob("features-*.arrow")))
    size = sum(int(kept[rows].sum()) for (rows,) in store.parts("row"))
    with (folder / "kept.npy").open("wb") as file:
        _begin_array(file, size, np.dtype(np.int64))
        for start, (rows,) in zip(store.starts, store.parts("row"), strict=False):
            file.write((np.flatnonzero(kept[rows]) + start).tobytes())


def _save_texts(judged: Judgement, kind: Split, folder: Path) -> None:
    """Saves the texts of a split, for the sets of this stage and of later ones."""
    rows = judged.chosen[kind]
    size = sum(int(some.rows.sum()) for some in rows)
    for form in FORMS if rows else ():
        with (folder / f"{kind}_{form}.npy").open("wb") as file:
            _begin_array(file, size, np.dtype(np.uint64))
            for part in sorted_texts(rows, form):
                file.write(part.tobytes())


def _begin_array(file: BinaryIO, size: int, kind: np.dtype[Any]) -> None:
    shape = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(file, shape)


def _texts_in(prepared: Path) -> dict[Split, Hashes]:
    """Maps the texts of a stage, which say what a test set has in common with them, by split."""
    found: dict[Split, Hashes] = {}
    for split in SEEN.values():
        files = {form: prepared / f"{split}_{form}.npy" for form in FORMS}
        if all(file.exists() for file in files.values()):
            found[split] = {form: np.load(file, mmap_mode="r") for form, file in files.items()}
    return found


def _remarks(rows: RawRows, kind: Split, marks: RowMarks, tokens_cut: Array, kept: Array, task: Task) -> list[str]:
    """Says what rows that stay lose in training or scoring."""
    remarks, shorter = [], kept & (tokens_cut > 0)
    if shorter.any():
        lost, cut = int(tokens_cut.sum(where=shorter, dtype=np.int64)), task.kinds_of_bad_rows["cut"]
        remarks.append(
            f"{rows.place}: {int(shorter.sum())} of {len(rows)} rows {cut.are} and lose {lost} tokens ({cut.fix})"
        )
    unlabelled = marks.shows("unlabelled") & kept
    if kind in ("validation", "test") and unlabelled.any():
        if unlabelled[kept].all():
            raise UserError(f"{rows.place}: no row has a label, so there is nothing to score; use predict")
        remarks.append(
            f"{rows.place}: {int(unlabelled.sum())} of {len(rows)} rows have no label (empty, null or -1) and are not "
            "scored"
        )
    return remarks


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hides the bars of `datasets`: one, that of tokenizing, is enough."""
    hidden = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            enable_progress_bars()
