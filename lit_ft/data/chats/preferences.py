"""Preferences in the formats that people keep them in: a better and a worse reply, or replies that are judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_ft.data.chats.formats import (
    ChatFormat,
    Conversation,
    Message,
    Row,
    check_messages,
    find_format,
    named_columns,
    read_string,
    read_tools,
    said,
    turns,
)
from lit_ft.data.chats.rendering import OURS
from lit_ft.data.labels import is_no_category
from lit_ft.data.reading.formats.common import shorten
from lit_ft.errors import UserError

PAIR = ("chosen", "rejected")
PROMPTS = ("prompt", "messages", "conversations", "instruction")
"""Columns of what is replied to, where replies stand alone."""
LABEL = "label"
KNOWN = (*PAIR, *PROMPTS, "completion", LABEL, "input", "system", "tools")
LABELS = {
    **dict.fromkeys(("true", "1", "1.0", "chosen"), True),
    **dict.fromkeys(("false", "0", "0.0", "rejected"), False),
}
"""How a reply is judged, as text; pandas makes numbers with gaps 1.0."""


@dataclass(frozen=True)
class Preference:
    """What one row says.

    Attributes:
        chosen: the conversation with the better reply, or with the only one.
        rejected: the same with the worse reply.
        desirable: whether the only reply is a good one; `None` = nobody says.
    """

    chosen: Conversation
    rejected: Conversation | None = None
    desirable: bool | None = None

    @property
    def equal(self) -> bool:
        """Says whether both replies are the same."""
        return self.rejected is not None and self.chosen.messages == self.rejected.messages


@dataclass(frozen=True)
class PairFormat:
    """Rows with a better and a worse reply.

    Attributes:
        columns: the columns it reads, by its own names for them.
    """

    columns: dict[str, str]
    title = "pairs of replies"
    paired = True

    def read(self, row: Row, judged: bool = True) -> Preference:
        """Reads a row.

        Args:
            row: its columns.
            judged: whether it has to be judged, which pairs always are.

        Raises:
            UserError: it is none of this format; the message says what is wrong.
        """
        cells = {own: row[column] for own, column in self.columns.items() if column in row}
        asked = _asked(cells)
        chosen, rejected = (self._whole(cells[side], side, asked) for side in PAIR)
        shared = _shared(chosen, rejected)
        tools = read_tools(cells.get("tools"))
        made = []
        for side, messages in zip(PAIR, (chosen, rejected), strict=True):
            try:
                check_messages(messages)
            except UserError as error:
                raise UserError(f"{side}: {error}") from None
            made.append(Conversation(_marked(messages, shared), tools))
        return Preference(made[0], made[1])

    @staticmethod
    def _whole(cell: Any, side: str, asked: list[Message]) -> list[Message]:
        """Returns a reply with what it replies to, which may stand in the same cell."""
        if isinstance(cell, Mapping):
            cell = [cell]
        if cell is None or cell == "":
            raise UserError(f"{side} is empty")
        found = said(cell, side, "assistant")
        whole = found if found[0]["role"] in ("system", "developer", "user") else [*asked, *found]
        if found is whole or asked:
            return whole
        raise UserError(
            f"{side} holds a reply alone ({shorten(cell)}), and there is no column of what it replies to: "
            f"{', '.join(PROMPTS)}"
        )


@dataclass(frozen=True)
class JudgedFormat:
    """Rows with one reply and a judgement of it.

    Attributes:
        conversation: how the conversation is held.
        label: the column that says whether the reply is good; `None` = there is none.
    """

    conversation: ChatFormat
    label: str | None
    paired = False

    @property
    def title(self) -> str:
        """What rows of it are, for people."""
        return "judged replies" if self.label else "replies"

    @property
    def columns(self) -> dict[str, str]:
        """The columns it reads."""
        return {**self.conversation.columns, **({LABEL: self.label} if self.label else {})}

    def read(self, row: Row, judged: bool = True) -> Preference:
        """Reads a row; its judgement only where it has to be judged; see `PairFormat.read`."""
        made = self.conversation.read(row)
        if made.text is not None:
            raise UserError("a text is no reply to anything")
        if made.messages[-1]["role"] != "assistant":
            raise UserError("the last message is not of assistant: there is no reply to judge")
        marked = Conversation(_marked(made.messages, len(made.messages) - 1), made.tools)
        return Preference(marked, None, self._judged(row[self.label]) if self.label and judged else None)

    def _judged(self, cell: Any) -> bool | None:
        if is_no_category(cell):
            return None
        known = LABELS.get(str(cell).strip().lower())
        if known is None:
            raise UserError(f"{self.label} is {shorten(cell)}; it must be true (a good reply) or false")
        return known


PreferenceFormat = PairFormat | JudgedFormat


def find_preferences(
    columns: Sequence[str], mapping: Mapping[str, str] | None = None, judged: bool = True
) -> PreferenceFormat:
    """Tells the format by the names of columns.

    Args:
        columns: that the rows have.
        mapping: a format's names for columns, by which the rows call them otherwise: `{prompt: question}`.
        judged: whether single replies have to be judged.

    Raises:
        UserError: it is none that is known, or a mapped column is missing.
    """
    there = named_columns(columns, mapping, KNOWN)
    if all(side in there for side in PAIR):
        prompts = [name for name in PROMPTS if name in there][:1]
        beside = [name for name in ("input", "system", "tools") if name in there]
        return PairFormat({name: there[name] for name in (*PAIR, *prompts, *beside)})
    if LABEL in there or not judged:
        label = there.pop(LABEL, None)
        chats = {own: column for own, column in (mapping or {}).items() if own != LABEL}
        return JudgedFormat(find_format([name for name in columns if name != label], chats), label)
    raise UserError(
        f"no format of preferences has the columns {list(columns)}; known: chosen, rejected, with prompt, "
        "conversations or instruction where they are replies alone; prompt, completion, label (true = a good reply); "
        "messages, label. Name them by chat_columns, such as {prompt: question}"
    )


def _asked(cells: Mapping[str, Any]) -> list[Message]:
    """Reads what is replied to."""
    made: list[Message] = []
    name = next((each for each in PROMPTS if each in cells), None)
    if name == "instruction":
        asked = [read_string(cells["instruction"], "instruction"), cells.get("input")]
        made = [{"role": "user", "content": "\n".join(str(part) for part in asked if part)}]
    elif name == "conversations":
        made = list(turns(cells[name], name, "from", "value"))
    elif name is not None and cells[name]:
        made = said(cells[name], name, "user")
    if cells.get("system") and made[:1] and made[0]["role"] != "system":
        made = [{"role": "system", "content": str(cells["system"])}, *made]
    return made


def _shared(chosen: Sequence[Message], rejected: Sequence[Message]) -> int:
    """Returns how many messages both have in common before their replies part.

    Raises:
        UserError: they do not reply to the same.
    """
    if list(chosen) == list(rejected):
        return len(chosen) - 1
    size = next(
        (at for at, (one, other) in enumerate(zip(chosen, rejected, strict=False)) if one != other),
        min(len(chosen), len(rejected)),
    )
    for side, messages in zip(PAIR, (chosen, rejected), strict=True):
        role = messages[size]["role"] if size < len(messages) else "nobody"
        if role != "assistant":
            raise UserError(
                f"message {size + 1} of {side} is of {role}: chosen and rejected have to begin alike, up to a reply"
            )
    return size


def _marked(messages: Sequence[Message], begin: int) -> tuple[Message, ...]:
    """Marks which replies are compared: those from a message on."""
    return tuple(
        {**message, OURS: number >= begin and message["role"] == "assistant"} for number, message in enumerate(messages)
    )
