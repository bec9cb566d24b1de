"""Tag schemes of entities (IO, IOB1, IOB2, BIOES, BILOU): read, checked and converted, all sentences at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, get_args

import numpy as np

from lit_ft.data.features.ragged import Array, Ragged
from lit_ft.errors import UserError

TagScheme = Literal["IO", "IOB1", "IOB2", "BIOES", "BILOU"]
SCHEMES: tuple[TagScheme, ...] = get_args(TagScheme)
OUTSIDE = "O"


class Prefix(IntEnum):
    """The place of a word in its entity; BILOU's `L` and `U` are BIOES' `E` and `S` by other names."""

    O = 0  # noqa: E741
    B = 1
    I = 2  # noqa: E741
    E = 3
    S = 4


_ALIKE: tuple[TagScheme, ...] = ("IOB2", "IOB1")
LETTERS: dict[TagScheme, dict[Prefix, str]] = {
    "IO": {Prefix.I: "I"},
    "IOB1": {Prefix.B: "B", Prefix.I: "I"},
    "IOB2": {Prefix.B: "B", Prefix.I: "I"},
    "BIOES": {Prefix.B: "B", Prefix.I: "I", Prefix.E: "E", Prefix.S: "S"},
    "BILOU": {Prefix.B: "B", Prefix.I: "I", Prefix.E: "L", Prefix.S: "U"},
}
"""What each scheme writes before the type."""
_PREFIXES = {**{each.name: each for each in Prefix}, "L": Prefix.E, "U": Prefix.S}


@dataclass(frozen=True)
class TagTable:
    """Tags by id, taken apart.

    Attributes:
        names: the tags, such as `B-PER`.
        prefix: of each tag, `[tags]`.
        kind: number of each tag's type, `[tags]`; -1 for `O`.
        types: the types by number, sorted.
    """

    names: list[str]
    prefix: Array
    kind: Array
    types: list[str]

    @classmethod
    def of(cls, names: Sequence[str]) -> "TagTable":
        """Takes tags apart; see `are_entities`."""
        parts = [name.split("-", 1) for name in names]
        types = sorted({part[1] for part in parts if len(part) == 2})
        kind = np.array([types.index(part[1]) if len(part) == 2 else -1 for part in parts], np.int64)
        prefix = np.array([_PREFIXES[part[0]] if len(part) == 2 else Prefix.O for part in parts], np.int64)
        return cls(list(names), prefix, kind, types)

    @classmethod
    def for_types(cls, types: Sequence[str], scheme: TagScheme) -> "TagTable":
        """Returns every tag that entities of these types can have."""
        letters = LETTERS[scheme].values()
        return cls.of([OUTSIDE, *(f"{letter}-{name}" for name in sorted(types) for letter in letters)])


def are_entities(names: Sequence[str]) -> bool:
    """Says whether tags are those of a scheme (`O`, `B-PER`, ...) and not plain ones, such as parts of speech."""
    others = [name for name in names if name != OUTSIDE]
    return bool(others) and all(re.fullmatch(r"[BIESLU]-.+", name) for name in others)


@dataclass(frozen=True)
class Chunks:
    """The entities of all sentences, in order; each goes on as long as a word can belong to the one before it.

    That is how conlleval and seqeval's default mode read tags, also ill-formed ones: no tag but `O` is left out.

    Attributes:
        start: index of each one's first word among all words.
        end: index behind its last word.
        kind: number of its type.
        well_formed: whether its tags are those that the scheme prescribes.
    """

    start: Array
    end: Array
    kind: Array
    well_formed: Array

    def __len__(self) -> int:
        return len(self.start)


def chunks(tags: Ragged, table: TagTable, scheme: TagScheme) -> Chunks:
    """Reads entities.

    Args:
        tags: ids of the tags of each sentence's words.
        table: the tags.
        scheme: that they are in.
    """
    prefix, kind = table.prefix[tags.values], table.kind[tags.values]
    before, before_kind = _before(prefix, kind, tags.offsets)
    inside = (prefix == Prefix.I) | (prefix == Prefix.E)
    goes_on = inside & ((before == Prefix.B) | (before == Prefix.I)) & (before_kind == kind)
    begins = (prefix != Prefix.O) & ~goes_on
    start = np.flatnonzero(begins)
    ends = np.append(begins | (prefix == Prefix.O), True)
    behind = np.flatnonzero(ends)
    end = behind[np.searchsorted(behind, start, "right")]
    end = np.minimum(end, _sentence_end(tags.offsets, start))
    follows = (before[start] != Prefix.O) & (before_kind[start] == kind[start])
    return Chunks(start, end, kind[start], _well_formed(prefix, follows, start, end, scheme))


def _before(prefix: Array, kind: Array, offsets: Array) -> tuple[Array, Array]:
    """What each word's neighbour before it is tagged; outside at the beginning of a sentence."""
    before, before_kind = np.roll(prefix, 1), np.roll(kind, 1)
    firsts = offsets[:-1][offsets[:-1] < offsets[1:]]
    before[firsts], before_kind[firsts] = Prefix.O, -1
    return before, before_kind


def _sentence_end(offsets: Array, places: Array) -> Array:
    return np.asarray(offsets[np.searchsorted(offsets, places, "right")])


def _well_formed(prefix: Array, follows: Array, start: Array, end: Array, scheme: TagScheme) -> Array:
    first, last = prefix[start], prefix[end - 1]
    if scheme == "IO":
        return np.ones(len(start), bool)
    if scheme == "IOB2":
        return np.asarray(first == Prefix.B)
    if scheme == "IOB1":  # B only where an entity follows another one of its type
        return np.asarray((first == Prefix.I) | follows)
    single = (first == Prefix.S) & (end - start == 1)
    return np.asarray(single | ((first == Prefix.B) & (last == Prefix.E)))


def recognise(tags: Ragged, table: TagTable) -> TagScheme:
    """Tells the scheme of tags that are those of one.

    BIOES and BILOU by their letters; IOB1 and not IOB2 where it allows more of the entities.
    """
    letters = {name[0] for name in table.names if name != OUTSIDE}
    if letters & {"L", "U"}:
        return "BILOU"
    if letters & {"E", "S"}:
        return "BIOES"
    if letters == {"I"}:
        return "IO"
    allowed = {scheme: int(chunks(tags, table, scheme).well_formed.sum()) for scheme in _ALIKE}
    return max(_ALIKE, key=allowed.__getitem__)


def touching(found: Chunks, offsets: Array) -> Array:
    """Returns the entities that begin where another one of their type ends, which IO makes one of."""
    follows = np.flatnonzero(found.start[1:] == found.end[:-1]) + 1
    same = found.kind[follows] == found.kind[follows - 1]
    apart = np.isin(found.start[follows], offsets)
    return np.asarray(follows[same & ~apart])


def converted(found: Chunks, offsets: Array, types: Sequence[str], table: TagTable, scheme: TagScheme) -> Array:
    """Writes entities in a scheme.

    Args:
        found: the entities.
        offsets: where each sentence begins, `[sentences + 1]`.
        types: the types by their number in `found`.
        table: the tags to be written.
        scheme: that they are in.

    Returns:
        Ids of the tags of all words, `[words]`; -1 for tags that the table does not have.
    """
    where = {name: number for number, name in enumerate(table.names)}
    ids = np.array(
        [[where.get(f"{LETTERS[scheme].get(each, '-')}-{name}", -1) for name in types] for each in Prefix], np.int64
    )
    total = int(offsets[-1])
    chunk = np.full(total, -1, np.int64)
    lengths = found.end - found.start
    inside = np.repeat(found.start - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))
    chunk[inside] = np.repeat(np.arange(len(found)), lengths)
    prefix = np.where(chunk >= 0, Prefix.I, Prefix.O)
    if scheme == "IOB1":
        prefix[found.start[touching(found, offsets)]] = Prefix.B
    elif scheme != "IO":
        prefix[found.start] = Prefix.B
    if scheme in ("BIOES", "BILOU"):
        prefix[found.end - 1] = Prefix.E
        prefix[found.start[lengths == 1]] = Prefix.S
    written = np.full(total, where.get(OUTSIDE, -1), np.int64)
    written[inside] = ids[prefix[inside], found.kind[chunk[inside]]]
    return written


def continuation(table: TagTable) -> Array:
    """Returns the tag of a word's further pieces, by the word's own, `[tags]`: inside of the same entity.

    `O`, and a tag whose type has no inside, continue themselves, as run_ner's `label_all_tokens` has it.
    """
    where = {name: number for number, name in enumerate(table.names)}
    return np.array([where.get(f"I-{name.split('-', 1)[-1]}", number) for number, name in enumerate(table.names)])


def transitions(table: TagTable, scheme: TagScheme) -> tuple[Array, Array, Array]:
    """Returns what a scheme allows.

    Returns:
        Which tag may follow which, `[before, after]`; which may begin a sentence and which may end one, `[tags]`.
    """
    prefix, kind = table.prefix, table.kind
    size = len(table.names)
    outside = np.array([[Prefix.O]]), np.array([[-1]])
    (outside_first,) = _may_follow(*outside, prefix, kind, scheme)
    allowed = _may_follow(prefix[:, None], kind[:, None], prefix, kind, scheme)
    ends = ~np.isin(prefix, (Prefix.B, Prefix.I)) if scheme in ("BIOES", "BILOU") else np.ones(size, bool)
    return allowed, outside_first, ends


def _may_follow(before: Array, before_kind: Array, prefix: Array, kind: Array, scheme: TagScheme) -> Array:
    open_before = (before == Prefix.B) | (before == Prefix.I)
    same = np.asarray(before_kind == kind)
    if scheme == "IO":
        return np.ones(same.shape, bool)
    if scheme == "IOB2":
        return np.asarray((prefix != Prefix.I) | (open_before & same))
    if scheme == "IOB1":
        return np.asarray((prefix != Prefix.B) | (open_before & same))
    inside = (prefix == Prefix.I) | (prefix == Prefix.E)
    return np.asarray(np.where(open_before, inside & same, ~inside))


def scheme_of(names: Sequence[str]) -> TagScheme | None:
    """Tells a scheme by its tags alone, where no sentence shows it: IOB2 and not IOB1; `None` for plain tags."""
    if not are_entities(names):
        return None
    return recognise(Ragged(np.zeros(0, np.int64), np.zeros(1, np.int64)), TagTable.of(names))


def check_scheme(name: str) -> TagScheme:
    """Returns a scheme by name, in any case; `IOBES` is `BIOES`, `IOB` and `BIO` are `IOB2`.

    Raises:
        UserError: there is no such scheme.
    """
    other = {"IOBES": "BIOES", "IOB": "IOB2", "BIO": "IOB2"}
    for scheme in SCHEMES:
        if other.get(name.upper(), name.upper()) == scheme:
            return scheme
    raise UserError(f"tag_scheme is {name!r}; schemes: {', '.join(SCHEMES)}")
