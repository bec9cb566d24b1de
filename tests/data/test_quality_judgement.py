"""Rows against rows: by hand and as a plain implementation has it; which of them go, and what an error says."""
# ruff: noqa: RUF001 (look-alike characters are what is tested here)

import random
import unicodedata

import numpy as np
import pytest

from lit_ft.data.quality.judgement import SetMarks, judge
from lit_ft.data.quality.kinds import KINDS, check_actions
from lit_ft.data.quality.marks import OF_A_ROW, row_marks
from lit_ft.errors import UserError
from tests.data.quality_sets import KEEP, found, marked


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Hello, world!", "hello  world", True),
        ("hello world", "\thello\nworld\r\n", True),
        ("STRASSE", "straße", True),
        ("café", "cafe\u0301", True),
        ("CAFÉ", "cafe\u0301.", True),
        ("ﬁne １２", "fine 12", True),
        ("我们，在。", "我们在", False),  # a comma is a space, not nothing
        ("我们，在。", "我们 在", True),
        ("a\u200bb \ufeff", "ab", True),
        ("don’t", "don't", True),
        ("1.5", "15", False),
        ("great 😀", "great 😡", False),
        ("C++", "C", False),
        ("$5", "5", False),
        (":)", ":(", False),
        ("?", "!", False),
        ("?", "？", True),
        ("कि", "का", False),
        ("résumé", "resume", False),
        ("now here", "nowhere", False),
    ],
)
def test_normal_forms(one: str, other: str, alike: bool) -> None:
    first, second = row_marks([[one, other]], None).normal.tolist()
    assert (first == second) == alike
    assert row_marks([[other]], None).normal.tolist() == [second]  # whatever stands beside it
    kinds = found(marked("train", [one, other], [0, 0]))[0]
    assert kinds.get("near_duplicate", []) == ([1] if alike else [])
    assert found(marked("train", [one, other], [0, 1]))[0].get("contradicting_labels", []) == ([0, 1] if alike else [])


def test_duplicates() -> None:
    texts, labels = ["a b", "a b", "a b", "A b!", "A b!", "", ""], ["x", "y", "x", "x", "x", "x", "y"]
    (kinds,) = found(marked("train", texts, labels, batch=2))
    assert kinds == {
        "empty_text": [5, 6],  # and nothing else: they are not alike, and contradict no one
        "contradicting_labels": [0, 1, 2, 3, 4],
        "duplicate": [2, 4],
        "near_duplicate": [3],
    }
    assert found(marked("train", [["a", "b"], ["b", "a"]])) == [{}]  # a pair and its mirror image
    assert found(marked("train", [["a", "a"], ["b", "c"]])) == [{}]
    assert found(marked("train", [["ab", "a"], ["c", "bc"]])) == [{}]


def test_labels_alike() -> None:
    same = [[1, 1.0], [True, "1"], [["a", "b"], ("a", "b")], [[1.0, 0.0], [1, 0]], [2.5, "2.5"], [" x", "x "]]
    for labels in same:
        assert found(marked("train", ["t", "t"], labels)) == [{"duplicate": [1]}]
    for labels in [[1, 10], [["a", "b"], ["b", "a"]], [["a,b"], ["a", "b"]], ["[1]", [1.5]], [0.5, 0.25]]:
        assert found(marked("train", ["t", "t"], labels)) == [{"contradicting_labels": [0, 1]}]
    assert found(marked("train", ["t", "t"], ["x", None])) == [{"unlabelled": [1]}]


def test_seen_in_train_counts_both() -> None:
    sets = [
        marked("validation", ["One!", "three"], ["y", "x"]),
        marked("train", ["one!", "Two", ""], ["x", "x", "x"]),
        marked("test", ["Two", "two", "four", ""], None),
        marked("predict", ["Two"], None),
    ]
    report = judge(sets, {**KEEP, "seen_in_train": "drop"}).report
    assert [one["found"].get("seen_in_train") for one in report["sets"]] == [
        {"count": 1, "dropped": 1, "examples": ["row 1"], "rows": [0], "exact": 0},
        None,
        {"count": 2, "dropped": 2, "examples": ["row 1", "row 2"], "rows": [0, 1], "exact": 1},
        None,
    ]


def test_a_row_that_goes_is_no_twin_of_another() -> None:
    # row 0 goes, as it is cut: row 1 is then the first of its kind, and row 2 contradicts no one
    one = marked("train", ["a", "a", "b", "b"], [0, 0, 0, 1])
    one = SetMarks("train", "", "t", one.marks.flagged("cut", np.array([1, 0, 1, 0], bool)), one.where)
    judged = judge([one, marked("test", ["A", "B"], [0, 0])], {**KEEP, "cut": "drop"})
    assert judged.kept[0].tolist() == [False, True, False, True]
    assert list(judged.report["sets"][0]["found"]) == ["cut"]
    # contradicting rows of train go altogether, so that the test row was not seen
    sets = [marked("train", ["a", "a", "c"], [0, 1, 0]), marked("test", ["a", "c", "d"], [0, 0, 0])]
    drop = {**KEEP, "contradicting_labels": "drop", "seen_in_train": "drop"}
    assert [kept.tolist() for kept in judge(sets, drop).kept] == [[False, False, True], [True, False, True]]


def test_predict_keeps_its_rows() -> None:
    one = marked("predict", ["a", "a", "A", "", "\0"], None)
    everything = dict.fromkeys(KINDS, "drop")
    for actions in (everything, dict.fromkeys(KINDS, "error")):
        judged = judge([one], actions)
        assert judged.kept == [None]
        assert list(judged.report["sets"][0]["found"]) == [
            "empty_text", "control_characters", "duplicate", "near_duplicate"
        ]  # fmt: skip


# messages


def test_an_error_names_the_first_rows_and_the_fix() -> None:
    labels = [0 if row not in (8, 16, 40) else None for row in range(200)]
    one = marked("train", [f"text {row}" for row in range(200)], labels)
    with pytest.raises(UserError) as error:
        judge([one], check_actions({}))
    assert str(error.value) == (
        "train.csv: 3 of 200 rows have no label (empty, null or -1), the first is row 9; label them or take them out, "
        "or set on_bad_rows: {unlabelled: drop} (then: row 17, row 41)"
    )
    assert judge([one], check_actions({"unlabelled": "drop"})).kept[0].sum() == 197
    judged = judge([SetMarks("test", "", "test.csv", one.marks, one.where)], check_actions({}))
    assert judged.kept == [None]  # scored without them
    marks = row_marks([["x", "x"]], [1, 1])
    two_files = SetMarks("train", "", "a.csv, b.csv", marks, lambda row: f"{'ab'[row]}.csv: row 1")
    with pytest.raises(UserError, match=r"^a\.csv, b\.csv: 1 of 2 rows .*, the first is b\.csv: row 1; "):
        judge([two_files], check_actions({"duplicate": "error"}))


def test_a_set_without_a_row_left_is_an_error() -> None:
    sets = [marked("train", ["a", "b"], [0, 1]), marked("test", ["A", "", "b"], [0, 0, 1])]
    with pytest.raises(UserError, match=r"^test\.csv: no row is left for test: .* all 3 \(1 empty_text, 2 seen_in_tr"):
        judge(sets, check_actions({"seen_in_train": "drop", "empty_text": "drop"}))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"duplicates": "drop"}, r"no kind 'duplicates'; .* did you mean 'duplicate'\?"),
        ({"cut": "dorp"}, r"cut: 'dorp' is none of keep, drop, error — did you mean 'drop'\?"),
        ({"unlabelled": "keep"}, r"unlabelled: keep cannot be: .* use drop or error"),
        ({"unknown_label": "keep"}, r"unknown_label: keep cannot be"),
    ],
)
def test_actions_are_checked(asked: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_actions(asked)


def test_defaults() -> None:
    actions = check_actions({"cut": "error"})
    assert {kind for kind, action in actions.items() if action != "keep"} == {"cut", "unlabelled", "unknown_label"}
    assert list(actions) == list(KINDS)
    assert set(OF_A_ROW) < set(KINDS)


# against a second implementation


def plain_form(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(" " if unicodedata.category(char)[0] == "P" else char for char in folded)
    return " ".join(letters.split()) or " ".join(folded.split())


def plain_judge(sets: list[tuple[str, list[str], list]], drop: set[str]) -> list[tuple[list[bool], dict]]:
    """Row by row, with dicts of texts; knows the kinds that compare rows, and empty and unlabelled ones."""
    results: dict = {}
    before: dict = {"train": (set(), set()), "validation": (set(), set())}  # texts, and their plain forms
    trained: set = set()  # texts and labels of the training sets so far
    order = ("train", "validation", "test")
    for number, (split, texts, labels) in sorted(enumerate(sets), key=lambda item: order.index(item[1][0])):
        alive, counts = [True] * len(texts), {}

        def take(kind: str, rows: list[int], alive: list[bool] = alive, counts: dict = counts) -> None:
            if rows:
                counts[kind] = len(rows)
            for row in rows if kind in drop else []:
                alive[row] = False

        def rows(alive: list[bool] = alive, texts: list[str] = texts) -> list[int]:
            return [row for row in range(len(texts)) if alive[row] and texts[row].strip()]

        take("empty_text", [row for row, text in enumerate(texts) if not text.strip()])
        take("unlabelled", [row for row, label in enumerate(labels) if label is None and alive[row]])
        seen: dict = {}
        for row in rows():
            seen.setdefault(plain_form(texts[row]), set()).add(labels[row])
        several = [row for row in rows() if labels[row] is not None and len(seen[plain_form(texts[row])] - {None}) > 1]
        take("contradicting_labels", several)
        earlier = trained if split == "train" else set()
        exact, twice = set(earlier), []
        for row in rows():
            twice += [row] if (texts[row], labels[row]) in exact else []
            exact.add((texts[row], labels[row]))
        take("duplicate", twice)
        exact, normal, near = set(earlier), {(plain_form(text), label) for text, label in earlier}, []
        for row in rows():
            key, form = (texts[row], labels[row]), (plain_form(texts[row]), labels[row])
            near += [row] if form in normal and key not in exact else []
            exact.add(key)
            normal.add(form)
        take("near_duplicate", near)
        if split == "train":
            trained |= {(texts[row], labels[row]) for row in rows()}
        for other in order[: order.index(split)]:
            again = [row for row in rows() if plain_form(texts[row]) in before[other][1]]
            take(f"seen_in_{other}", again)
            counts |= {f"in_{other}_exactly": sum(texts[row] in before[other][0] for row in again)} if again else {}
        if split != "test":
            before[split][0].update(texts[row] for row in rows())
            before[split][1].update(plain_form(texts[row]) for row in rows())
        results[number] = (alive, counts)
    return [results[number] for number in range(len(sets))]


@pytest.mark.parametrize("seed", range(40))
def test_as_a_plain_implementation_has_it(seed: int) -> None:
    random_ = random.Random(seed)
    parts = ["a", "b", "A", "É", "é", "e\u0301", " ", "  ", ".", "?", "…", "\n", "我", "ß", "ss", "😀"]

    def rows(count: int) -> tuple[list[str], list]:
        texts = ["".join(random_.choices(parts, k=random_.randint(0, 3))) for _ in range(count)]
        return texts, random_.choices(["x", "y", None], [8, 4, 1], k=count)

    sets = [(split, *rows(150)) for split in ("validation", "train", "train", "test")]
    compared = (
        "empty_text", "unlabelled", "contradicting_labels", "duplicate", "near_duplicate", "seen_in_train",
        "seen_in_validation",
    )  # fmt: skip
    drop = set(random_.sample(compared, random_.randint(0, 4)))
    marks = [marked(split, texts, labels, batch=random_.randint(1, 200)) for split, texts, labels in sets]
    expected = plain_judge(sets, drop)
    judged = judge(marks, {**KEEP, **dict.fromkeys(drop, "drop")})
    for kept, one, (alive, counts) in zip(judged.kept, judged.report["sets"], expected, strict=True):
        assert (kept.tolist() if kept is not None else [True] * len(alive)) == alive
        got = {kind: item["count"] for kind, item in one["found"].items()}
        for other in ("train", "validation"):
            if found_there := one["found"].get(f"seen_in_{other}"):
                got[f"in_{other}_exactly"] = found_there["exact"]
        assert got == counts
        assert one["kept"] == sum(alive) == one["rows"] - sum(item["dropped"] for item in one["found"].values())
