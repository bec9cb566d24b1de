"""Rows against rows by their hashes: against plain sets and dicts, in many parts or one; marks on disk."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_ft.data.quality import keys as quality_keys
from lit_ft.data.quality.files import MarkWriter, mapped
from lit_ft.data.quality.keys import Chosen, among, contradicting, first, repeated, sorted_texts
from lit_ft.data.quality.marks import RowMarks

# few different hashes, in all parts of their range
TEXTS = [1, 2, 3 << 61, (3 << 61) + 1, 7 << 60, (1 << 64) - 1]
ROWS = st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from([0, 5, 9]), st.booleans()), max_size=40)


def chosen(rows: list[tuple[int, int, bool]]) -> Chosen:
    texts, labels = (np.array([row[number] for row in rows], np.uint64) for number in (0, 1))
    marks = RowMarks(texts, texts, labels, np.zeros(len(rows), np.uint16))
    return Chosen(marks, np.array([row[2] for row in rows], np.bool_))


@pytest.fixture(autouse=True, params=[(3, 4), (1 << 16, 1 << 19)], ids=["many parts", "as it is"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality_keys, "STRETCH", request.param[0])
    monkeypatch.setattr(quality_keys, "PART", request.param[1])


@given(earlier=st.lists(ROWS, max_size=2), rows=ROWS)
def test_repeated(earlier: list, rows: list) -> None:
    seen = {(text, label) for one in earlier for text, label, meant in one if meant}
    expected = []
    for text, label, meant in rows:
        expected.append(meant and (text, label) in seen)
        seen |= {(text, label)} if meant else set()
    assert repeated(chosen(rows), [chosen(one) for one in earlier], "exact").tolist() == expected


@given(rows=ROWS)
def test_contradicting(rows: list) -> None:
    labels = {text: {label for other, label, meant in rows if meant and label and other == text} for text in TEXTS}
    expected = [meant and label > 0 and len(labels[text]) > 1 for text, label, meant in rows]
    assert contradicting(chosen(rows), "normal").tolist() == expected


@given(sets=st.lists(ROWS, max_size=3), rows=ROWS)
def test_texts_of_all_sets_are_found_again(sets: list, rows: list) -> None:
    pieces = [*sorted_texts([chosen(one) for one in sets], "exact")]
    texts = np.concatenate(pieces)
    known = Counter(text for one in sets for text, _, meant in one if meant)
    assert texts.tolist() == sorted(known.elements())
    expected = [meant and text in known for text, _, meant in rows]
    assert among(chosen(rows), {"exact": texts, "normal": texts[:0]}, "exact").tolist() == expected
    assert not among(chosen(rows), {"exact": texts, "normal": texts[:0]}, "normal").any()


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5))
def test_first(rows: list[bool], count: int) -> None:
    assert first(np.array(rows, np.bool_), count) == [row for row, meant in enumerate(rows) if meant][:count]


def test_marks_come_back_whoever_writes_them_in_whatever_order(tmp_path: Path) -> None:
    numbers = np.arange(1, 8)
    whole = RowMarks(*(numbers.astype(np.uint64) * factor for factor in (3, 5, 7)), numbers.astype(np.uint16))
    with MarkWriter(tmp_path / "marks") as one, MarkWriter(tmp_path / "marks") as other:
        other.write(4, whole.only(slice(4, 7)), numbers[4:] * 11)
        one.write(0, whole.only(slice(0, 1)), numbers[:1] * 11)
        one.write(1, whole.only(slice(1, 4)), numbers[1:4] * 11)
    marks, tokens_cut = mapped(tmp_path / "marks")
    for name in ("exact", "normal", "label", "flags"):
        assert getattr(marks, name).tolist() == getattr(whole, name).tolist()
    assert tokens_cut.tolist() == (numbers * 11).tolist()
    assert not isinstance(marks.exact, np.memmap)  # whose every slice would cost much


def test_no_rows_are_no_marks(tmp_path: Path) -> None:
    with MarkWriter(tmp_path / "marks"):
        pass
    marks, tokens_cut = mapped(tmp_path / "marks")
    assert len(marks) == len(tokens_cut) == 0
