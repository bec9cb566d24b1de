# ruff: noqa: RUF001 (look-alike characters are what is tested here)
import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from lit_ft.data.quality.judgement import SetMarks, judge
from lit_ft.data.quality.kinds import KINDS, check_actions
from lit_ft.data.quality.marks import OF_A_ROW, RowMarks, row_marks
from lit_ft.errors import UserError

KEEP = {**check_actions({}), "unlabelled": "keep", "unknown_label": "keep"}


def concat(parts: list[RowMarks]) -> RowMarks:
    names = ("exact", "normal", "label", "flags")
    return RowMarks(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def marked(
    split: str, texts: list, labels: list | None = None, batch: int = 1000, place: str | None = None
) -> SetMarks:
    columns = texts if texts and isinstance(texts[0], list) else [texts]
    starts = range(0, len(columns[0]), batch)
    parts = [
        row_marks([c[at : at + batch] for c in columns], None if labels is None else labels[at : at + batch])
        for at in starts
    ]
    place = place or f"{split}.csv"
    return SetMarks(split, "", place, concat(parts), lambda row: f"{place}: row {row + 1}")


def found(*sets: SetMarks, **actions: str) -> list[dict]:
    """Returns per set: kind -> indices of the rows; there are never more than the examples show here."""
    report = judge(sets, {**KEEP, **actions}).report
    return [
        {kind: [int(name.split()[1]) - 1 for name in kinds["examples"]] for kind, kinds in one["found"].items()}
        for one in report["sets"]
    ]


def shown(text: str) -> set[str]:
    marks = row_marks([[text, "a plain text"]], None)
    assert all(not marks.shows(kind)[1] for kind in OF_A_ROW)
    return {kind for kind in OF_A_ROW if marks.shows(kind)[0]}


# one row


@pytest.mark.parametrize("text", [None, "", " ", "\t\n ", "\u3000\u00a0", "\u200b", "\ufeff", "\0"])
def test_empty(text: str | None) -> None:
    assert "empty_text" in shown(text)


@pytest.mark.parametrize("text", [".", "?!", "0", "null", "😀", "…", "。", "-"])
def test_not_empty(text: str) -> None:
    assert shown(text) == set()


GARBLED = [
    "Ein schöner Tag, größer als gestern",
    "Übermut tut selten gut; Äpfel, Öl, Straße, Ärger",
    "École, où êtes-vous, garçon? Noël à Paris",
    "José Muñoz volvió mañana a España, ¿no?",
    "AÇÃO E EMOÇÃO",
    "it’s “quoted” — and so on…",
    "it costs £5, or 5 €, at 20 °C ± 1",
    "Привет, мир",
    "Γειά σου Κόσμε",
    "שלום עולם",
    "مرحبا بالعالم",
    "我们在北京",
    "こんにちは",
    "nice 😀 day",
    "są łódź żółw",
    "→ ★ ✓ ™",
]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
@pytest.mark.parametrize("text", GARBLED)
def test_mojibake(text: str, encoding: str) -> None:
    assert shown(text) == set()
    garbled = text.encode()
    if encoding == "cp1252":  # as browsers do it: five bytes that it does not know stay what they are
        garbled = b"".join(bytes([byte]).decode("cp1252", "ignore").encode() or chr(byte).encode() for byte in garbled)
        assert "mojibake" in shown(garbled.decode())
    else:
        assert "mojibake" in shown(garbled.decode("latin-1"))


@pytest.mark.parametrize(
    "text", ["lost \ufffd sign", "it\x92s cp1252 read as Latin-1", "ï»¿id", "double Ã\u0083Â©", "Ã©tÃ©"]
)
def test_mojibake_by_hand(text: str) -> None:
    assert shown(text) == {"mojibake"}


@pytest.mark.parametrize(
    "text",
    [
        "NÃO, NÃO E NÃO; MAÇÃ, IRMÃ, AMANHÃ",
        "“AMANHÃ” «MANHû e ‘LÃ’… LÔ MAÇÃ–ROMÃ",
        "«CAFÉ» “PÂTÉ”—“café”—the “Spaß“—„Größe“",
        "„Spaß“ und ‚Maß‘ … Ä… Ö– Ü",
        "Ângela, Âmbar, ÂNGELO; CÂ» và TRẬN ĐẤU, phở",
        "10 Å, 5 ų, 3×½ und 2×¼, à 5 €, 20 °C, §5, ½ l",
        "Straße, Übermut, Ärger, Æsop, Øl, Þór, Ðe, Ýmir, ðïð",
        "Příliš žluťoučký kůň, Míšovice, ŠŽŒ, Łódź",
        "Привет, мир! «Ё»",
        "我们在北京的餐馆。「好」，（吃）",
        "مرحبا \u200f(عالم)\u200e ﴿١٢٣﴾",
        "हिन्दी में, ภาษาไทย, 한국어, ქართული",
        "👩‍👩‍👧 family, ☕️ coffee, 🇩🇪",
        "naïve café, l’été, élève… voilà… voilâ…” oui",
    ],
)
def test_real_text_is_not_damaged(text: str) -> None:
    assert shown(text) == set()
    assert shown(unicodedata.normalize("NFD", text)) == set()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("NUL \0 inside", {"control_characters"}),
        ("Treasury\x12s", {"control_characters"}),
        ("form\x0cfeed", {"control_characters"}),
        ("tab\tand\nline\r\nx", {"mixed_line_ends"}),
        ("a\nb\nc", set()),
        ("a\r\nb\r\n", set()),
        ("a\rb\r\nc", {"mixed_line_ends"}),
        ("a\rb", set()),
        ("\ufeffid", {"byte_order_mark"}),
        ("in\ufeffside é\0", {"byte_order_mark", "control_characters"}),
    ],
)
def test_damage(text: str, kinds: set[str]) -> None:
    assert shown(text) == kinds


def test_line_ends_unlike_most_of_the_set() -> None:
    texts = ["a\nb", "c\r\nd", "plain", "e\nf", "g\rh", "i\nj"]
    assert found(marked("train", texts, batch=2)) == [{"mixed_line_ends": [1, 4]}]
    assert found(marked("train", ["a\r\nb", "c", "d\r\n"])) == [{}]
    # rows that go say nothing of the others
    (kinds,) = found(marked("train", ["\r\n", " \r\n", "a\nb", "c\nd", "e\r\nf"]), empty_text="drop")
    assert kinds["mixed_line_ends"] == [4]


@pytest.mark.parametrize("label", [None, "", "  ", float("nan"), [float("nan"), 0.0]])
def test_unlabelled(label: object) -> None:
    assert found(marked("train", ["a", "b"], [0, label])) == [{"unlabelled": [1]}]


def test_not_unlabelled() -> None:
    assert found(marked("train", list("abcdefg"), [0, 0.0, False, "0", [], -1.5, [0, 0]])) == [{}]
    assert found(marked("predict", ["a", "b"], None)) == [{}]


def test_one_empty_side_makes_an_empty_pair() -> None:
    pairs = [["a", "a", "", "", "a"], ["b", "", "b", None, "b"]]
    assert found(marked("train", pairs)) == [{"empty_text": [1, 2, 3], "duplicate": [4]}]


def test_flags_from_elsewhere() -> None:
    one = marked("train", ["a", "b", "c"], [1, 2, 1])
    for number, kind in enumerate(("unknown_label", "unknown_tokens", "cut")):
        marks = one.marks.flagged(kind, np.arange(3) == number)
        assert [marks.shows(kind).tolist() for kind in OF_A_ROW if marks.shows(kind).any()] == [
            (np.arange(3) == number).tolist()
        ]
        assert found(SetMarks("train", "", "t", marks, lambda row: f"row {row + 1}")) == [{kind: [number]}]


# rows against rows


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


# the numbers themselves


def test_every_process_has_the_same_marks() -> None:
    code = (
        "from lit_ft.data.quality.marks import row_marks;"
        "m = row_marks([['Ein Maß', 'b', '']], ['x', 2, ['a', 1.5]]);"
        "print(*m.exact, *m.normal, *m.label, *m.flags)"
    )
    seeds = [{"PYTHONHASHSEED": seed} for seed in ("1", "2")]
    printed = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env).stdout for env in seeds
    ]
    marks = row_marks([["Ein Maß", "b", ""]], ["x", 2, ["a", 1.5]])
    here = " ".join(map(str, [*marks.exact, *marks.normal, *marks.label, *marks.flags]))
    assert printed == [here.encode() + b"\n"] * 2


def test_batches_make_no_difference() -> None:
    texts = [None, "a", "É\0é", "\0", "", "x\r\ny\n", "Ã©", "?", "𝒜", "İ", "ſ"] * 3
    whole = row_marks([texts, texts[::-1]], list(range(33)))
    singly = concat(
        [row_marks([[text], [other]], [n]) for n, (text, other) in enumerate(zip(texts, texts[::-1], strict=True))]
    )
    for name in ("exact", "normal", "label", "flags"):
        assert getattr(whole, name).tolist() == getattr(singly, name).tolist()
    assert len(row_marks([[]], [])) == 0


def bytes_of(marks: RowMarks) -> int:
    return sum(each.nbytes for each in vars(marks).values() if isinstance(each, np.ndarray))


def test_large_sets_are_small_in_memory() -> None:
    rows = 300_000
    random_ = np.random.default_rng(0)
    hashes = random_.integers(1, 2**63, rows, dtype=np.uint64)
    hashes[-1000:] = hashes[:1000]
    marks = RowMarks(hashes, hashes, np.ones(rows, np.uint64), np.zeros(rows, np.uint16))
    assert bytes_of(marks) <= 28 * rows
    judged = judge(
        [SetMarks("train", "", "t", marks, str), SetMarks("test", "", "e", marks.only(np.arange(5)), str)],
        {**KEEP, "duplicate": "drop"},
    )
    assert np.flatnonzero(~judged.kept[0]).tolist() == list(range(rows - 1000, rows))
    assert judged.report["sets"][1]["found"]["seen_in_train"]["count"] == 5
    batch = row_marks([["a text", "É"] * 500], [0, 1] * 500)
    assert bytes_of(batch) == 26_000
