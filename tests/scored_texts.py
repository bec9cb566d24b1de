"""Texts to score: our own messages and tales, predictions made from them by chance, several references a row."""

import random
from functools import cache
from itertools import zip_longest

from tests.tiny import SAMPLE, texts

ODD = ["", " ", "\n", "...", "—", "北京欢迎你。我们走吧！", "これはペンです。", "&quot;&amp;", "<skipped> a-\nb"]  # noqa: RUF001
WORDS = [
    "naïve", "Über", "北京", "日本語の", "ß", "1,000.5", "3.", "don't", "(hi)", "e-mail", "—", "&lt;", "Привет", "नमस्ते",
    "İstanbul", "running", "relational", "a", "the", "Dr.", "x_y", "fi",
]  # fmt: skip

Rows = tuple[list[str], list[list[str]]]
"""Predictions, and the references of each."""


def changed(text: str, rng: random.Random) -> str:
    """The text with words left out, exchanged and moved; now and then something else altogether."""
    if rng.random() < 0.07:
        return rng.choice([*ODD, text, text.upper()])
    words = [rng.choice([word, word, word, word, word, "", rng.choice(WORDS)]) for word in text.split(" ")]
    words = [word for word in words if word]
    start = rng.randrange(len(words) + 1)
    part = words[start : start + 3]
    del words[start : start + 3]
    at = rng.randrange(len(words) + 1)
    words[at:at] = part
    return " ".join(words).replace(". ", rng.choice([". ", ".\n"])) + rng.choice(["", "", "\n", "  "])


@cache
def scored_rows(several: bool, seed: int = 0) -> Rows:
    """520 rows; with `several` each has one to three references, else one."""
    rng = random.Random(seed)
    tales = (SAMPLE / "tales_train.txt").read_text(encoding="utf-8").split("\n\n")
    sources = [*texts(), *(" ".join(tale.split("\n"))[:300] for tale in tales)]
    sources = [rng.choice(sources) for _ in range(520)]
    references = [[text, *(changed(text, rng) for _ in range(rng.randint(0, 2) * several))] for text in sources]
    for row in rng.sample(range(len(references)), 10):
        references[row] = [rng.choice(ODD) for _ in references[row]]
    return [changed(rng.choice(each), rng) for each in references], references


def streams(references: list[list[str]]) -> list[list[str | None]]:
    """References as sacrebleu takes them: all first ones, all second ones or None, and so on."""
    return [list(each) for each in zip_longest(*references)]
