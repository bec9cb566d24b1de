"""Cells of words and of tags -> the words of each row, where they stand in its text, and a tag for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lit_ft.data.tokenizing.words import split_text
from lit_ft.errors import RowError

Reading = Literal["list", "spaced", "text"]
"""How a row's words are given: as a list, in a text that spaces separate, or in a text as people write it."""
Tags = list[list[str] | None]
Span = tuple[int, int, str]
"""The first character of an entity, the one behind its last, and its type."""

_STARTS, _ENDS = ("start", "start_offset", "begin"), ("end", "end_offset", "stop")
_TYPES = ("label", "labels", "type", "entity", "entity_group", "tag")


def reading_of(words: Sequence[Any], tags: Sequence[Any] | None) -> Reading:
    """Tells how words are given, by the cells of some rows; `tags` are those of the tag column, if there is one."""
    if any(isinstance(cell, list) for cell in words):
        return "list"
    given = [cell for cell in tags or [] if cell is not None and len(cell)]
    return "spaced" if given and not any(_are_spans(cell) for cell in given) else "text"


def words_of(cell: Any, reading: Reading) -> list[str]:
    """Returns the words of a row; none of a cell that is null.

    A list is taken as it stands, whatever the others are; a text where lists are expected is read as people write it.
    """
    if cell is None:
        return []
    if not isinstance(cell, str):
        return ["" if word is None else str(word) for word in cell]
    return cell.split() if reading == "spaced" else split_text(cell)[0]


def text_and_places(cell: Any, reading: Reading) -> tuple[str, list[tuple[int, int]]]:
    """Returns a row's text (words of a list are joined by spaces) and the characters of each word in it."""
    if isinstance(cell, str) and reading != "spaced":
        return cell, split_text(cell)[1]
    words = words_of(cell, reading)
    text = cell if isinstance(cell, str) else " ".join(words)
    places, at = [], 0
    for word in words:
        at = text.index(word, at) if isinstance(cell, str) else at
        places.append((at, at + len(word)))
        at += len(word) + (not isinstance(cell, str))
    return text, places


@dataclass
class SpanCounts:
    """What happened to entities given as characters.

    Attributes:
        total: how many there are.
        between: those that begin or end within a word, which is tagged as a whole.
        lost: those without a word, or within a longer one; they are left out.
    """

    total: int = 0
    between: int = 0
    lost: int = 0

    def note(self) -> str:
        """Says it; empty where nothing did."""
        said = []
        if self.between:
            said.append(f"{self.between} begin or end within a word, which is tagged as a whole")
        if self.lost:
            said.append(f"{self.lost} overlap a longer one, or hold no word, and are left out")
        return f"of {self.total} entities {'; '.join(said)}" if said else ""


class TagReader:
    """Reads the words and tags of batches of rows.

    Args:
        text_column: column of the words, or of the text.
        tag_column: column of a tag a word, or of the entities in the text.
        reading: how the words are given.
        names: tags in the order of their ids, for cells that hold ids.
    """

    def __init__(self, text_column: str, tag_column: str, reading: Reading, names: Sequence[str] | None = None) -> None:
        self.text_column, self.tag_column, self.reading, self.names = text_column, tag_column, reading, names

    def words(self, rows: dict[str, list[Any]]) -> list[list[str]]:
        """Returns the words of each row."""
        return [words_of(cell, self.reading) for cell in rows[self.text_column]]

    def tags(self, rows: dict[str, list[Any]], words: list[list[str]], counts: SpanCounts | None = None) -> Tags:
        """Returns a tag for each word of each row, `None` for rows that have none.

        Args:
            rows: the batch.
            words: what `words` returned.
            counts: what happens to entities given as characters is counted here.

        Raises:
            RowError: there are more tags than words, or fewer; or an entity is not in the text.
        """
        found: Tags = []
        for row, (cell, own) in enumerate(zip(rows[self.tag_column], words, strict=True)):
            if cell is None or (isinstance(cell, str) and not cell.strip() and own):
                found.append(None)
            elif self.reading == "text" or _are_spans(cell):
                found.append(self._of_spans(row, rows[self.text_column][row], cell, counts or SpanCounts()))
            else:
                found.append(self._of_words(row, cell, own))
        return found

    def _of_words(self, row: int, cell: Any, words: list[str]) -> list[str]:
        tags: list[Any] = cell.split() if isinstance(cell, str) else cell if isinstance(cell, list) else [cell]
        if len(tags) != len(words):
            raise RowError(
                row,
                f"column {self.text_column!r} has {len(words)} words, but {self.tag_column!r} {len(tags)} tags: "
                "every word needs one",
            )
        if None in tags:
            place = tags.index(None)
            raise RowError(
                row,
                f"column {self.tag_column!r} has no tag for word {place + 1} ({words[place]!r}): tag it, "
                "`O` if it is part of nothing",
            )
        return [self._name(tag) for tag in tags]

    def _name(self, tag: Any) -> str:
        if isinstance(tag, int) and self.names is not None and 0 <= tag < len(self.names):
            return self.names[tag]
        return str(tag)

    def _of_spans(self, row: int, cell: Any, entities: Any, counts: SpanCounts) -> list[str]:
        text, places = text_and_places(cell, self.reading)
        spans = self._spans(row, text, entities)
        tags = ["O"] * len(places)
        starts, ends = (np.array([place[side] for place in places], np.int64) for side in (0, 1))
        counts.total += len(spans)
        for start, end, kind in sorted(spans, key=lambda span: span[0] - span[1]):  # the longest first
            first, behind = int(np.searchsorted(ends, start, "right")), int(np.searchsorted(starts, end))
            if first >= behind or any(tag != "O" for tag in tags[first:behind]):
                counts.lost += 1
                continue
            counts.between += int(starts[first] < start or ends[behind - 1] > end)
            tags[first:behind] = [f"B-{kind}", *[f"I-{kind}"] * (behind - first - 1)]
        return tags

    def _spans(self, row: int, text: str, entities: Any) -> list[Span]:
        if isinstance(entities, dict) and all(isinstance(values, list) for values in entities.values()):
            entities = [dict(zip(entities, values, strict=True)) for values in zip(*entities.values(), strict=True)]
        if not isinstance(entities, list):
            raise RowError(
                row,
                f"column {self.tag_column!r}: expected a list of entities with `start`, `end` and `label`, "
                f"found {entities!r}",
            )
        spans = []
        for entity in entities:
            span = _span(entity)
            if span is None:
                raise RowError(
                    row,
                    f"column {self.tag_column!r}: no entity with `start`, `end` (characters) and `label`: {entity!r}",
                )
            if not 0 <= span[0] < span[1] <= len(text):
                raise RowError(
                    row,
                    f"column {self.tag_column!r}: characters {span[0]} to {span[1]} are not in the text, "
                    f"which has {len(text)}: {entity!r}",
                )
            spans.append(span)
        return spans


def _are_spans(cell: Any) -> bool:
    return isinstance(cell, dict) or (isinstance(cell, list) and bool(cell) and isinstance(cell[0], dict | list))


def _span(entity: Any) -> Span | None:
    if isinstance(entity, dict):
        parts = [
            next((entity[name] for name in names if entity.get(name) is not None), None)
            for names in (_STARTS, _ENDS, _TYPES)
        ]
    else:
        parts = list(entity) if isinstance(entity, list) and len(entity) == 3 else [None]
    kind = parts[-1]
    if isinstance(kind, list) and len(kind) == 1:  # Label Studio
        parts[-1] = kind[0]
    try:
        start, end, kind = parts
        return None if None in parts else (int(str(start)), int(str(end)), str(kind))
    except (TypeError, ValueError):
        return None
