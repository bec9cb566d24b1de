"""Summarization: any AutoModelForSeq2SeqLM on documents and their summaries, scored by ROUGE."""

from lit_ft.modules.seq2seq import Seq2SeqModule


class SummarizationModule(Seq2SeqModule):
    """Summarizes texts; batches are those of `SummarizationDataModule`. All else is as in `Seq2SeqModule`."""

    pipeline_tag = "summarization"
    usual_metrics = ("rouge", "generated_length")
