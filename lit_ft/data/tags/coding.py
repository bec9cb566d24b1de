"""Tags of words -> the ids that a model learns: looked up, converted to its scheme, and laid on the words' tokens."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lit_ft.data.features.ragged import Array, Ragged, offsets_of
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.labels import IGNORED
from lit_ft.data.tags.rows import Tags
from lit_ft.data.tags.schemes import OUTSIDE, TagScheme, TagTable, are_entities, chunks, continuation, converted
from lit_ft.data.tokenizing.words import EncodedWords
from lit_ft.errors import RowError, did_you_mean


class TagCoder:
    """Encodes tags.

    Args:
        labels: the model's tags by id.
        scheme: that they are in; `None` for plain tags.
        data_scheme: that the rows' tags are in.
    """

    def __init__(self, labels: Sequence[str], scheme: TagScheme | None, data_scheme: TagScheme | None) -> None:
        self.labels, self.scheme, self.data_scheme = list(labels), scheme, data_scheme
        self._ids = {name: number for number, name in enumerate(labels)}
        self._types = {name.split("-", 1)[-1] for name in labels}

    def encode(self, tags: Tags, sizes: Array, strict: bool, column: str) -> tuple[Array, Array, Array]:
        """Encodes the tags of a batch of rows.

        Args:
            tags: of each row's words; `None` for a row without tags.
            sizes: words of each row, `[rows]`.
            strict: a tag that the model does not have is an error; else its row counts as one without tags.
            column: of the tags, for messages.

        Returns:
            Ids `[words]`, -100 where there is no tag; which rows have an unknown tag, and which have tags that their
            scheme does not allow, `[rows]`.

        Raises:
            RowError: a tag is unknown.
        """
        names = sorted({tag for row in tags for tag in row or []})
        number = {name: at for at, name in enumerate(names)}
        lookup = np.array([self._id(name) for name in names] or [IGNORED], np.int64)
        untagged = np.array([row is None for row in tags], bool)
        flat = np.fromiter(
            (number[tag] if row is not None else 0 for row, size in zip(tags, sizes, strict=True)
             for tag in (row if row is not None else [""] * size)),
            np.int64, int(sizes.sum()),
        )  # fmt: skip
        offsets = offsets_of(sizes)
        row_of = np.repeat(np.arange(len(sizes)), sizes)
        unknown = np.bincount(row_of, (lookup[flat] == -1) & ~untagged[row_of], len(sizes)) > 0
        if strict and unknown.any():
            self._refuse(int(np.flatnonzero(unknown)[0]), tags, column)
        ids, ill_formed = lookup[flat], np.zeros(len(sizes), bool)
        if self.scheme is not None and self.data_scheme is not None:
            known = np.where(unknown[row_of] | untagged[row_of], number.get(OUTSIDE, len(names)), flat)
            table = _table((*names, OUTSIDE))
            found = chunks(Ragged(known, offsets), table, self.data_scheme)
            ill_formed = np.bincount(row_of[found.start], ~found.well_formed, len(sizes)) > 0
            if self.scheme != self.data_scheme:
                ids = converted(found, offsets, table.types, _table(tuple(self.labels)), self.scheme)
        return np.where(unknown[row_of] | untagged[row_of], IGNORED, ids), unknown, ill_formed

    def _id(self, name: str) -> int:
        if self.scheme is None or self.scheme == self.data_scheme:
            return self._ids.get(name, -1)
        fits = name == OUTSIDE or (are_entities([name]) and name.split("-", 1)[1] in self._types)
        return 0 if fits else -1

    def _refuse(self, row: int, tags: Tags, column: str) -> None:
        place, tag = next((at, tag) for at, tag in enumerate(tags[row] or []) if self._id(tag) == -1)
        raise RowError(
            row,
            f"column {column!r}: word {place + 1} is tagged {tag!r}, which is none of the tags: {self.labels}"
            f"{did_you_mean(tag, self.labels)}",
        )


@lru_cache(maxsize=64)
def _table(names: tuple[str, ...]) -> TagTable:
    return TagTable.of([name if are_entities([name]) else OUTSIDE for name in names])


def piece_labels(
    encoded: EncodedWords, ids: Array, labels: Sequence[str], scheme: TagScheme | None, every: bool
) -> Ragged:
    """Lays the tags of words on their tokens.

    Args:
        encoded: the features of a batch.
        ids: of the words' tags, `[words]`.
        labels: the tags by id.
        scheme: that they are in; `None` for plain tags.
        every: tag all tokens of a word, those behind the first as the inside of its entity; else the first only.

    Returns:
        Labels of the tokens of each feature; -100 where a token is not to be learned.
    """
    word, offsets = encoded.word.values, encoded.word.offsets
    own = word >= 0
    made = np.full(len(word), IGNORED, np.int64)
    if every:
        inside = np.arange(len(labels)) if scheme is None else continuation(TagTable.of(labels))
        made[own] = np.where(ids >= 0, inside[np.maximum(ids, 0)], IGNORED)[word[own]]
    first = encoded.first.values + np.repeat(offsets[:-1], encoded.first.lengths)
    made[first] = ids[word[first]]
    return Ragged(made, offsets)


def count_tags(store: FeatureStore, labels: Sequence[str], scheme: TagScheme | None) -> dict[str, int]:
    """Counts the labelled tokens of each tag, of entities those of each type; empty where no token has a label.

    Args:
        store: features, maybe with the `labels` of their tokens.
        labels: the tags by id.
        scheme: that they are in; `None` for plain tags.
    """
    counts = np.zeros(len(labels), np.int64)
    for piece in store.pieces() if "labels" in store.column_names else ():
        found = piece["labels"]
        assert isinstance(found, Ragged)
        ids = found.values[found.offsets[0] : found.offsets[-1]]
        counts += np.bincount(ids[ids >= 0], minlength=len(labels))
    kinds = [name.partition("-")[2] or name if scheme else name for name in labels]
    total = dict.fromkeys(kinds, 0)
    for kind, count in zip(kinds, counts.tolist(), strict=True):
        total[kind] += count
    return total if counts.any() else {}
