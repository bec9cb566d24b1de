"""Conversations in the formats that people keep them in, as one kind of messages: OpenAI's, ShareGPT, Alpaca, ..."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lit_ft.data.reading.formats.common import shorten
from lit_ft.errors import UserError, did_you_mean

Message = dict[str, Any]
"""`role` and `content` as chat templates take them; maybe `tool_calls`, `name`, and our `train`."""

Row = Mapping[str, Any]
Name = Literal["messages", "sharegpt", "alpaca", "prompt_completion", "text"]

ROLES = {
    "system": "system", "developer": "developer", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function": "tool", "ipython": "tool",
    "function_call": "assistant", "tool_call": "assistant",
}  # fmt: skip
"""Names of roles, by those that chat templates know."""

CALLS = ("function_call", "tool_call")
"""ShareGPT's roles whose value is a call of a tool, as JSON."""


@dataclass(frozen=True)
class Conversation:
    """What one row says.

    Attributes:
        messages: in their order; empty for a plain text.
        tools: descriptions of tools (JSON schemas), for the chat template.
        text: a plain text, which no template is put around.
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[Any, ...] = ()
    text: str | None = None

    @property
    def whole(self) -> str:
        """All that is said, for people, and to tell rows that say the same."""
        return self.text or "\n".join(f"{each['role']}: {each['content']}" for each in self.messages)


@dataclass(frozen=True)
class ChatFormat:
    """How rows hold conversations.

    Attributes:
        name: of the format.
        columns: the columns it reads, by its own names for them.
    """

    name: Name
    columns: dict[str, str]

    @property
    def title(self) -> str:
        """What rows of it are, for people."""
        return f"conversations in the format {self.name}"

    def read(self, row: Row, answered: bool = True) -> Conversation:
        """Reads a row.

        Args:
            row: its columns.
            answered: whether there has to be a reply to learn from; else one at the end is left out.

        Raises:
            UserError: it is none of this format; the message says what is wrong.
        """
        cells = {own: row[column] for own, column in self.columns.items() if column in row}
        made = READERS[self.name](cells, answered)
        if made.text is None and not answered and made.messages[-1]["role"] == "assistant":
            made = replace(made, messages=made.messages[:-1])
        if made.text is None:
            check_messages(made.messages, answered)
        return made


def find_format(columns: Sequence[str], mapping: Mapping[str, str] | None = None) -> ChatFormat:
    """Tells the format by the names of columns.

    Args:
        columns: that the rows have.
        mapping: a format's names for columns, by which the rows call them otherwise: `{messages: dialogue}`.

    Raises:
        UserError: it is none that is known, or a mapped column is missing.
    """
    there = named_columns(columns, mapping, KNOWN)
    for name, (needed, possible) in FORMATS.items():
        if all(column in there for column in needed):
            return ChatFormat(name, {own: there[own] for own in (*needed, *possible) if own in there})
    raise UserError(
        f"no format of conversations has the columns {list(columns)}; known: messages; conversations (ShareGPT); "
        "instruction, input, output (Alpaca); prompt, completion; text. Name them by chat_columns, such as "
        "{messages: dialogue}"
    )


def named_columns(columns: Sequence[str], mapping: Mapping[str, str] | None, known: Sequence[str]) -> dict[str, str]:
    """Returns the columns that formats know, by the formats' names for them; see `find_format`.

    Raises:
        UserError: no format has such a name, or a mapped column is missing.
    """
    mapping = dict(mapping or {})
    for own, column in mapping.items():
        if own not in known:
            raise UserError(f"chat_columns: no format has {own!r}{did_you_mean(own, known)}; known: {', '.join(known)}")
        if column not in columns:
            raise UserError(
                f"dataset has no column {column!r}; columns: {list(columns)}{did_you_mean(column, columns)}"
            )
    return {name: name for name in known if name in columns} | mapping


FORMATS: dict[Name, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "messages": (("messages",), ("tools",)),
    "sharegpt": (("conversations",), ("system", "tools")),
    "prompt_completion": (("prompt", "completion"), ("tools",)),
    "alpaca": (("instruction", "output"), ("input", "system", "history")),
    "text": (("text",), ()),
}
"""Columns that a format needs, and others that it knows."""

KNOWN = tuple(dict.fromkeys(name for needed, possible in FORMATS.values() for name in (*needed, *possible)))


def _messages(cells: Row, answered: bool) -> Conversation:
    return Conversation(turns(cells["messages"], "messages", "role", "content"), read_tools(cells.get("tools")))


def _sharegpt(cells: Row, answered: bool) -> Conversation:
    found = turns(cells["conversations"], "conversations", "from", "value")
    system = cells.get("system")
    begin = ({"role": "system", "content": str(system)},) if system else ()
    return Conversation((*begin, *found), read_tools(cells.get("tools")))


def _alpaca(cells: Row, answered: bool) -> Conversation:
    made: list[Message] = []
    if cells.get("system"):
        made.append({"role": "system", "content": str(cells["system"])})
    for pair in cells.get("history") or ():
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise UserError(f"history holds {shorten(pair)}, not pairs of question and answer")
        made += [{"role": "user", "content": str(pair[0])}, {"role": "assistant", "content": str(pair[1])}]
    asked = [read_string(cells["instruction"], "instruction")]
    if cells.get("input"):
        asked.append(read_string(cells["input"], "input"))
    made.append({"role": "user", "content": "\n".join(asked)})
    if answered or cells.get("output"):
        made.append({"role": "assistant", "content": read_string(cells.get("output"), "output")})
    return Conversation(tuple(made))


def _prompt_completion(cells: Row, answered: bool) -> Conversation:
    made = said(cells["prompt"], "prompt", "user")
    if answered or cells.get("completion"):
        made += said(cells.get("completion"), "completion", "assistant")
    return Conversation(tuple(made), read_tools(cells.get("tools")))


def _text(cells: Row, answered: bool) -> Conversation:
    return Conversation(text=read_string(cells["text"], "text"))


READERS: dict[Name, Callable[[Row, bool], Conversation]] = {
    "messages": _messages, "sharegpt": _sharegpt, "alpaca": _alpaca, "prompt_completion": _prompt_completion,
    "text": _text,
}  # fmt: skip


def said(cell: Any, column: str, role: str) -> list[Message]:
    """Reads what somebody says: a text, or a list of turns."""
    if isinstance(cell, str):
        return [{"role": role, "content": cell}]
    return list(turns(cell, column, "role", "content"))


def turns(cell: Any, column: str, role_key: str, content_key: str) -> tuple[Message, ...]:
    """Reads a list of turns; either way of naming role and content will do."""
    if isinstance(cell, str):
        cell = _json(cell, column)
    if not isinstance(cell, Sequence) or isinstance(cell, (str, bytes)) or not len(cell):
        raise UserError(f"{column} is {shorten(cell)}, not a list of messages")
    return tuple(_turn(turn, number, column, role_key, content_key) for number, turn in enumerate(cell))


def _turn(turn: Any, number: int, column: str, role_key: str, content_key: str) -> Message:
    place = f"{column}[{number}]"
    if not isinstance(turn, Mapping):
        raise UserError(f"{place} is {shorten(turn)}, not a message with {role_key!r} and {content_key!r}")
    given = {key: value for key, value in turn.items() if value is not None}  # Arrow fills up what is missing
    role = given.pop(role_key, None) or given.pop({"role": "from", "from": "role"}[role_key], None)
    content = given.pop(content_key, None)
    if content is None:
        content = given.pop({"content": "value", "value": "content"}[content_key], None)
    if role is None:
        raise UserError(f"{place} has no {role_key!r}; it has {sorted(turn)}")
    if str(role).lower() not in ROLES:
        raise UserError(f"{place} has the unknown role {role!r}{did_you_mean(str(role), ROLES)}")
    made: Message = {"role": ROLES[str(role).lower()], "content": content, **given}
    if role in CALLS and content is not None:
        calls = _json(content, place)
        calls = calls if isinstance(calls, list) else [calls]
        made |= {"content": None, "tool_calls": [_call(each, place) for each in calls]}
    if made.get("content") is None and not made.get("tool_calls"):
        raise UserError(f"{place}, of {made['role']}, has no content (null)")
    if made.get("content") is None:
        made["content"] = ""
    elif not isinstance(made["content"], (str, list)):
        raise UserError(f"{place} holds {shorten(made['content'])}, not text")
    return made


def _call(call: Any, place: str) -> dict[str, Any]:
    if not isinstance(call, Mapping) or not ({"name", "function"} & call.keys()):
        raise UserError(f"{place} holds {shorten(call)}, not a call with a name and arguments")
    return dict(call) if "function" in call else {"type": "function", "function": dict(call)}


def read_tools(cell: Any) -> tuple[Any, ...]:
    """Reads descriptions of tools: a list, or one as JSON."""
    if not cell:
        return ()
    found = _json(cell, "tools") if isinstance(cell, str) else cell
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise UserError(f"tools is {shorten(cell)}, not a list of descriptions")
    return tuple(found)


def _json(text: Any, place: str) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError as error:
        raise UserError(f"{place} holds {shorten(text)}, which is no JSON: {error}") from None


def read_string(cell: Any, column: str) -> str:
    """Returns a cell that has to be a text."""
    if not isinstance(cell, str):
        raise UserError(f"{column} is {shorten(cell)}, not text")
    return cell


def check_messages(messages: Sequence[Message], answered: bool = True) -> None:
    """Makes sure that messages come in an order that can be learned from.

    Args:
        messages: of one conversation.
        answered: whether there has to be a reply.

    Raises:
        UserError: a system message later than first, a reply to nothing, two users or two replies in a row, a tool's
            result that nobody asked for, an empty reply, no reply at all, or nothing to reply to.
    """
    before = ""
    for number, message in enumerate(messages):
        role = message["role"]
        if role in ("system", "developer"):
            fine = number == 0
        elif role == "user":
            fine = before in ("", "system", "developer", "assistant")
        elif role == "assistant":
            fine = before in ("user", "tool")
            if fine and not message["content"] and not message.get("tool_calls"):
                raise UserError(f"message {number + 1}, of assistant, is empty")
        else:
            fine = before == "tool" or (before == "assistant" and bool(messages[number - 1].get("tool_calls")))
        if not fine:
            last = f"after {before}" if before else "first"
            raise UserError(f"message {number + 1} is of {role}, {last}: roles are out of order")
        before = role
    if answered and not any(message["role"] == "assistant" for message in messages):
        raise UserError("no message is of assistant: there is nothing to learn")
    if not answered and before not in ("user", "tool"):
        raise UserError("there is no message to reply to")
