"""Formats of preferences, each against rows as people keep them, and rows that are none."""

from typing import Any

import pytest

from lit_ft.data.chats.preferences import find_preferences
from lit_ft.errors import UserError

ASK = {"role": "user", "content": "Why?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Because.", "No."))


def turns(messages: Any) -> list[tuple[str, str]]:
    return [(each["role"], each["content"]) for each in messages]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
        {"prompt": [ASK], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [ASK, GOOD], "rejected": [ASK, BAD]},
        {"prompt": "Why?", "prompt_id": "17", "chosen": [ASK, GOOD], "rejected": [ASK, BAD], "score_chosen": 8.0},
        {
            "conversations": [{"from": "human", "value": "Why?"}],
            "chosen": {"from": "gpt", "value": "Because."}, "rejected": {"from": "gpt", "value": "No."},
        },
        {"instruction": "Why?", "input": "", "chosen": "Because.", "rejected": "No."},
        {"messages": [ASK], "chosen": "Because.", "rejected": "No."},
    ],
    ids=["texts", "messages", "implicit prompt", "UltraFeedback", "ShareGPT", "Alpaca", "messages and texts"],
)  # fmt: skip
def test_pairs_of_every_format(row: dict[str, Any]) -> None:
    found = find_preferences(list(row)).read(row)
    assert found.rejected is not None
    assert turns(found.chosen.messages) == [("user", "Why?"), ("assistant", "Because.")]
    assert turns(found.rejected.messages) == [("user", "Why?"), ("assistant", "No.")]
    assert [each["train"] for each in found.chosen.messages] == [False, True]
    assert found.desirable is None
    assert not found.equal


def test_only_what_differs_is_compared_in_longer_conversations() -> None:
    begin = [ASK, GOOD, {"role": "user", "content": "And?"}]
    row = {"chosen": [*begin, BAD, ASK, GOOD], "rejected": [*begin, GOOD]}
    found = find_preferences(list(row)).read(row)
    assert found.rejected is not None
    assert [each["train"] for each in found.chosen.messages] == [False, False, False, True, False, True]
    assert [each["train"] for each in found.rejected.messages] == [False, False, False, True]


def test_of_equal_conversations_the_last_reply_is_compared() -> None:
    whole = [ASK, GOOD, {"role": "user", "content": "And?"}, BAD]
    found = find_preferences(["chosen", "rejected"]).read({"chosen": whole, "rejected": whole})
    assert found.equal
    assert [each["train"] for each in found.chosen.messages] == [False, False, False, True]


@pytest.mark.parametrize("label", [True, 1, "true", "Chosen"])
def test_judged_replies(label: Any) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "Why?", "completion": "Because.", "label": label},
        {"messages": [ASK, GOOD], "label": label},
    ]
    for row in rows:
        found = find_preferences(list(row)).read(row)
        assert turns(found.chosen.messages) == [("user", "Why?"), ("assistant", "Because.")]
        assert found.rejected is None
        assert found.desirable is True


def test_columns_may_be_called_otherwise_and_replies_need_no_judgement_to_be_scored() -> None:
    mapping = {"prompt": "question", "label": "kto_tag"}
    row = {"question": "Why?", "completion": "No.", "kto_tag": False}
    assert find_preferences(list(row), mapping).read(row).desirable is False
    bare = find_preferences(["prompt", "completion"], judged=False).read({"prompt": "Why?", "completion": "No."})
    assert bare.desirable is None
    empty = {"prompt": "Why?", "completion": "No.", "label": None}
    assert find_preferences(list(empty)).read(empty, judged=False).desirable is None
    system = {"system": "Be brief.", "question": "Why?", "chosen": "Because.", "rejected": "No."}
    found = find_preferences(list(system), {"prompt": "question"}).read(system)
    assert turns(found.chosen.messages)[0] == ("system", "Be brief.")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": "Because.", "rejected": "No."}, "chosen holds a reply alone"),
        ({"prompt": "Why?", "chosen": "", "rejected": "No."}, "chosen is empty"),
        ({"prompt": "Why?", "chosen": None, "rejected": "No."}, "chosen is empty"),
        ({"chosen": [ASK, GOOD], "rejected": [{**ASK, "content": "What?"}, BAD]}, "have to begin alike"),
        ({"chosen": [ASK, GOOD], "rejected": [ASK]}, "message 2 of rejected is of nobody"),
        ({"prompt": [GOOD], "chosen": [BAD], "rejected": [GOOD]}, "chosen: message 1 is of assistant"),
        ({"prompt": "Why?", "completion": "No.", "label": "maybe"}, "label is 'maybe'; it must be true"),
        ({"messages": [ASK], "label": True}, "of assistant"),
    ],
)
def test_bad_rows_are_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_preferences(list(row)).read(row)


@pytest.mark.parametrize(
    ("columns", "mapping", "message"),
    [
        (["question", "answer"], None, "no format of preferences has the columns"),
        (["prompt", "chosen", "rejected"], {"promt": "prompt"}, "did you mean 'prompt'"),
        (["prompt", "chosen", "rejected"], {"prompt": "prompts"}, "did you mean 'prompt'"),
    ],
)
def test_columns_that_fit_no_format_are_named(columns: list[str], mapping: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_preferences(columns, mapping)


def test_equal_replies_are_seen() -> None:
    row = {"prompt": "Why?", "chosen": "No.", "rejected": "No."}
    assert find_preferences(list(row)).read(row).equal
