"""Translation data: nested columns, two columns, or parallel text files (after run_translation)."""

from typing import Any

from lit_ft.datamodules.seq2seq import Seq2SeqDataModule
from lit_ft.errors import UserError


class TranslationDataModule(Seq2SeqDataModule):
    """Texts and their translations -> batches of `Seq2SeqDataModule`.

    Rows hold a nested column `translation` with a text for each language, a column for each, or stand line by line in
    two text files: `train_file: [x.en, x.de]`.

    Args:
        source_lang: language that is translated from: a code of the tokenizer's where it is multilingual (`en_XX`,
            `eng_Latn`), which names the column or file, too (`ro_RO` is `ro`).
        target_lang: language that is translated into.
        kwargs: options of every data module of pairs.

    Raises:
        UserError: a language is missing or unknown, or the rows do not fit.
    """

    def __init__(self, *, source_lang: str = "", target_lang: str = "", **kwargs: Any) -> None:
        super().__init__(source_lang=source_lang or None, target_lang=target_lang or None, **kwargs)
        for option, code in (("source_lang", source_lang), ("target_lang", target_lang)):
            if not code:
                raise UserError(f"translation needs {option}: a code of the tokenizer's, or what the column is called")
