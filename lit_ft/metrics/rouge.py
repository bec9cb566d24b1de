"""ROUGE-1, -2, -L and -Lsum, as the package rouge_score has them, of one or several references."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from lit_ft.errors import UserError
from lit_ft.metrics.subsequences import Places, common_length, common_places, places
from lit_ft.metrics.text_sums import TextMetric
from lit_ft.metrics.word_rules import StemmedWords, ascii_words, lines, sentences, unicode_words

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")

Tokenize = Callable[[str], list[str]]

Score = tuple[float, float, float]
"""Precision, recall and F-measure."""


class Rouge(TextMetric):
    """The mean F-measure of rows in percent: `rouge1`, `rouge2`, `rougeL`, `rougeLsum`.

    Of several references each kind takes the one of the best F-measure. run_summarization's figures have the stemmer.

    Args:
        use_stemmer: compare the stems of English words; needs nltk.
        tokenizer: `default` = rouge_score's, for which only a-z and 0-9 are letters; `unicode` = those of any script,
            each character of Chinese, Japanese or Thai by itself.
        split_summaries: for `rougeLsum`, divide a text without newlines into sentences by a rule; `false` = only
            newlines divide, as in rouge_score.
        precision_and_recall: return these, too (`rouge1_precision`, `rouge1_recall` and so on).
    """

    def __init__(
        self,
        use_stemmer: bool = False,
        tokenizer: Literal["default", "unicode"] = "default",
        split_summaries: bool = True,
        precision_and_recall: bool = False,
    ) -> None:
        super().__init__(3 * len(KINDS))
        if use_stemmer and tokenizer == "unicode":
            raise UserError("rouge: use_stemmer is for English words: leave it out, or tokenizer: unicode")
        endings = ("_precision", "_recall", "") if precision_and_recall else ("",)
        self.names = tuple(kind + ending for kind in KINDS for ending in endings)
        self.only_measure = not precision_and_recall
        self.words: Tokenize = unicode_words if tokenizer == "unicode" else ascii_words
        if use_stemmer:
            self.words = StemmedWords()
        self.split: Tokenize = sentences if split_summaries else lines

    def facts(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], lengths: Sequence[int] | None
    ) -> Sequence[Any]:
        """Returns precision, recall and F-measure of each kind and row, `[rows, 12]`."""
        found = []
        for prediction, texts in zip(predictions, references, strict=True):
            ours = Text(prediction, self.words, self.split)
            each = [rouge(ours, Text(text, self.words, self.split)) for text in texts]
            found.append([value for kind in zip(*each, strict=True) for value in max(kind, key=lambda score: score[2])])
        return found

    def scores(self, sums: list[Any], rows: int) -> list[float]:
        """Returns means in percent."""
        return [100 * value / rows for value in (sums[2::3] if self.only_measure else sums)]


@dataclass
class Text:
    """What a text is compared by, each thing found when it is first asked for."""

    text: str
    tokenize: Tokenize
    split: Tokenize

    @cached_property
    def words(self) -> list[str]:
        """All words."""
        return self.tokenize(self.text)

    @cached_property
    def single(self) -> Counter[Any]:
        """How often each word stands there."""
        return Counter(self.words)

    @cached_property
    def pairs(self) -> Counter[Any]:
        """How often each pair of neighbours stands there."""
        return Counter(zip(self.words, self.words[1:], strict=False))

    @cached_property
    def places(self) -> Places:
        """Where each word stands."""
        return places(self.words)

    @cached_property
    def sentences(self) -> list[list[str]]:
        """The words of each sentence."""
        return [self.tokenize(each) for each in self.split(self.text)]

    @cached_property
    def places_by_sentence(self) -> list[tuple[Places, int]]:
        """Where each word of each sentence stands, and how many there are."""
        return [(places(words), len(words)) for words in self.sentences if words]


def rouge(prediction: Text, reference: Text) -> list[Score]:
    """Returns the scores of `KINDS`, from 0 to 1."""
    ours, theirs = len(prediction.words), len(reference.words)
    split = [sum(map(len, text.sentences)) for text in (prediction, reference)]
    longest = common_length(reference.words, prediction.places, ours) if ours and theirs else 0
    return [
        _score(_overlap(prediction.single, reference.single), ours, theirs),
        _score(_overlap(prediction.pairs, reference.pairs), max(ours - 1, 0), max(theirs - 1, 0)),
        _score(longest, ours, theirs),
        _score(_union_hits(prediction, reference), *split),
    ]


def _union_hits(prediction: Text, reference: Text) -> int:
    """Counts words of the reference that are in a longest common subsequence of a sentence of each, none twice."""
    left = [Counter(word for words in text.sentences for word in words) for text in (prediction, reference)]
    hits = 0
    for words in reference.sentences:
        union: set[int] = set()
        for others, width in prediction.places_by_sentence:
            if not others.keys().isdisjoint(words):
                union |= common_places(words, others, width)
        for at in sorted(union):
            if all(counts[words[at]] > 0 for counts in left):
                hits += 1
                for counts in left:
                    counts[words[at]] -= 1
    return hits


def _overlap(ours: Mapping[Any, int], theirs: Mapping[Any, int]) -> int:
    return sum(min(count, theirs[gram]) for gram, count in ours.items() if gram in theirs)


def _score(hits: int, ours: int, theirs: int) -> Score:
    precision, recall = hits / max(ours, 1), hits / max(theirs, 1)
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0
