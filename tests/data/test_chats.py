"""Formats of conversations: each is recognised and read as the same messages; what is wrong is named."""

from typing import Any

import pytest

from lit_ft.data.chats.formats import find_format
from lit_ft.errors import UserError

ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is my parcel?"},
    {"role": "assistant", "content": "On its way."},
]
ROWS: dict[str, dict[str, Any]] = {
    "messages": {"messages": ASKED},
    "sharegpt": {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Where is my parcel?"},
            {"from": "gpt", "value": "On its way."},
        ]
    },
    "prompt_completion": {"prompt": ASKED[:2], "completion": ASKED[2:]},
    "alpaca": {"instruction": "Where is my parcel?", "output": "On its way.", "system": "Be brief.", "input": ""},
}


@pytest.mark.parametrize("name", ROWS)
def test_each_format_is_told_by_its_columns(name: str) -> None:
    row = ROWS[name]
    found = find_format([*row, "id"])
    assert found.name == name
    assert list(found.read(row).messages) == ASKED


def test_what_formats_add() -> None:
    system = find_format(["system", "conversations"]).read(
        {"system": "Be brief.", "conversations": ROWS["sharegpt"]["conversations"][1:]}
    )
    assert list(system.messages) == ASKED
    history = find_format(["instruction", "input", "output", "history"]).read(
        {"instruction": "And now?", "input": "Parcel 7", "output": "Soon.", "history": [["Hi", "Hello"]]}
    )
    assert [(each["role"], each["content"]) for each in history.messages] == [
        ("user", "Hi"), ("assistant", "Hello"), ("user", "And now?\nParcel 7"), ("assistant", "Soon."),
    ]  # fmt: skip
    strings = find_format(["prompt", "completion"]).read({"prompt": "Say hi", "completion": "hi"})
    assert [each["role"] for each in strings.messages] == ["user", "assistant"]
    assert find_format(["text"]).read({"text": "Once."}).text == "Once."
    mapped = find_format(["dialogue", "text"], {"messages": "dialogue"})
    assert list(mapped.read({"dialogue": ASKED}).messages) == ASKED


def test_calls_of_tools() -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "Weather?"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Ulm"}}'},
            {"from": "observation", "value": "12 degrees"},
            {"from": "gpt", "value": "It is 12 degrees."},
        ],
        "tools": '[{"name": "weather"}]',
    }
    found = find_format(["conversations", "tools"]).read(row)
    assert found.tools == ({"name": "weather"},)
    assert found.messages[1] == {
        "role": "assistant", "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Ulm"}}}],
    }  # fmt: skip
    assert found.messages[2] == {"role": "tool", "content": "12 degrees"}


def test_rows_to_reply_to() -> None:
    chat = find_format(["messages"])
    assert len(chat.read({"messages": ASKED[:2]}, answered=False).messages) == 2
    assert list(chat.read({"messages": ASKED}, answered=False).messages) == ASKED[:2]
    assert len(find_format(["instruction", "output"]).read({"instruction": "Go", "output": ""}, False).messages) == 1


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([ASKED[1], ASKED[1], ASKED[2]], "message 2 is of user, after user: roles are out of order"),
        ([ASKED[2], ASKED[1]], "message 1 is of assistant, first: roles are out of order"),
        ([ASKED[1], ASKED[2], ASKED[0]], "message 3 is of system, after assistant"),
        ([ASKED[1], {"role": "tool", "content": "12"}], "message 2 is of tool, after user"),
        ([ASKED[1], {"role": "assistant", "content": ""}], "message 2, of assistant, is empty"),
        ([ASKED[1], {"role": "assistant", "content": None}], r"messages\[1\], of assistant, has no content \(null\)"),
        ([ASKED[1], {"role": "asistant", "content": "x"}], "unknown role 'asistant' — did you mean 'assistant'"),
        ([ASKED[1], {"role": "assistant", "content": 7}], r"messages\[1\] holds 7, not text"),
        ([{"content": "x"}], r"messages\[0\] has no 'role'; it has \['content'\]"),
        ([ASKED[1]], "no message is of assistant: there is nothing to learn"),
        (["hello"], r"messages\[0\] is 'hello', not a message"),
        ([], r"messages is \[\], not a list of messages"),
        ("hello", "messages holds 'hello', which is no JSON"),
        (None, "messages is None, not a list of messages"),
    ],
)
def test_what_is_wrong_is_named(messages: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_format(["messages"]).read({"messages": messages})


def test_columns_that_are_no_format() -> None:
    with pytest.raises(UserError, match=r"no format of conversations has the columns .*'question'.*chat_columns"):
        find_format(["question", "reply"])
    with pytest.raises(UserError, match=r"no column 'dialoge'.*did you mean 'dialogue'"):
        find_format(["dialogue"], {"messages": "dialoge"})
    with pytest.raises(UserError, match="no format has 'mesages' — did you mean 'messages'"):
        find_format(["dialogue"], {"mesages": "dialogue"})
    with pytest.raises(UserError, match="output is None, not text"):
        find_format(["instruction", "output"]).read({"instruction": "Go", "output": None})
    with pytest.raises(UserError, match="tools is 7, not a list"):
        find_format(["messages", "tools"]).read({"messages": ASKED, "tools": 7})
