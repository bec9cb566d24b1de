"""chrF and chrF++ of a corpus, by sacrebleu."""

from lit_ft.errors import UserError
from lit_ft.metrics.sacrebleu_scores import SacreBleuMetric


class Chrf(SacreBleuMetric):
    """sacrebleu's `chrf`, from 0 to 100: n-grams of characters, so that no language needs a tokenizer.

    Args:
        char_order: longest n-grams of characters.
        word_order: longest n-grams of words; 0 = chrF, 2 = chrF++.
        beta: how much more recall counts than precision.
        lowercase: compare without case.
        whitespace: spaces are characters, too.
        eps_smoothing: as other tools do, let n-grams longer than the texts count as a miss.
    """

    kind = "CHRF"
    names = ("chrf",)

    def __init__(
        self,
        char_order: int = 6,
        word_order: int = 0,
        beta: int = 2,
        lowercase: bool = False,
        whitespace: bool = False,
        eps_smoothing: bool = False,
    ) -> None:
        for option, value, least in (("char_order", char_order, 1), ("word_order", word_order, 0), ("beta", beta, 1)):
            if value < least:
                raise UserError(f"chrf: {option} is {value}; it must be at least {least}")
        super().__init__(
            3 * (char_order + word_order), char_order=char_order, word_order=word_order, beta=beta, lowercase=lowercase,
            whitespace=whitespace, eps_smoothing=eps_smoothing,
        )  # fmt: skip
