"""Which characters and tokens of a rendered conversation are learned: five templates worked out by hand, and marks."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lit_ft.data.chats.encoding import ChatEncoder, check_tokens, cut_to, read_template, within
from lit_ft.data.chats.formats import Conversation
from lit_ft.data.chats.rendering import ChatRenderer
from lit_ft.errors import RowError, UserError

MARKS = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<start_of_turn>", "<end_of_turn>", "<tool_call>", "</tool_call>",
]  # fmt: skip
TWO = Conversation(
    (
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi, assistant"},
        {"role": "assistant", "content": "Hello, user"},
        {"role": "user", "content": "Größe?"},
        {"role": "assistant", "content": "42 cm — ok"},
    )
)
QWEN = """
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}{{- tool | tojson + '\\n' }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.content %}
            {%- set said = message.content %}
            {%- if '</think>' in said and not loop.last %}
                {%- set said = said.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
            {{- said }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def make_tokenizer(template: str | None = None, eos: str = "</s>") -> PreTrainedTokenizerFast:
    """A token a byte, but for the marks: what is learned can be read letter by letter."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos)
    made.add_special_tokens({"additional_special_tokens": [mark for mark in MARKS if mark not in ("<s>", eos)]})
    made.chat_template = template
    return made


def parts(template: str, conversation: Conversation, train_on: Any = "assistant") -> tuple[str, list[str]]:
    """The whole text, and the pieces of it whose tokens are learned."""
    tokenizer = make_tokenizer(template)
    encoder = ChatEncoder(tokenizer, ChatRenderer(tokenizer))
    (ids,), (learned,) = encoder([conversation], train_on)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], learned, [False]]).astype(int)))
    pieces = [tokenizer.decode(ids[start:stop]) for start, stop in edges.reshape(-1, 2)]
    return tokenizer.decode(ids), pieces


EXPECTED = {
    "chatml": (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi, assistant<|im_end|>\n"
        "<|im_start|>assistant\nHello, user<|im_end|>\n<|im_start|>user\nGröße?<|im_end|>\n"
        "<|im_start|>assistant\n42 cm — ok<|im_end|>\n",
        ["Hello, user<|im_end|>", "42 cm — ok<|im_end|>"],
    ),
    "llama3": (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi, assistant<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello, user<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nGröße?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n42 cm — ok<|eot_id|>",
        ["Hello, user<|eot_id|>", "42 cm — ok<|eot_id|>"],
    ),
    "gemma": (
        "<s><start_of_turn>user\nBe kind.\n\nHi, assistant<end_of_turn>\n"
        "<start_of_turn>model\nHello, user<end_of_turn>\n"
        "<start_of_turn>user\nGröße?<end_of_turn>\n<start_of_turn>model\n42 cm — ok<end_of_turn>\n",
        ["Hello, user<end_of_turn>", "42 cm — ok<end_of_turn>"],
    ),
    "mistral": (
        "<s>[INST] Be kind.\n\nHi, assistant [/INST] Hello, user</s>[INST] Größe? [/INST] 42 cm — ok</s>",
        [" Hello, user</s>", " 42 cm — ok</s>"],
    ),
    "alpaca": (
        "Be kind.\n\n### Instruction:\nHi, assistant\n\n### Response:\nHello, user</s>\n\n"
        "### Instruction:\nGröße?\n\n### Response:\n42 cm — ok</s>\n\n",
        ["Hello, user</s>", "42 cm — ok</s>"],
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_replies_are_learned_with_the_token_that_ends_them(name: str) -> None:
    template = read_template(name)
    assert template is not None
    assert parts(template, TWO) == EXPECTED[name]
    assert parts(template, TWO, "last")[1] == EXPECTED[name][1][1:]
    assert parts(template, TWO, "all")[1] == [EXPECTED[name][0]]


def test_tools_and_turns_that_a_template_rewrites() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Ulm"}}}
    conversation = Conversation(
        (
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "12 degrees"},
            {"role": "assistant", "content": "It is 12 degrees."},
        ),
        tools=({"name": "weather"},),
    )
    text, learned = parts(QWEN, conversation)
    assert text.startswith('<|im_start|>system\n# Tools\n{"name": "weather"}\n<|im_end|>\n')
    assert learned == [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Ulm"}}\n</tool_call><|im_end|>',
        "It is 12 degrees.<|im_end|>",
    ]
    thinking = Conversation(
        (
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nOne."},
            {"role": "user", "content": "Two?"},
            {"role": "assistant", "content": "<think>\nha\n</think>\n\nTwo."},
        )
    )
    tokenizer = make_tokenizer(QWEN)
    renderer = ChatRenderer(tokenizer)
    whole, spans = renderer.learned(thinking, "last")
    assert [whole[slice(*span)] for span in spans] == ["<think>\nha\n</think>\n\nTwo.<|im_end|>"]
    whole, spans = renderer.learned(thinking)
    assert [whole[slice(*span)] for span in spans] == ["One.<|im_end|>", "<think>\nha\n</think>\n\nTwo.<|im_end|>"]


def test_equals_the_marks_of_a_template() -> None:
    template = read_template("chatml")
    assert template is not None
    marked = """{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|im_start|>assistant\\n' -}}
{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}
{%- else -%}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}"""
    tokenizer = make_tokenizer(template)
    (ids,), (learned,) = ChatEncoder(tokenizer, ChatRenderer(tokenizer))([TWO])
    theirs = tokenizer.apply_chat_template(
        list(TWO.messages), chat_template=marked, return_assistant_tokens_mask=True, return_dict=True
    )
    assert ids.tolist() == theirs["input_ids"]
    assert learned.astype(int).tolist() == theirs["assistant_masks"]
    # as transformers tokenizes conversations, too
    assert ids.tolist() == tokenizer.apply_chat_template(list(TWO.messages), return_dict=True)["input_ids"]
    prompt = Conversation(TWO.messages[:4])
    encoder = ChatEncoder(tokenizer, ChatRenderer(tokenizer))
    asked = tokenizer.apply_chat_template(list(prompt.messages), add_generation_prompt=True, return_dict=True)
    assert encoder.prompts([prompt])[0].tolist() == asked["input_ids"]


def test_messages_say_by_themselves() -> None:
    template = read_template("chatml")
    assert template is not None
    flagged = [dict(message) for message in TWO.messages]
    flagged[2]["train"] = False
    assert parts(template, Conversation(tuple(flagged)))[1] == ["42 cm — ok<|im_end|>"]
    flagged[3]["train"] = True
    # a question that is learned has no words that ask for it
    learned = parts(template, Conversation(tuple(flagged)))[1]
    assert learned == ["<|im_start|>user\nGröße?<|im_end|>", "42 cm — ok<|im_end|>"]


def test_plain_texts_get_their_ends() -> None:
    tokenizer = make_tokenizer(read_template("chatml"))
    (ids,), (learned,) = ChatEncoder(tokenizer, ChatRenderer(tokenizer))([Conversation(text="Once.")])
    assert tokenizer.decode(ids) == "<s>Once.</s>"
    assert learned.tolist() == [False] + [True] * 6
    same = make_tokenizer(read_template("chatml"), eos="<s>")  # GPT-2's: what ends a text does not begin it
    (ids,), (learned,) = ChatEncoder(same, ChatRenderer(same))([Conversation(text="Once.")])
    assert same.decode(ids) == "Once.<s>"
    assert learned.tolist() == [True] * 6


def test_what_a_template_cannot_do() -> None:
    with pytest.raises(UserError, match="no chat template: set chat_template"):
        ChatRenderer(make_tokenizer())
    with pytest.raises(UserError, match=r"'chatlm' is no file, and none of alpaca, chatml.* — did you mean 'chatml'"):
        read_template("chatlm")
    tokenizer = make_tokenizer("{{ raise_exception('only one turn') }}")
    with pytest.raises(RowError, match="row 2, the chat template refuses this conversation: only one turn"):
        ChatEncoder(tokenizer, ChatRenderer(tokenizer))([Conversation(text="fine"), TWO])
    hidden = make_tokenizer("{% for message in messages %}{{ message['role'] }};{% endfor %}")
    with pytest.raises(UserError, match="does not say where message 3, of assistant, is"):
        ChatRenderer(hidden).learned(TWO)
    plain = PreTrainedTokenizerFast(tokenizer_object=make_tokenizer()._tokenizer.__class__(models.BPE()))
    plain.chat_template = read_template("chatml")
    assert (
        check_tokens(make_tokenizer(read_template("chatml")), ChatRenderer(make_tokenizer(read_template("chatml"))))
        == []
    )
    assert "<|im_end|>" not in plain.get_vocab()
    assert check_tokens(plain, ChatRenderer(plain)) == ["<|im_end|>", "<|im_start|>"]


@given(st.data())
def test_tokens_within_spans(data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, 60), min_size=2, max_size=20)))
    offsets = np.array(list(pairwise(cuts)))
    edges = sorted(data.draw(st.sets(st.integers(0, 60), max_size=8)))
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    expected = [any(start < stop_ and stop > start_ for start_, stop_ in spans) for start, stop in offsets.tolist()]
    assert within(offsets, spans).tolist() == expected


@pytest.mark.parametrize(
    ("side", "kept", "marks"),
    [
        ("first", [10, 11, 12, 13, 14], [0, 0, 1, 1, 0]),
        ("last", [13, 14, 15, 16, 17], [1, 0, 0, 1, 1]),
        ("head_and_tail", [10, 11, 12, 16, 17], [0, 0, 1, 1, 1]),
    ],
)
def test_the_part_of_a_conversation_that_is_kept(side: Any, kept: list[int], marks: list[int]) -> None:
    long, short = np.arange(10, 18), np.array([7, 8])
    learned = [np.array([0, 0, 1, 1, 0, 0, 1, 1], bool), np.array([0, 1], bool)]
    ids, learned_then, lost = cut_to(5, side, [long, short], learned)
    assert [each.tolist() for each in ids] == [kept, [7, 8]]
    assert [each.tolist() for each in learned_then] == [marks, [0, 1]]
    assert lost.tolist() == [3, 0]
    assert cut_to(5, side, [long])[0][0].tolist() == kept
