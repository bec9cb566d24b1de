"""Choices are encoded as transformers encodes pairs; the context is cut, then the question, then the choice."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from lit_ft.data.choices.encoding import ChoiceEncoder, EncodedChoices
from lit_ft.data.choices.rows import Choices, read_choices
from lit_ft.data.choices.texts import choice_texts
from lit_ft.errors import UserError
from tests.tiny import make_tokenizer, texts

CLS, SEP = 2, 3
TEMPLATES: dict[str, dict[str, str] | None] = {
    "bert": {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1"},
    "roberta": {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] [SEP] $B [SEP]"},
    "xlnet": {"single": "$A [SEP] [CLS]:2", "pair": "$A [SEP] $B:1 [SEP]:1 [CLS]:2"},
    "bare": None,
}


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    template = TEMPLATES[kind]
    tokenizer = make_tokenizer(pair_template=template is not None)
    if template is not None:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            **template, special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
        )
    return tokenizer


def choices_of(rows: list[list[str]]) -> list[Choices]:
    return read_choices({"options": rows}, ["options"])


def parts(encoded: EncodedChoices) -> list[list[tuple[list[int], list[int]]]]:
    """Ids and types of each choice of each row."""
    found = []
    for ids, types, lengths in zip(encoded.input_ids, encoded.token_type_ids, encoded.lengths, strict=True):
        cuts = np.cumsum(lengths)[:-1]
        assert lengths.sum() == len(ids) == len(types)
        pieces = zip(np.split(ids, cuts), np.split(types, cuts), strict=True)
        found.append([(one.tolist(), other.tolist()) for one, other in pieces])
    return found


MESSAGES = texts()[:12]
ROWS = [[MESSAGES[4][:20], MESSAGES[5][:31], "no"], ["yes", MESSAGES[6][:12]], ["one", "two", "three", "four"]]


@pytest.mark.parametrize("side", ["first", "last"])
@pytest.mark.parametrize("limit", [None, 48, 40])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_as_transformers_encodes_pairs(kind: str, limit: int | None, side: Any) -> None:
    tokenizer, contexts, questions = tokenizer_of(kind), MESSAGES[:3], ["why", "", "who is it"]
    encoded = ChoiceEncoder(tokenizer, limit, side)(choice_texts(contexts, questions, choices_of(ROWS)))
    tokenizer.truncation_side = "right" if side == "first" else "left"
    lost = []
    for row, found in enumerate(parts(encoded)):
        cut = set()
        for choice, (ids, types) in zip(ROWS[row], found, strict=True):
            second = f"{questions[row]} {choice}".strip()  # run_swag: sent2 and the ending
            cutting = {"truncation": "only_first", "max_length": limit} if limit else {}
            theirs = tokenizer(contexts[row], second, return_token_type_ids=True, **cutting)
            assert ids == theirs["input_ids"]
            assert types == theirs["token_type_ids"]
            cut.add(len(tokenizer(contexts[row], second)["input_ids"]) - len(ids))
        lost.append(max(cut))
    assert encoded.tokens_cut.tolist() == lost
    assert (max(lost) > 0) == (limit is not None)


def test_head_and_tail_of_the_context() -> None:
    tokenizer = tokenizer_of("bert")
    encoded = ChoiceEncoder(tokenizer, 20, "head_and_tail")(choice_texts(MESSAGES[:1], None, choices_of([["a", "no"]])))
    context = tokenizer(MESSAGES[0], add_special_tokens=False)["input_ids"]
    (found,) = parts(encoded)
    for choice, (ids, _) in zip(["a", "no"], found, strict=True):
        second = tokenizer(choice, add_special_tokens=False)["input_ids"]
        room = 20 - 3 - len(second)
        head = room - room // 2
        assert ids == [CLS, *context[:head], *context[len(context) - room // 2 :], SEP, *second, SEP]


@pytest.mark.parametrize(("side", "kept"), [("first", "a b c"), ("last", "f g h")])
def test_a_question_that_is_too_long_is_cut_before_the_choice(side: Any, kept: str) -> None:
    tokenizer = tokenizer_of("bert")
    encoder = ChoiceEncoder(tokenizer, 8, side)
    encoded = encoder(choice_texts(["x y"], ["a b c d e f g h"], choices_of([["i j", "k l m n o p q"]])))
    (found,) = parts(encoded)
    decoded = [tokenizer.decode(ids) for ids, _ in found]
    # the second choice alone is longer than the five tokens there are
    assert decoded == [f"[CLS] [SEP] {kept} i j [SEP]", "[CLS] [SEP] k l m n o [SEP]"]
    assert encoded.tokens_cut.tolist() == [2 + 5 + (8 + 2)]


def test_blanks_are_filled_and_a_filled_question_stands_alone_without_a_context() -> None:
    tokenizer = tokenizer_of("bert")
    questions, choices = ["a ___ b", "c", "_ d _"], choices_of([["x", "y z"]] * 3)

    def decoded(contexts: list[str] | None, limit: int | None = None) -> list[list[str]]:
        encoded = ChoiceEncoder(tokenizer, limit)(choice_texts(contexts, questions, choices, blank="_"))
        return [[tokenizer.decode(ids) for ids, _ in row] for row in parts(encoded)]

    assert decoded(["e", "f", "g"]) == [
        ["[CLS] e [SEP] a x b [SEP]", "[CLS] e [SEP] a y z b [SEP]"],
        ["[CLS] f [SEP] c x [SEP]", "[CLS] f [SEP] c y z [SEP]"],
        ["[CLS] g [SEP] x d x [SEP]", "[CLS] g [SEP] y z d y z [SEP]"],
    ]
    assert decoded(None) == [
        ["[CLS] a x b [SEP]", "[CLS] a y z b [SEP]"],
        ["[CLS] c [SEP] x [SEP]", "[CLS] c [SEP] y z [SEP]"],
        ["[CLS] x d x [SEP]", "[CLS] y z d y z [SEP]"],
    ]
    assert decoded(None, 5)[0] == ["[CLS] a x b [SEP]", "[CLS] a y z [SEP]"]
    alone = parts(ChoiceEncoder(tokenizer, None)(choice_texts(None, questions, choices, blank="_")))
    assert [set(types) for _, types in alone[0] + alone[1]] == [{0}, {0}, {0, 1}, {0, 1}]


def test_a_choice_without_tokens_is_still_there() -> None:
    tokenizer = tokenizer_of("bare")
    encoded = ChoiceEncoder(tokenizer, None)(choice_texts([""], None, choices_of([["​", "a"]])))
    assert encoded.lengths.tolist() == [[1, 1]]


WORDS = st.lists(st.sampled_from(["a", "b", "card", "refund", "zq", "is"]), max_size=12).map(" ".join)
CHOICE = st.lists(st.sampled_from(["x", "y", "money", "qz"]), min_size=1, max_size=5).map(" ".join)


@given(
    st.lists(st.tuples(WORDS, WORDS, st.lists(CHOICE, min_size=2, max_size=5)), min_size=1, max_size=4),
    st.sampled_from(sorted(TEMPLATES)),
    st.integers(7, 30),
    st.sampled_from(["first", "last", "head_and_tail"]),
)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_nothing_is_too_long_and_what_is_cut_is_counted(rows: Any, kind: str, limit: int, side: Any) -> None:
    contexts, questions, options = (list(column) for column in zip(*rows, strict=True))
    tokenizer = tokenizer_of(kind)
    asked = choice_texts(contexts, questions, choices_of(options))
    whole, encoded = ChoiceEncoder(tokenizer, None)(asked), ChoiceEncoder(tokenizer, limit, side)(asked)
    assert not whole.tokens_cut.any()
    special = tokenizer.num_special_tokens_to_add(pair=True)
    for number, (long, short) in enumerate(zip(whole.lengths, encoded.lengths, strict=True)):
        assert (short == np.minimum(long, limit)).all() or (short < limit).any() == (long < limit).any()
        assert (short <= limit).all()
        context = len(tokenizer(contexts[number], add_special_tokens=False)["input_ids"])
        seconds = long - special - context
        room = limit - special
        lost = np.minimum(np.maximum(long - limit, 0), context).max() + np.maximum(seconds - room, 0).sum()
        assert encoded.tokens_cut[number] == lost
        for (ids, _), choice in zip(parts(encoded)[number], options[number], strict=True):
            tokens = tokenizer(choice, add_special_tokens=False)["input_ids"][:room]
            joined = " ".join(map(str, ids))
            assert " ".join(map(str, tokens)) in joined  # the choice is there, as much as fits


def test_no_room_and_slow_tokenizers() -> None:
    with pytest.raises(UserError, match="max_seq_length 4 leaves no room"):
        ChoiceEncoder(tokenizer_of("bert"), 4)
