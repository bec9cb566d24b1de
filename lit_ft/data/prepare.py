"""Raw rows -> features on disk, once per machine."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from lit_ft.data.cache import once
from lit_ft.data.raw import Kind, RawRows


@dataclass
class Work:
    """What is to be prepared.

    Attributes:
        rows: raw rows by kind of split and name of set.
        description: plain JSON kept beside the features.
        tokenize: turns a batch of rows of one kind into columns of features; `row` is the index in the batch of the row
            that a feature came from, `tokens_cut` the tokens lost in it.
        notes: messages to be said whenever the result is used.
    """

    rows: Mapping[Kind, Mapping[str, RawRows]]
    description: dict[str, Any]
    tokenize: Callable[[dict[str, list[Any]], Any], dict[str, list[Any]]]
    notes: list[str]


@dataclass
class Prepared:
    """What was prepared, memory-mapped: `sets` maps kind and name to features and the raw rows they came from."""

    description: dict[str, Any]
    notes: list[str]
    sets: dict[str, dict[str, tuple[Dataset, Dataset]]]


def prepare(
    key: dict[str, Any], work: Callable[[], Work], root: Path, num_proc: int | None, overwrite: bool
) -> Prepared:
    """Tokenizes the rows of a stage, unless that was done before under the same key, and maps the result.

    Args:
        key: everything that the result depends on, as plain values.
        work: loads the rows; called only when there is work to do.
        root: where prepared folders lie.
        num_proc: processes that tokenize.
        overwrite: prepare anew.
    """
    folder = None if overwrite else _earlier(key, root)
    folder = folder or once(key, lambda path: _build(path, work, num_proc), root, overwrite)
    content = json.loads((folder / "content.json").read_text())
    sets = {
        kind: {
            name: (
                Dataset.load_from_disk(f"{folder}/{kind}-{number}-features"),
                Dataset.load_from_disk(f"{folder}/{kind}-{number}-rows"),
            )
            for number, name in enumerate(names)
        }
        for kind, names in content["sets"].items()
    }
    return Prepared({**content["description"], "prepared": folder.name}, content["notes"], sets)


def _earlier(key: dict[str, Any], root: Path) -> Path | None:
    """Returns what the run behind a checkpoint prepared, when rows, options and tokenizer are the same still.

    The key alone would miss it: now the checkpoint knows the labels that were read from the rows then.
    """
    folder = root / str(key.get("known", {}).get("prepared"))
    if not (folder / "key.json").is_file():
        return None
    before, now = json.loads((folder / "key.json").read_text()), json.loads(json.dumps(key, default=str))
    same = all(before[part] == now[part] for part in ("lit_ft", "class", "options", "tokenizer", "rows"))
    return folder if same else None


def _build(folder: Path, load: Callable[[], Work], num_proc: int | None) -> None:
    with _no_bars():
        work = load()
    for kind, sets in work.rows.items():
        for number, rows in enumerate(sets.values()):
            features = _tokenize(rows, kind, work, num_proc)
            with _no_bars():
                features.save_to_disk(f"{folder}/{kind}-{number}-features")
                rows.data.save_to_disk(f"{folder}/{kind}-{number}-rows")
    sets_by_kind = {kind: list(sets) for kind, sets in work.rows.items()}
    content = {"description": work.description, "notes": work.notes, "sets": sets_by_kind}
    (folder / "content.json").write_text(json.dumps(content, indent=1))


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


def _tokenize(rows: RawRows, kind: str, work: Work, num_proc: int | None) -> Dataset:
    tokenize = work.tokenize  # `work` itself would take the rows along into every process

    def run(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        features = tokenize(batch, kind)
        return {**features, "row": [indices[row] for row in features["row"]]}

    features = rows.data.map(
        run,
        batched=True,
        with_indices=True,
        remove_columns=rows.data.column_names,
        num_proc=num_proc,
        load_from_cache_file=False,
        new_fingerprint=os.urandom(8).hex(),
        desc=f"Tokenizing {rows.place}",
    )
    cut = features.with_format("numpy")["tokens_cut"][:]
    if cut.any():
        work.notes.append(
            f"{rows.place}: {int((cut > 0).sum())} of {len(rows.data)} rows are longer than max_seq_length and lose "
            f"{int(cut.sum())} tokens (raise max_seq_length, or set stride to read them in windows)"
        )
    return features.remove_columns("tokens_cut")
