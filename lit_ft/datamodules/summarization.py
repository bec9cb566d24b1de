"""Summarization data: documents and their summaries (after run_summarization)."""

from typing import Any

from lit_ft.data.reading.columns import Names
from lit_ft.datamodules.seq2seq import Seq2SeqDataModule


class SummarizationDataModule(Seq2SeqDataModule):
    """Texts and their summaries -> batches of `Seq2SeqDataModule`.

    Args:
        text_column: column of the text. Default: `document`, `article`, `dialogue` or `text`, whichever is there.
        summary_column: column of the summary; several hold a reference each. `summary` is also `summary1`,
            `summary2`, ... Default: `summary` or `highlights`.
        lang: language code of text and summary, for multilingual tokenizers.
        kwargs: options of every data module of pairs.
    """

    language_options = ("lang", "lang")

    def __init__(
        self, *, text_column: str = "", summary_column: Names = "", lang: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(
            source_column_name=text_column,
            target_column_names=summary_column,
            source_lang=lang,
            target_lang=lang,
            **kwargs,
        )
