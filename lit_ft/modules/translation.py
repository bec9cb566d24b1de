"""Translation: any AutoModelForSeq2SeqLM on texts and their translations, scored by BLEU and chrF."""

from lit_ft.modules.seq2seq import Seq2SeqModule


class TranslationModule(Seq2SeqModule):
    """Translates texts; batches are those of `TranslationDataModule`. All else is as in `Seq2SeqModule`."""

    pipeline_tag = "translation"
    usual_metrics = ("bleu", "chrf", "generated_length")
