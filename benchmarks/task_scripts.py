"""What run_qa.py, run_swag.py, run_ner.py and run_translation.py make of rows: features, and the collators they use."""

from itertools import chain
from typing import Any

Columns = dict[str, list[Any]]


def question_features(examples: Columns, tokenizer: Any, longest: int, padded: bool, stride: int) -> Any:
    """Makes windows and labels as run_qa does; `padded` is its default, `pad_to_max_length`.

    Args:
        examples: `question`, `context` and `answers` of some rows.
        tokenizer: a fast one.
        longest: most tokens of a window.
        padded: pad each window to it.
        stride: tokens that windows have in common.
    """
    pad_on_right = tokenizer.padding_side == "right"
    asked = [question.lstrip() for question in examples["question"]]
    pairs = (asked, examples["context"]) if pad_on_right else (examples["context"], asked)
    features = tokenizer(
        *pairs,
        truncation="only_second" if pad_on_right else "only_first",
        max_length=longest,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length" if padded else False,
    )
    owners, offsets = features.pop("overflow_to_sample_mapping"), features.pop("offset_mapping")
    features["start_positions"], features["end_positions"] = [], []
    for number, characters in enumerate(offsets):
        ids, context = features["input_ids"][number], 1 if pad_on_right else 0
        null = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
        answers, of_text = examples["answers"][owners[number]], features.sequence_ids(number)
        first, last = of_text.index(context), len(of_text) - 1 - of_text[::-1].index(context)
        start = answers["answer_start"][0] if answers["answer_start"] else -1
        end = start + len(answers["text"][0]) if answers["text"] else -1
        if start < 0 or characters[first][0] > start or characters[last][1] < end:
            first = last = null
        else:
            first = max(place for place in range(first, last + 1) if characters[place][0] <= start)
            last = min(place for place in range(first, last + 1) if characters[place][1] >= end)
        features["start_positions"].append(first)
        features["end_positions"].append(last)
    return features


def choice_features(examples: Columns, tokenizer: Any, longest: int) -> Any:
    """Makes pairs of a scene and each of its four ways as run_swag does."""
    names = [f"ending{number}" for number in range(4)]
    first = list(chain.from_iterable([text] * len(names) for text in examples["sent1"]))
    ways = zip(examples["sent2"], *(examples[name] for name in names), strict=True)
    second = [f"{start} {ending}" for start, *endings in ways for ending in endings]
    flat = tokenizer(first, second, max_length=longest, padding=False, truncation=True)
    made = {name: [cells[at : at + 4] for at in range(0, len(cells), 4)] for name, cells in flat.items()}
    return {**made, "labels": examples["label"]}


def tagged_features(examples: Columns, tokenizer: Any, longest: int, label2id: dict[str, int]) -> Any:
    """Makes tokens of words, labelled at the first of each word, as run_ner does."""
    features = tokenizer(
        examples["tokens"], padding=False, truncation=True, max_length=longest, is_split_into_words=True
    )
    features["labels"] = []
    for row, tags in enumerate(examples["ner_tags"]):
        previous, labels = None, []
        for word in features.word_ids(batch_index=row):
            labels.append(-100 if word is None or word == previous else label2id[tags[word]])
            previous = word
        features["labels"].append(labels)
    return features


def pair_features(examples: Columns, tokenizer: Any, longest: int) -> Any:
    """Makes sources and targets as run_translation does."""
    features = tokenizer(examples["source"], max_length=longest, padding=False, truncation=True)
    targets = tokenizer(text_target=examples["target"], max_length=longest, padding=False, truncation=True)
    # the Trainer would leave segments out, which no encoder-decoder reads
    return {name: features[name] for name in ("input_ids", "attention_mask")} | {"labels": targets["input_ids"]}


def question_collator(tokenizer: Any, padded: bool) -> Any:
    """Returns run_qa's collator."""
    from transformers import DataCollatorWithPadding, default_data_collator

    return default_data_collator if padded else DataCollatorWithPadding(tokenizer)


def choice_collator(tokenizer: Any) -> Any:
    """Returns run_swag's collator."""
    from transformers import DataCollatorForMultipleChoice

    return DataCollatorForMultipleChoice(tokenizer)


def tagged_collator(tokenizer: Any) -> Any:
    """Returns run_ner's collator."""
    from transformers import DataCollatorForTokenClassification

    return DataCollatorForTokenClassification(tokenizer)


def pair_collator(tokenizer: Any) -> Any:
    """Returns run_translation's collator; the model makes the decoder's inputs of the labels."""
    from transformers import DataCollatorForSeq2Seq

    return DataCollatorForSeq2Seq(tokenizer)


def without_padding(model: Any) -> Any:
    """Takes padding out of the running for starts and ends of answers, as lit_ft does; transformers lets it take part.

    Args:
        model: of `AutoModelForQuestionAnswering`, with a layer `qa_outputs`.
    """
    import torch

    masks = []

    def note(module: Any, arguments: Any, keywords: dict[str, Any]) -> None:
        masks[:] = [keywords["attention_mask"]]

    def hide(module: Any, inputs: Any, logits: Any) -> Any:
        return logits.masked_fill(masks[0][..., None] == 0, torch.finfo(logits.dtype).min)

    model.register_forward_pre_hook(note, with_kwargs=True)
    model.qa_outputs.register_forward_hook(hide)
    return model
