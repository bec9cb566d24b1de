"""BLEU of a corpus, by sacrebleu."""

from typing import Literal

from lit_ft.errors import UserError
from lit_ft.metrics.sacrebleu_scores import SacreBleuMetric


class Bleu(SacreBleuMetric):
    """sacrebleu's `bleu`, from 0 to 100; figures of other tools or tokenizers do not compare with it.

    Args:
        tokenizer: `13a` = of European languages, `intl` = all punctuation of Unicode, `zh` = of Chinese, `char` = each
            character, `none` = the texts are divided by spaces already; `ja-mecab` and `ko-mecab` need packages.
        lowercase: compare without case.
        smooth_method: what becomes of n-grams without a match: `exp`, `floor`, `add-k` or `none`.
        smooth_value: of `floor` (default 0.1) and `add-k` (default 1).
        max_ngram_order: longest n-grams, in words.
        effective_order: leave out n-grams longer than all predictions.
    """

    kind = "BLEU"
    names = ("bleu",)

    def __init__(
        self,
        tokenizer: Literal["13a", "intl", "zh", "char", "none", "ja-mecab", "ko-mecab"] = "13a",
        lowercase: bool = False,
        smooth_method: Literal["exp", "floor", "add-k", "none"] = "exp",
        smooth_value: float | None = None,
        max_ngram_order: int = 4,
        effective_order: bool = False,
    ) -> None:
        if max_ngram_order < 1:
            raise UserError(f"bleu: max_ngram_order is {max_ngram_order}; it must be at least 1")
        if smooth_value is not None and smooth_method not in ("floor", "add-k"):
            raise UserError(f"bleu: smooth_value is for smooth_method floor and add-k, not for {smooth_method}")
        try:
            super().__init__(
                2 + 2 * max_ngram_order, tokenize=tokenizer, lowercase=lowercase, smooth_method=smooth_method,
                smooth_value=smooth_value, max_ngram_order=max_ngram_order, effective_order=effective_order,
                force=True,  # its warning about texts that look tokenized counts a batch, not the corpus
            )  # fmt: skip
        except RuntimeError as error:  # how sacrebleu says that a tokenizer's package is missing
            raise UserError(f"bleu: tokenizer {tokenizer}: {' '.join(str(error).split())}") from error
