"""Windows and their labels are those of transformers' run_qa, where that is right, for tokenizers of each kind."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lit_ft.data.answers.places import Spans, State, answer_spans
from lit_ft.data.answers.span_labels import span_labels, windows_to_keep
from lit_ft.data.answers.windows import ContextWindows, Windows
from lit_ft.data.batching.collators import pad, place_spans
from lit_ft.errors import RowError, UserError
from tests.questions import Rows, question_rows
from tests.tiny import make_tokenizer, texts

LENGTH, STRIDE = 48, 12


def byte_level(template: bool) -> PreTrainedTokenizerFast:
    """As RoBERTa's or, without special tokens, GPT-2's: characters beyond ASCII are several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": 500, "special_tokens": ["<s>", "<pad>", "</s>", "<unk>"], "show_progress": False}
    tokenizer.train_from_iterator(texts(), trainers.BpeTrainer(initial_alphabet=alphabet, **options))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    if template:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    names |= {"cls_token": "<s>", "sep_token": "</s>"} if template else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **names
    )


def cls_last() -> PreTrainedTokenizerFast:
    """As XLNet's: padding on the left, the context first, CLS at the end."""
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 [SEP]:0 [CLS]:2",
        pair="$A:0 [SEP]:0 $B:1 [SEP]:1 [CLS]:2",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.padding_side = "left"
    return tokenizer


TOKENIZERS: dict[str, PreTrainedTokenizerBase] = {
    "bert": make_tokenizer(),
    "roberta": byte_level(True),
    "gpt2": byte_level(False),
    "xlnet": cls_last(),
}


def run_qa(tokenizer: Any, rows: Rows) -> dict[str, list[list[int]]]:
    """`prepare_train_features` of run_qa.py, each answer kept within the context (there it may run past its end)."""
    pad_on_right = tokenizer.padding_side == "right"
    questions, contexts = [row["question"].lstrip() for row in rows], [row["context"] for row in rows]
    tokenized = tokenizer(
        questions if pad_on_right else contexts,
        contexts if pad_on_right else questions,
        truncation="only_second" if pad_on_right else "only_first",
        max_length=LENGTH,
        stride=STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding=False,
    )
    out: dict[str, list[Any]] = {"input_ids": tokenized["input_ids"], "labels": [], "row": [], "offsets": []}
    out["types"] = tokenized.get("token_type_ids", [[0] * len(ids) for ids in tokenized["input_ids"]])
    for i, offsets in enumerate(tokenized["offset_mapping"]):
        input_ids = tokenized["input_ids"][i]
        if tokenizer.cls_token_id in input_ids:
            cls_index = input_ids.index(tokenizer.cls_token_id)
        elif tokenizer.bos_token_id in input_ids:
            cls_index = input_ids.index(tokenizer.bos_token_id)
        else:
            cls_index = 0
        sequence_ids = tokenized.sequence_ids(i)
        context_id = 1 if pad_on_right else 0
        sample_index = tokenized["overflow_to_sample_mapping"][i]
        out["row"].append(sample_index)
        out["offsets"].append([o if sequence_ids[k] == context_id else (-1, -1) for k, o in enumerate(offsets)])
        answers = rows[sample_index]["answers"]
        if len(answers["answer_start"]) == 0:
            out["labels"].append([cls_index, cls_index])
            continue
        start_char = answers["answer_start"][0]
        end_char = start_char + len(answers["text"][0])
        first = token_start_index = sequence_ids.index(context_id)
        last = token_end_index = len(sequence_ids) - 1 - sequence_ids[::-1].index(context_id)
        if not (offsets[token_start_index][0] <= start_char and offsets[token_end_index][1] >= end_char):
            out["labels"].append([cls_index, cls_index])
            continue
        while token_start_index <= last and offsets[token_start_index][0] <= start_char:
            token_start_index += 1
        while token_end_index >= first and offsets[token_end_index][1] >= end_char:
            token_end_index -= 1
        out["labels"].append([token_start_index - 1, token_end_index + 1])
    return out


def ours(tokenizer: Any, rows: Rows, length: int | None = LENGTH, stride: int = STRIDE) -> tuple[Windows, Spans]:
    contexts = [row["context"] for row in rows]
    windows = ContextWindows(tokenizer, length, stride)([row["question"] for row in rows], contexts)
    return windows, answer_spans(contexts, [row["answers"] for row in rows], [row["id"] for row in rows], "error")


ROWS = question_rows(30, unanswerable=True) + question_rows(30, start=50, messages=3)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_windows_and_labels_are_those_of_run_qa(kind: str) -> None:
    tokenizer, rows = TOKENIZERS[kind], [*ROWS, {**ROWS[0], "question": "   what \n"}]
    expected = run_qa(tokenizer, rows)
    windows, spans = ours(tokenizer, rows)
    labels, inside = span_labels(windows, spans, "error")
    assert windows.input_ids.tolist() == expected["input_ids"]
    assert windows.row.tolist() == expected["row"]
    assert len(windows.row) > len(rows) + 20
    characters = zip(windows.char_starts.tolist(), windows.char_ends.tolist(), strict=True)
    assert [[*zip(*sides, strict=True)] for sides in characters] == expected["offsets"]
    assert labels.tolist() == expected["labels"]
    assert 20 < inside.sum() < len(inside) - 20
    if "token_type_ids" in tokenizer.model_input_names:
        assert windows.token_type_ids.tolist() == expected["types"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_what_is_baked_into_the_tokenizer_never_applies(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    before = ours(tokenizer, ROWS)[0].input_ids.tolist()
    tokenizer.backend_tokenizer.enable_truncation(9)
    tokenizer.backend_tokenizer.enable_padding(length=70)
    try:
        assert ours(tokenizer, ROWS)[0].input_ids.tolist() == before
    finally:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_labels_hold_the_answer(kind: str, data: st.DataObject) -> None:
    """Every answer between two characters, cut at no token: the labelled tokens hold all of it, and no other does."""
    context = data.draw(st.text("ab cé🙂,.\n", min_size=4, max_size=80))
    cuts = st.integers(0, len(context))
    begin, end = sorted((data.draw(cuts), data.draw(cuts)))
    text = context[begin:end]
    if not text.strip():
        return
    row = {"id": "q", "question": "why", "context": context, "answers": {"text": [text], "answer_start": [begin]}}
    windows, spans = ours(TOKENIZERS[kind], [row], 24, 6)
    wanted = set(range(spans.start[0], spans.end[0]))
    labels, inside = span_labels(windows, spans, "error")
    (every,) = zip(windows.contexts.starts.tolist(), windows.contexts.ends.tolist(), strict=True)
    total = sum(bool(set(range(first, last)) & wanted) for first, last in zip(*every, strict=True))
    held = [
        [bool(set(range(first, last)) & wanted) for first, last in zip(*sides, strict=True)]
        for sides in zip(windows.char_starts.tolist(), windows.char_ends.tolist(), strict=True)
    ]
    for (start, stop), there, window, null in zip(labels.tolist(), inside, held, windows.cls_index, strict=True):
        assert there == (sum(window) == total > 0)
        if not there:
            assert [start, stop] == [null, null] or total == 0
            continue
        assert window[start]
        assert window[stop]
        assert not any(window[:start])
        assert not any(window[stop + 1 :])


def test_emoji_of_several_tokens_are_held_whole() -> None:
    """run_qa's rule would begin with the last of their bytes, and end with the first."""
    context = "so 🙂 it is"
    row = {"id": "q", "question": "how", "context": context, "answers": {"text": ["🙂"], "answer_start": [3]}}
    tokenizer = TOKENIZERS["roberta"]
    windows, spans = ours(tokenizer, [row])
    ((start, stop),) = span_labels(windows, spans, "error")[0].tolist()
    assert stop > start
    assert tokenizer.decode(windows.input_ids[0][start : stop + 1]).strip() == "🙂"


def test_the_null_token_comes_first_of_cls_bos_and_the_first_token() -> None:
    places = {kind: ours(tokenizer, ROWS[:3])[0] for kind, tokenizer in TOKENIZERS.items()}
    assert not places["bert"].cls_index.any()
    assert not places["roberta"].cls_index.any()
    assert not places["gpt2"].cls_index.any()
    assert (places["xlnet"].cls_index == places["xlnet"].input_ids.lengths - 1).all()
    both = cls_last()  # begins with BOS
    both.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[MASK] $A [CLS]",
        pair="[MASK] $A [SEP] $B [CLS]",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3), ("[MASK]", 4)],
    )
    both.bos_token = "[MASK]"
    windows, _ = ours(both, ROWS[:3])
    assert (windows.cls_index == windows.input_ids.lengths - 1).all()
    # a beginning of the text that the user wrote
    row = {**ROWS[0], "question": "what <s> is this"}
    windows, _ = ours(TOKENIZERS["gpt2"], [row])
    assert windows.cls_index.tolist() == [ids.tolist().index(0) for ids in windows.input_ids]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_padding_moves_places_along(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    windows, spans = ours(tokenizer, ROWS[:12])
    labels, _ = span_labels(windows, spans, "error")
    labels[3] = -100
    names = ("input_ids", "cls_index", "char_starts", "char_ends")
    features = [{**{name: getattr(windows, name)[at] for name in names}, "labels": labels[at]} for at in range(12)]
    batch = place_spans(pad(features, tokenizer, pad_to_multiple_of=64), features)
    for at, real in enumerate(batch["attention_mask"].bool()):
        for name in ("char_starts", "char_ends"):
            assert batch[name][at][real].tolist() == features[at][name].tolist()
            assert (batch[name][at][~real] == -100).all()
        tokens = real.nonzero()[:, 0]
        assert batch["cls_index"][at] == tokens[windows.cls_index[at]]
        for name, label in zip(("start_positions", "end_positions"), labels[at], strict=True):
            assert batch[name][at] == (-100 if at == 3 else tokens[label])


@pytest.mark.parametrize(("stride", "room"), [(12, 22), (33, 11)])
def test_long_questions_are_cut_and_counted(stride: int, room: int) -> None:
    # 45 tokens beside the special ones: a question has at most half of them, and leaves one more than the stride
    tokenizer, context = TOKENIZERS["bert"], " ".join(texts()[:3])
    long, short = " ".join(texts()[4:8]), "what"
    windows = ContextWindows(tokenizer, 48, stride)([long, short], [context, context])
    whole = len(tokenizer(long, add_special_tokens=False)["input_ids"])
    assert windows.question_cut.tolist() == [whole - room, 0]
    assert windows.tokens_cut.sum() == whole - room
    assert windows.input_ids.lengths.max() == 48
    assert (windows.size[windows.row == 0] <= 45 - room).all()
    # nothing of the context is lost
    for row in range(2):
        edges = zip(windows.first[windows.row == row], windows.size[windows.row == row], strict=True)
        covered = {at for first, size in edges for at in range(first, first + size)}
        assert covered == set(range(len(tokenizer(context, add_special_tokens=False)["input_ids"])))


def test_no_limit_makes_one_window_and_an_empty_context_one_without_tokens() -> None:
    windows, _ = ours(TOKENIZERS["bert"], ROWS, None)
    assert windows.row.tolist() == list(range(len(ROWS)))
    empty = ContextWindows(TOKENIZERS["bert"], 48, 12)(["what", "what"], ["", "a card"])
    assert empty.size.tolist()[0] == 0
    assert (empty.char_starts[0] == -1).all()


@pytest.mark.parametrize("stride", [-1, 34, 100])
def test_a_stride_without_room_is_named(stride: int) -> None:
    with pytest.raises(
        UserError, match=f"doc_stride {stride} must be from 0 to 33: max_seq_length 48 leaves 45 tokens"
    ):
        ContextWindows(TOKENIZERS["bert"], 48, stride)
    ContextWindows(TOKENIZERS["bert"], 48, 33)


def test_answers_that_the_tokenizer_drops_are_named() -> None:
    row = {
        "id": "q",
        "question": "how",
        "context": "so \u200b it",
        "answers": {"text": ["\u200b"], "answer_start": [3]},
    }
    windows, spans = ours(TOKENIZERS["bert"], [ROWS[0], row])
    with pytest.raises(RowError, match="row 2, the answer consists of characters that the tokenizer drops"):
        span_labels(windows, spans, "error")
    labels, inside = span_labels(windows, spans, "drop")
    assert spans.state.tolist()[1] == State.LOST
    assert (labels[windows.row == 1] == -100).all()
    assert not inside[windows.row == 1].any()


def test_windows_without_the_answer_are_chosen_by_row_alone() -> None:
    rng = np.random.default_rng(0)
    row = np.repeat(np.arange(400), rng.integers(1, 9, 400))
    inside = rng.random(len(row)) < 0.3
    keys = [f"key {number}" for number in range(400)]
    answered = np.bincount(row, weights=inside) > 0
    for ratio in (0.0, 0.5, 1.0, 1.7, 100.0):
        kept = windows_to_keep(row, inside, keys, ratio)
        assert kept[inside].all()
        assert kept[~answered[row]].all()  # what cannot be answered keeps all
        there, positive = (np.bincount(row, weights=each)[answered] for each in (kept & ~inside, inside))
        at_hand = np.bincount(row, weights=~inside)[answered]
        assert (there <= np.minimum(at_hand, np.ceil(ratio * positive))).all()
        assert (there >= np.minimum(at_hand, np.floor(ratio * positive))).all()
        # other rows around it change nothing
        some = np.isin(row, [3, 77, 200])
        again = windows_to_keep(
            np.searchsorted([3, 77, 200], row[some]), inside[some], [keys[3], keys[77], keys[200]], ratio
        )
        assert (again == kept[some]).all()
    enough = answered & (np.bincount(row, weights=~inside) >= 3)
    kept = np.bincount(row, weights=windows_to_keep(row, inside, keys, 0.5) & ~inside)[enough].sum()
    assert kept == pytest.approx(0.5 * np.bincount(row, weights=inside)[enough].sum(), rel=0.15)
