"""How long generated texts are."""

from collections.abc import Sequence
from typing import Any, Literal

from lit_ft.metrics.text_sums import TextMetric
from lit_ft.metrics.word_rules import unicode_words


class GeneratedLength(TextMetric):
    """The mean length of generated texts: `generated_length`.

    Tokens are counted before they become text, the end among them, padding and what the decoder begins with not: where
    the mean comes near `max_new_tokens`, texts were cut. transformers' scripts also count the token that the decoder
    begins with where it is not the one for padding.

    Args:
        unit: `tokens`, `words` (of any script; each character of Chinese, Japanese or Thai is one) or `characters`.
    """

    higher_is_better = None
    names = ("generated_length",)

    def __init__(self, unit: Literal["tokens", "words", "characters"] = "tokens") -> None:
        super().__init__(1, unit=1)
        self.counted = unit

    def facts(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]], lengths: Sequence[int] | None
    ) -> Sequence[Any]:
        """Returns the length of each row."""
        if self.counted == "words":
            lengths = [len(unicode_words(text)) for text in predictions]
        elif self.counted == "characters":
            lengths = [len(text) for text in predictions]
        if lengths is None or len(lengths) != len(predictions):
            raise ValueError("generated_length counts tokens: hand over how many there are of each (lengths)")
        return [[length] for length in lengths]

    def scores(self, sums: list[Any], rows: int) -> list[float]:
        """Returns the mean."""
        return [sums[0] / rows]
