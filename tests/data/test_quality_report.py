"""What was found in rows, as plain JSON and as a table of a fixed width."""

import json

import numpy as np

from lit_ft.data.quality.judgement import SetMarks, judge
from lit_ft.data.quality.kinds import KINDS, check_actions
from lit_ft.data.quality.marks import row_marks
from lit_ft.data.quality.report import WIDTH, table


def report(drop: bool = True) -> dict:
    texts = [f"text {row}" for row in range(1200)] + ["", "text 1", "TEXT 2", "text 3", "text 4"]
    train = SetMarks(
        "train", "", "[b]t.csv", row_marks([texts], [0] * len(texts)), lambda row: f"[b]t.csv: row {row + 1}"
    )
    other = SetMarks(
        "test", "hard", "h.csv", row_marks([["Text 5", "new"]], [0, 1]), lambda row: f"[red]g.csv: row {row}"
    )
    clean = SetMarks("test", "easy", "e.csv", row_marks([["fine"]], [0]), str)
    return judge([train, other, clean], check_actions({"duplicate": "drop"} if drop else {})).report


def test_report_is_plain_and_complete() -> None:
    found = report()
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "on_bad_rows": {**{kind: bad.default for kind, bad in KINDS.items()}, "duplicate": "drop"},
        "meaning": {kind: KINDS[kind].are for kind in ("empty_text", "duplicate", "near_duplicate", "seen_in_train")},
        "sets": [
            {
                "split": "train",
                "name": "",
                "place": "[b]t.csv",
                "rows": 1205,
                "kept": 1202,
                "found": {
                    "empty_text": {"count": 1, "dropped": 0, "examples": ["row 1201"], "rows": [1200]},
                    "duplicate": {
                        "count": 3,
                        "dropped": 3,
                        "examples": ["row 1202", "row 1204", "row 1205"],
                        "rows": [1201, 1203, 1204],
                    },
                    "near_duplicate": {"count": 1, "dropped": 0, "examples": ["row 1203"], "rows": [1202]},
                },
            },
            {
                "split": "test",
                "name": "hard",
                "place": "h.csv",
                "rows": 2,
                "kept": 2,
                "found": {
                    "seen_in_train": {
                        "count": 1,
                        "dropped": 0,
                        "examples": ["[red]g.csv: row 0"],
                        "rows": [0],
                        "exact": 0,
                    },
                },
            },
            {"split": "test", "name": "easy", "place": "e.csv", "rows": 1, "kept": 1, "found": {}},
        ],
    }


def test_table() -> None:
    lines = [" ".join(line.split()) for line in table(report()).splitlines()]
    assert lines[0] == "Rows worth a look"
    assert lines[1] == "set kind rows dropped such as"
    assert set(lines[2]) == {"─"}
    assert lines[3:] == [
        "train empty_text 1 of 1,205 - row 1201",
        "duplicate 3 of 1,205 3 row 1202, row 1204, row 1205",
        "near_duplicate 1 of 1,205 - row 1203",
        "test/hard seen_in_train 1 of 2 (0 exactly) - [red]g.csv: row 0",  # brackets are no markup
    ]
    assert table(json.loads(json.dumps(report()))) == table(report())


def test_table_is_plain_text_of_a_fixed_width(monkeypatch) -> None:
    once = table(report())
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert table(report()) == once
    assert "\x1b" not in once
    assert max(map(len, once.splitlines())) <= WIDTH


def test_nothing_found_is_no_table() -> None:
    clean = SetMarks("train", "", "t.csv", row_marks([["a", "b"]], [0, 1]), str)
    assert table(judge([clean], check_actions({})).report) == ""


def test_examples_are_few() -> None:
    marks = row_marks([["same"] * 50], None)
    marks = marks.flagged("cut", np.arange(50) > 20)
    (one,) = judge([SetMarks("test", "", "t", marks, lambda row: f"t: row {row}")], check_actions({})).report["sets"]
    assert one["found"]["cut"] == {
        "count": 29,
        "dropped": 0,
        "examples": [f"row {row}" for row in range(21, 26)],
        "rows": [21, 22, 23, 24, 25],
    }
    assert one["found"]["duplicate"]["count"] == 49
    assert len(one["found"]["duplicate"]["examples"]) == 5
