"""Conversations as their chat template writes them, and which characters of that are to be learned.

Where replies lie is found by rendering again: up to a reply with the words that ask for it, and with the reply. So it
works for templates without marks for generation; those that rewrite earlier turns (thinking that is left out) get a
marker in the place of the reply instead.
"""

from collections.abc import Sequence
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from lit_ft.data.chats.formats import Conversation, Message
from lit_ft.errors import UserError

TrainOn = Literal["assistant", "last", "all"]
Span = tuple[int, int]
"""Where something begins and ends, in characters of the rendered conversation."""

MARKER = "\ue000lit_ft\ue001"
"""Of the private use area: nobody writes it."""

OURS = "train"
"""Our key of a message: whether it is learned."""


class ChatRenderer:
    """Renders conversations by a tokenizer's chat template.

    Args:
        tokenizer: with a chat template, unless one is given.
        template: a template to use instead.
        kwargs: further variables of the template, such as `enable_thinking`.

    Raises:
        UserError: there is no template.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: str | None = None, kwargs: dict[str, Any] | None = None
    ) -> None:
        if template is None and not tokenizer.chat_template:
            raise UserError(
                "the tokenizer has no chat template: set chat_template to a file with one, or to a name, such as chatml"
            )
        self.tokenizer, self.template, self.kwargs = tokenizer, template, kwargs or {}
        specials = {*tokenizer.all_special_tokens, *(str(token) for token in tokenizer.added_tokens_decoder.values())}
        self._ends = sorted((token for token in specials if token), key=len, reverse=True)

    def prompt(self, conversation: Conversation) -> str:
        """Returns a conversation with the words that ask for a reply."""
        if conversation.text is not None:
            return conversation.text
        return self._render(conversation.messages, conversation.tools, True)

    def learned(self, conversation: Conversation, train_on: TrainOn = "assistant") -> tuple[str, list[Span]]:
        """Returns a conversation, and which of its characters are to be learned.

        A reply is learned with the special token that ends it, for nothing else teaches a model to stop.

        Args:
            conversation: of which a message may say `train: false`, or of others than replies `train: true`.
            train_on: `assistant` (all replies), `last` (the last one) or `all` (everything).

        Raises:
            UserError: the template refuses the conversation, or leaves out a reply that is to be learned.
        """
        if conversation.text is not None:
            return conversation.text, [(0, len(conversation.text))]
        messages, tools = conversation.messages, conversation.tools
        whole = self._render(messages, tools, False)
        if train_on == "all" and not any(OURS in message for message in messages):
            return whole, [(0, len(whole))]
        chosen = [number for number in range(len(messages)) if self._is_learned(messages, number, train_on)]
        return whole, _joined([self._span(messages, tools, number, whole) for number in chosen])

    def end_of_reply(self) -> str | None:
        """Returns the special token that follows a reply, if one does."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": MARKER}]
        rest = self._render(messages, (), False).partition(MARKER)[2].lstrip()
        return next((token for token in self._ends if rest.startswith(token)), None)

    @staticmethod
    def _is_learned(messages: Sequence[Message], number: int, train_on: TrainOn) -> bool:
        message = messages[number]
        if OURS in message:
            return bool(message[OURS])
        if train_on == "all":
            return True
        replies = [place for place, each in enumerate(messages) if each["role"] == "assistant"]
        return number in (replies[-1:] if train_on == "last" else replies)

    def _span(self, messages: Sequence[Message], tools: Sequence[Any], number: int, whole: str) -> Span:
        asks = messages[number]["role"] == "assistant"
        before = self._render(messages[:number], tools, asks) if number else ""
        after = self._render(messages[: number + 1], tools, False)
        content = messages[number]["content"]
        told = content.strip() if isinstance(content, str) else ""
        if whole.startswith(after) and after.startswith(before) and told in after[len(before) :]:
            return len(before), self._end(whole, len(before), len(after))
        return self._marked(messages, tools, number, whole)

    def _marked(self, messages: Sequence[Message], tools: Sequence[Any], number: int, whole: str) -> Span:
        content = messages[number]["content"]
        marked = [*messages[:number], {**messages[number], "content": MARKER}, *messages[number + 1 :]]
        other = self._render(marked, tools, False)
        start = other.find(MARKER)
        rest = other[start + len(MARKER) :]
        if not isinstance(content, str) or start < 0 or not whole.endswith(rest) or whole[:start] != other[:start]:
            role = messages[number]["role"]
            raise UserError(
                f"the chat template does not say where message {number + 1}, of {role}, is: train_on: last learns the "
                "last reply alone, and train: false leaves a message out"
            )
        stop = len(whole) - len(rest)
        following = next((len(token) for token in self._ends if rest.startswith(token)), 0)
        return start, stop + following

    def _end(self, whole: str, start: int, stop: int) -> int:
        """Returns where a turn ends: behind its last special token, without the white space after it."""
        stripped = whole[start:stop].rstrip()
        return start + len(stripped) if any(stripped.endswith(token) for token in self._ends) else stop

    def _render(self, messages: Sequence[Message], tools: Sequence[Any], asks: bool) -> str:
        bare = [{key: value for key, value in message.items() if key != OURS} for message in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(  # type: ignore[assignment]
                bare, tools=list(tools) or None, chat_template=self.template, tokenize=False,
                add_generation_prompt=asks, **self.kwargs,
            )  # fmt: skip
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise UserError(f"the chat template refuses this conversation: {error}") from None
        return text


def _joined(spans: list[Span]) -> list[Span]:
    made: list[Span] = []
    for start, stop in sorted(spans):
        if made and start <= made[-1][1]:
            made[-1] = made[-1][0], max(made[-1][1], stop)
        else:
            made.append((start, stop))
    return made
