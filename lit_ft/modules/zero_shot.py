"""Text classification without training: a model of natural language inference says which label a text entails."""

from typing import Any

from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from lit_ft.errors import UserError, did_you_mean
from lit_ft.modules.base import Batch
from lit_ft.modules.candidate_labels import CandidateLabelModule
from lit_ft.ops.vectors import one_below_the_other


class ZeroShotModule(CandidateLabelModule):
    """Sorts texts under `candidate_labels`; batches are those of `ZeroShotDataModule`. It is never trained.

    Predictions and scores are those of transformers' pipeline `zero-shot-classification`.

    Args:
        multi_label: score each label by itself, entailment against contradiction, instead of one against another.
        entailment_label: name of the model's label for entailment. Default: the one that begins with `entail`.
        kwargs: options of every module.
    """

    auto_class = AutoModelForSequenceClassification
    pipeline_tag = "zero-shot-classification"
    instead = "TextClassificationModule learns from labelled rows, also of natural language inference"
    card_example = """from transformers import pipeline

classify = pipeline("zero-shot-classification", "this/folder")
classify("a text", candidate_labels=["one label", "another"])"""

    def __init__(self, *, multi_label: bool = False, entailment_label: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def build(self) -> PreTrainedModel:
        """Builds the model, and looks for its label of entailment; see the base."""
        model = super().build()
        _ = self.places
        return model

    @property
    def places(self) -> tuple[int, int]:
        """Ids of entailment and of contradiction among the model's labels.

        Raises:
            UserError: the model is none of natural language inference.
        """
        assert self.model is not None
        names = {str(name): int(at) for name, at in self.model.config.label2id.items()}
        given = self.hparams["entailment_label"]
        if given is not None and given not in names:
            raise UserError(
                f"entailment_label {given!r}: the model's labels are {[*names]}{did_you_mean(given, names)}"
            )
        found = [at for name, at in names.items() if name == (given or name) and (given or _entails(name))]
        if not found or len(names) < 2:
            raise UserError(
                f"the model's labels {[*names]} say nothing of entailment: take a model of natural language inference, "
                "such as facebook/bart-large-mnli, or set entailment_label"
            )
        # as transformers' pipeline has it, whatever the labels between are called
        return found[0], len(names) - 1 if found[0] == 0 else 0

    def model_inputs(self, batch: Batch) -> Batch:
        """Lays all pairs one below the other; see the base."""
        return one_below_the_other(super().model_inputs(batch))

    def outputs(self, batch: Batch) -> Tensor:
        """Returns the probability of each label, `[batch, labels]`; see the base."""
        size = batch["input_ids"].shape[1]
        logits: Tensor = super().outputs(batch).logits.float().unflatten(0, (-1, size))
        entails, contradicts = self.places
        if self.hparams["multi_label"] or size == 1:
            return logits[..., [contradicts, entails]].softmax(-1)[..., 1]
        return logits[..., entails].softmax(-1)


def _entails(name: str) -> bool:
    return name.lower().startswith("entail")
