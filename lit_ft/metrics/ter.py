"""Translation edit rate of a corpus, by sacrebleu."""

from lit_ft.metrics.sacrebleu_scores import SacreBleuMetric
from lit_ft.metrics.text_sums import FRACTION


class Ter(SacreBleuMetric):
    """sacrebleu's `ter`: edits, shifts of phrases among them, for each 100 words of reference; lower is better.

    Much slower than the other metrics on long texts.

    Args:
        normalized: divide punctuation from words, and the like.
        no_punct: leave punctuation out.
        asian_support: do so with East Asian characters, too, where one of the two above is on.
        case_sensitive: compare with case.
    """

    higher_is_better = False
    kind = "TER"
    names = ("ter",)

    def __init__(
        self,
        normalized: bool = False,
        no_punct: bool = False,
        asian_support: bool = False,
        case_sensitive: bool = False,
    ) -> None:
        # the length of several references is their mean, which is not whole
        super().__init__(
            2, FRACTION, normalized=normalized, no_punct=no_punct, asian_support=asian_support,
            case_sensitive=case_sensitive,
        )  # fmt: skip
