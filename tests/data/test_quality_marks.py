"""What a row shows by itself: empty, garbled, damaged, unlabelled, and real text that is none of these; its numbers."""
# ruff: noqa: RUF001 (look-alike characters are what is tested here)

import subprocess
import sys
import unicodedata

import numpy as np
import pytest

from lit_ft.data.quality.judgement import SetMarks, judge
from lit_ft.data.quality.marks import OF_A_ROW, RowMarks, row_marks
from tests.data.quality_sets import KEEP, concat, found, marked


def shown(text: str) -> set[str]:
    marks = row_marks([[text, "a plain text"]], None)
    assert all(not marks.shows(kind)[1] for kind in OF_A_ROW)
    return {kind for kind in OF_A_ROW if marks.shows(kind)[0]}


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
