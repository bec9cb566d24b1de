"""A few rows of a set for people to look at: which ones, how bad ones begin, and what script unknown words are in."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from lit_ft.data.features.ragged import Array
from lit_ft.data.ordering.orders import shuffled
from lit_ft.data.preparing.featurizing import Task
from lit_ft.data.quality.marks import RowMarks
from lit_ft.data.quality.report import Found
from lit_ft.data.reading.formats.common import shorten
from lit_ft.data.reading.raw import RawRows, Split

SHOWN = 12
"""Rows whose names are kept for a preview."""
TEXTS = 2
"""Rows of each kind of bad ones whose texts a report has."""
READ = 5_000
"""Most rows of unknown tokens whose script is looked up."""
LETTERS = 200
"""Letters of a text that tell its script."""


def some_rows(kept: Array) -> list[int]:
    """Returns the numbers of some of the rows that stay, always the same ones, in random order."""
    rows = np.flatnonzero(kept)
    return [int(row) for row in rows[shuffled(len(rows), 0, 0)[:SHOWN]]]


def add_texts(found: Mapping[str, Found], marks: RowMarks, rows: RawRows, kind: Split, task: Task) -> None:
    """Adds to each kind of bad rows how the first of them begin, and to unknown tokens in which scripts they are."""
    for each in found.values():
        chosen = rows.select(np.array(each["rows"][:TEXTS], np.int64))
        each["texts"] = [" | ".join(map(shorten, cells)) for cells in _texts(chosen, kind, task)]
    if "unknown_tokens" in found:
        strange = rows.select(np.flatnonzero(marks.shows("unknown_tokens"))[:READ])
        counts = Counter(script(" ".join(cells)) for cells in _texts(strange, kind, task))
        found["unknown_tokens"]["scripts"] = dict(counts.most_common())


def script(text: str) -> str:
    """Returns the script that most letters of a text are in, as Unicode calls it: `Latin`, `Cyrillic`, `Cjk`, ..."""
    letters = [char for char in text if char.isalpha()][:LETTERS]
    names = Counter(unicodedata.name(char, "unknown").split()[0].capitalize() for char in letters)
    return names.most_common(1)[0][0] if names else "no letters"


def _texts(rows: RawRows, kind: Split, task: Task) -> Iterator[list[str]]:
    """Yields the text cells of each row."""
    for batch in rows.batches(task.input_columns(kind)):
        for cells in zip(*task.row_content(batch, kind).texts, strict=True):
            yield [cell or "" for cell in cells]
