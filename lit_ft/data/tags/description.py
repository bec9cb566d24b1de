"""What the tags of a data set are: names and scheme, from the training rows or from a head that knows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lit_ft.data.features.ragged import Ragged
from lit_ft.data.labels import are_generic, natural_key
from lit_ft.data.reading.raw import RawRows
from lit_ft.data.tags.rows import SpanCounts, TagReader
from lit_ft.data.tags.schemes import (
    OUTSIDE,
    TagScheme,
    TagTable,
    are_entities,
    chunks,
    recognise,
    scheme_of,
    touching,
)
from lit_ft.errors import UserError

Description = dict[str, Any]

LOOKED_AT = 100_000
"""Rows whose tags tell their scheme."""
MOST = 10_000
"""Different tags; more are no tags."""


@dataclass
class TagSurvey:
    """What the rows of some sets hold.

    Attributes:
        place: how messages name them.
        names: the different tags, sorted.
        scheme: that they are in; `None` for plain tags.
        merged: entities that touch another one of their type, among the rows looked at.
        tagged: how many rows have tags.
        spans: what happened to entities given as characters.
    """

    place: str
    names: list[str]
    scheme: TagScheme | None
    merged: int
    tagged: int
    spans: SpanCounts


def survey(sets: Sequence[RawRows], reader: TagReader) -> TagSurvey:
    """Reads all tags of some sets.

    Raises:
        UserError: words and tags do not fit (the row is named), or there are too many different tags.
    """
    spans, tagged, number = SpanCounts(), 0, dict[str, int]()
    sample: list[list[int]] = []
    for rows in sets:
        columns = [reader.text_column, reader.tag_column]
        for tags in rows.read(lambda batch: reader.tags(batch, reader.words(batch), spans), columns):
            for tag in chain.from_iterable(filter(None, tags)):
                number.setdefault(tag, len(number))
            if len(number) > MOST:
                raise UserError(f"{rows.place}: column {reader.tag_column!r} has more than {MOST:,} different tags")
            tagged += sum(row is not None for row in tags)
            sample += [[number[tag] for tag in row] for row in tags[: LOOKED_AT - len(sample)] if row is not None]
    names, scheme, merged = list(number), None, 0
    if are_entities(names):
        table, ids = TagTable.of(names), Ragged.of(sample)
        scheme = recognise(ids, table)
        merged = len(touching(chunks(ids, table, scheme), ids.offsets))
    return TagSurvey(sets[0].place, sorted(names, key=natural_key), scheme, merged, tagged, spans)


def describe_tags(
    found: TagSurvey, own: list[str] | None, given: list[str] | None, fixed: bool, wanted: TagScheme | None
) -> tuple[Description, list[str]]:
    """Describes the tags of training rows.

    Args:
        found: what they hold.
        own: names in the order of their ids, as the data or the user gives them.
        given: tags of a head that is there already.
        fixed: the head's tags are the only ones possible.
        wanted: the scheme to learn; `None` = the head's, else that of the data.

    Returns:
        `labels`, `tag_scheme` and `data_scheme`, and what there is to say.

    Raises:
        UserError: there are no tags, they do not fit the head, or plain tags have no scheme.
    """
    place, notes = found.place, []
    if not found.tagged:
        raise UserError(f"{place}: no row has tags: every cell is null")
    if wanted is not None and found.scheme is None and set(found.names) != {OUTSIDE}:
        raise UserError(
            f"{place}: tag_scheme is {wanted}, but the tags are none of a scheme (B-PER, I-PER, O): {found.names[:20]}"
        )
    if given is not None and are_generic(given) and not fixed:
        given = None
    scheme = wanted or _scheme_of_head(found, given) or found.scheme
    names = _names(found, own, scheme)
    if given is not None and set(names) <= set(given):
        names = given
    elif fixed:
        raise UserError(f"{place}: the tags {found.names} are not the model's tags {given}")
    elif given is not None:
        notes.append(f"{place}: the tags {names} are not those of the pretrained head, {given}")
    if len(names) < 2:
        raise UserError(f"{place}: one tag only ({names}); two or more are needed")
    if scheme is not None and found.scheme is not None:
        notes.append(f"{place}: tags are {found.scheme}" + (f", learned as {scheme}" if scheme != found.scheme else ""))
        if scheme == "IO" and found.merged:
            notes.append(f"{place}: {found.merged:,} entities touch another of their type; IO makes one of the two")
    return {"labels": names, "tag_scheme": scheme, "data_scheme": found.scheme}, notes


def describe_known(labels: list[str], scheme: TagScheme | None) -> Description:
    """Describes tags that a head has, where there are no training rows.

    Args:
        labels: the head's tags.
        scheme: that they are in, if that is known.
    """
    return {"labels": labels, "tag_scheme": scheme or scheme_of(labels), "data_scheme": None}


def scheme_of_rows(
    found: TagScheme | None, learned: TagScheme | None, trained_on: TagScheme | None
) -> TagScheme | None:
    """Returns the scheme of rows that a model is scored on.

    Args:
        found: what their tags look like; few rows may look like IOB2 and be IOB1, or the other way round.
        learned: the model's own; `None` for plain tags.
        trained_on: that of the rows which it was trained on; `None` = that is not known.
    """
    if learned is None or found is None:
        return learned and (trained_on or learned)
    alike = {found, trained_on} <= {"IO", "IOB1", "IOB2"}
    return trained_on if trained_on is not None and (alike or found == trained_on) else found


def _scheme_of_head(found: TagSurvey, given: list[str] | None) -> TagScheme | None:
    """Returns the scheme of a head that has the entities of the data under other tags."""
    scheme = scheme_of(given) if given else None
    if given is None or scheme is None or found.scheme is None:
        return None
    if scheme == "IOB2" and set(found.names) <= set(given):  # its tags may be IOB1's, too
        return None
    types = set(TagTable.of(given).types)
    return scheme if set(TagTable.of(found.names).types) <= types else None


def _names(found: TagSurvey, own: list[str] | None, scheme: TagScheme | None) -> list[str]:
    """Returns the tags to learn: those given, with what is missing of the scheme behind them."""
    if scheme is None or found.scheme is None:
        return list(dict.fromkeys([*(own or []), *found.names]))
    first = own if own is not None and scheme == found.scheme else []
    types = TagTable.of([name for name in {*found.names, *(own or [])} if are_entities([name])]).types
    return list(dict.fromkeys([*first, *TagTable.for_types(types, scheme).names]))
