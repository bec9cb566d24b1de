"""Made-up rows of questions, choices, tagged words and pairs of texts, as long as those of real data sets."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from workload import MESSAGES, made_up

Row = dict[str, Any]
CHOICES = 4
QUESTIONS_PER_CONTEXT = 5
TYPES = ("LOC", "MISC", "ORG", "PER")
IN_ENTITIES = 0.17
"""Share of the words."""


def texts(count: int, seed: int, mean: float, spread: float, longest: int = 700) -> Iterator[str]:
    """Yields texts of words of the packaged sample, log-normal in length: see `workload.made_up`."""
    return (text for text, _ in made_up(count, seed, replace(MESSAGES, mean=mean, spread=spread, longest=longest)))


def question_rows(count: int, seed: int) -> Iterator[Row]:
    """Yields questions about contexts as long as SQuAD's (174 tokens together); five share a context, far apart."""
    generator = np.random.default_rng(seed)
    contexts = list(texts(-(-count // QUESTIONS_PER_CONTEXT), seed, 127, 0.41))
    order = generator.permutation(np.arange(count) // QUESTIONS_PER_CONTEXT).tolist()
    for number, (question, which) in enumerate(zip(texts(count, seed + 1, 9.5, 0.35, 40), order, strict=True)):
        words = contexts[which].split(" ")
        first = int(generator.integers(len(words)))
        answer = " ".join(words[first : first + 1 + int(generator.poisson(2.2))])
        start = len(" ".join(words[:first])) + (first > 0)
        answers = {"text": [answer], "answer_start": [start]}
        yield {"id": str(number), "question": question, "context": contexts[which], "answers": answers}


def choice_rows(count: int, seed: int) -> Iterator[Row]:
    """Yields scenes that go on in four ways, as long as SWAG's (30 tokens a way)."""
    labels = np.random.default_rng(seed).integers(CHOICES, size=count).tolist()
    first, second = texts(count, seed, 11.5, 0.35, 60), texts(count, seed + 1, 1.7, 0.5, 6)
    endings = texts(CHOICES * count, seed + 2, 8, 0.43, 40)
    for label, sent1, sent2 in zip(labels, first, second, strict=True):
        ways = {f"ending{number}": text for number, text in enumerate(islice(endings, CHOICES))}
        yield {"sent1": sent1, "sent2": sent2, **ways, "label": label}


def tagged_rows(count: int, seed: int) -> Iterator[Row]:
    """Yields words with IOB2 tags of four types, as long as CoNLL-2003's sentences (19 tokens)."""
    generator = np.random.default_rng(seed)
    for text in texts(count, seed, 14.5, 0.8, 80):
        tokens = text.split(" ")
        tags: list[str] = []
        while len(tags) < len(tokens):
            tags += ["O"] * int(generator.geometric(IN_ENTITIES / 1.5) - 1)
            kind, inside = TYPES[int(generator.integers(len(TYPES)))], int(generator.poisson(0.5))
            tags += [f"B-{kind}"] + [f"I-{kind}"] * inside
        yield {"tokens": tokens, "ner_tags": tags[: len(tokens)]}


def pair_rows(count: int, seed: int) -> Iterator[Row]:
    """Yields sources and targets as long as sentences of news (27 tokens a side)."""
    for source, target in zip(texts(count, seed, 22, 0.6, 120), texts(count, seed + 1, 22, 0.6, 120), strict=True):
        yield {"source": source, "target": target}


def write_task_rows(path: Path, made: Callable[[int, int], Iterator[Row]], count: int, seed: int) -> None:
    """Writes JSON lines, a pure function of their number and the seed."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in made(count, seed))
