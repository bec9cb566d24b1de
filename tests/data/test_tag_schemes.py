"""Entities read from tags: against seqeval on random sentences, and by hand."""

import itertools
import random

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB2, IOBES, Entities

from lit_ft.data.features.ragged import Ragged
from lit_ft.data.tags.schemes import (
    SCHEMES,
    TagScheme,
    TagTable,
    are_entities,
    check_scheme,
    chunks,
    continuation,
    converted,
    recognise,
    transitions,
)
from lit_ft.errors import UserError

Sentences = list[list[str]]


def random_sentences(scheme: TagScheme, count: int = 400) -> tuple[Sentences, TagTable]:
    table, rng = TagTable.for_types(["PER", "LOC", "A-B"], scheme), random.Random(3)
    return [[rng.choice(table.names) for _ in range(rng.randint(0, 9))] for _ in range(count)], table


def ids(sentences: Sentences, table: TagTable) -> Ragged:
    return Ragged.of([[table.names.index(tag) for tag in tags] for tags in sentences])


def found(
    sentences: Sentences, table: TagTable, scheme: TagScheme, strict: bool = False
) -> list[set[tuple[str, int, int]]]:
    """Entities of each sentence, as (type, first word, word behind)."""
    tags = ids(sentences, table)
    read = chunks(tags, table, scheme)
    sets: list[set[tuple[str, int, int]]] = [set() for _ in sentences]
    for start, end, kind, good in zip(read.start, read.end, read.kind, read.well_formed, strict=True):
        sentence = int(np.searchsorted(tags.offsets, start, "right")) - 1
        first = tags.offsets[sentence]
        if good or not strict:
            sets[sentence].add((table.types[kind], int(start - first), int(end - first)))
    return sets


@pytest.mark.parametrize("scheme", ["IO", "IOB1", "IOB2", "BIOES"])
def test_any_tags_are_read_as_seqeval_reads_them(scheme: TagScheme) -> None:
    sentences, table = random_sentences(scheme)
    expected = [{(kind, start, end + 1) for kind, start, end in get_entities(tags)} for tags in sentences]
    assert found(sentences, table, scheme) == expected
    assert sum(map(len, expected)) > 500


@pytest.mark.parametrize(("scheme", "theirs"), [("IOB2", IOB2), ("BIOES", IOBES), ("BILOU", BILOU)])
def test_well_formed_ones_are_those_of_seqevals_strict_mode(scheme: TagScheme, theirs: type) -> None:
    sentences, table = random_sentences(scheme)
    expected = [{(each.tag, each.start, each.end) for each in row} for row in Entities(sentences, theirs).entities]
    assert found(sentences, table, scheme, strict=True) == expected
    assert sum(map(len, expected)) > 100


WRITTEN: dict[TagScheme, str] = {
    "IO": "I-PER I-PER O I-LOC I-LOC I-PER",
    "IOB1": "I-PER I-PER O I-LOC B-LOC I-PER",
    "IOB2": "B-PER I-PER O B-LOC B-LOC B-PER",
    "BIOES": "B-PER E-PER O S-LOC S-LOC S-PER",
    "BILOU": "B-PER L-PER O U-LOC U-LOC U-PER",
}


@pytest.mark.parametrize("old", SCHEMES[1:])
@pytest.mark.parametrize("new", SCHEMES)
def test_conversion(old: TagScheme, new: TagScheme) -> None:
    sentences = [WRITTEN[old].split(), ["I-PER" if old == "IOB1" else WRITTEN[old].split()[-1]]]
    before, after = (TagTable.for_types(["PER", "LOC"], scheme) for scheme in (old, new))
    tags = ids(sentences, before)
    read = chunks(tags, before, old)
    assert read.well_formed.all()
    assert len(read) == 5
    written = converted(read, tags.offsets, before.types, after, new)
    assert " ".join(after.names[tag] for tag in written[:6]) == WRITTEN[new]
    assert after.names[written[6]] == ("I-PER" if new in ("IO", "IOB1") else WRITTEN[new].split()[-1]), (
        "another sentence"
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_recognised(scheme: TagScheme) -> None:
    table = TagTable.of(sorted({"O", *WRITTEN[scheme].split()}))
    assert recognise(ids([WRITTEN[scheme].split()], table), table) == scheme


def test_an_entity_that_begins_with_i_is_an_error_where_others_begin_with_b() -> None:
    table = TagTable.for_types(["PER"], "IOB2")
    tags = ids([["B-PER", "O", "I-PER", "I-PER"]], table)
    assert recognise(tags, table) == "IOB2"
    assert chunks(tags, table, "IOB2").well_formed.tolist() == [True, False]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_may_follow_makes_well_formed_sentences_and_all_of_them(scheme: TagScheme) -> None:
    table = TagTable.for_types(["A", "B"], scheme)
    follows, begins, ends = transitions(table, scheme)
    for tags in itertools.product(range(len(table.names)), repeat=3):
        allowed = begins[tags[0]] and ends[tags[-1]] and all(follows[a, b] for a, b in itertools.pairwise(tags))
        good = chunks(Ragged.of([list(tags)]), table, scheme).well_formed.all()
        assert allowed == good, [table.names[tag] for tag in tags]


def test_further_pieces_are_inside() -> None:
    table = TagTable.for_types(["PER"], "BIOES")
    names = [table.names[tag] for tag in continuation(table)]
    assert dict(zip(table.names, names, strict=True)) == {
        "O": "O", "B-PER": "I-PER", "I-PER": "I-PER", "E-PER": "I-PER", "S-PER": "I-PER",
    }  # fmt: skip
    assert continuation(TagTable.of(["O"])).tolist() == [0]


def test_plain_tags_and_names_of_schemes() -> None:
    assert [are_entities(names) for names in (["O", "B-PER"], ["NOUN", "O"], ["O"])] == [True, False, False]
    assert [check_scheme(name) for name in ("iobes", "BIO", "BILOU")] == ["BIOES", "IOB2", "BILOU"]
    with pytest.raises(UserError, match=r"tag_scheme is 'BIEO'; schemes: IO, IOB1"):
        check_scheme("BIEO")
