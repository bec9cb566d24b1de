"""Multiple choice: any AutoModelForMultipleChoice on rows with any number of choices."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForMultipleChoice

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.parts import knowing, stacked, taken_apart
from lit_ft.data.choices.rows import ChoiceLabels, read_choices
from lit_ft.metrics.binned import CalibrationError
from lit_ft.metrics.multiple_choice import ChoiceAccuracy, accuracy_names
from lit_ft.modules.base import Batch, Description, TransformerModule
from lit_ft.ops.losses.classification import choice_loss, labelled, score_losses
from lit_ft.ranges import BELOW_ONE, check_ranges


class MultipleChoiceModule(TransformerModule):
    """Chooses; batches are those of `MultipleChoiceDataModule` or any `[batch, choices, seq]` with the same names.

    Choices whose `attention_mask` is all zeros are missing: they take no part in loss, scores and predictions.

    Args:
        label_smoothing_factor: share of the target that is spread over all choices of a row.
        kwargs: options of every module.
    """

    auto_class = AutoModelForMultipleChoice
    pipeline_tag = "multiple-choice"
    card_example = """import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this/folder")
model = AutoModelForMultipleChoice.from_pretrained("this/folder").eval()
first, choices = "a context", ["a question and a choice", "the question and another choice"]
inputs = tokenizer([first] * len(choices), choices, padding=True, return_tensors="pt")
with torch.no_grad():
    scores = model(**{name: value[None] for name, value in inputs.items()}).logits.softmax(-1)"""

    def __init__(self, *, label_smoothing_factor: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_ranges(self.hparams, {"label_smoothing_factor": BELOW_ONE})

    def text_sample(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """The text is each of two choices; see the base."""
        return {name: value[:, None].expand(-1, 2, -1) for name, value in tokens.items()}

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy over the choices of each row; see the base."""
        real = present(batch, outputs.logits)
        return choice_loss(outputs.logits, batch["labels"], real, self.hparams["label_smoothing_factor"])

    def decode(self, outputs: Any, batch: Batch) -> list[Part]:
        """Takes the probabilities `[choices]` of each row, its number of choices, its label and what it was asked."""
        real = present(batch, outputs.logits)
        scores = outputs.logits.float().masked_fill(~real, -torch.inf).softmax(-1)
        known = {"label": batch.get("labels"), "info": batch.get("info")}
        return taken_apart(len(scores), scores=scores, choices=real.sum(1), **known)

    def metrics(self, description: Description, stage: str) -> tuple[ChoiceAccuracy, CalibrationError]:
        """Accuracies, and how far confidence is off."""
        counts = description.get("choice_counts", [])
        return ChoiceAccuracy(counts).to(self.device), CalibrationError().to(self.device)

    def update(self, metrics: tuple[ChoiceAccuracy, CalibrationError], rows: list[Part]) -> None:
        """Scores the labelled rows; see the base."""
        rows = knowing(rows, "label")
        if (found := stacked(rows, "label", "choices")) is None:
            return
        labels, choices = found
        scored, scores = labelled(labels), _scores(rows)
        accuracy, calibration = metrics
        accuracy.update(scores[scored], labels[scored], choices[scored])
        calibration.update(scores[scored], labels[scored])

    def compute(self, metrics: tuple[ChoiceAccuracy, CalibrationError]) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        accuracy, calibration = metrics
        return {**accuracy.compute(), "calibration_error": calibration.compute()}

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return ["accuracy", *accuracy_names(description.get("choice_counts", [])), "calibration_error"]

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """The logarithmic loss of each row; see the base."""
        found = stacked(rows, "label")
        return None if found is None else score_losses(_scores(rows), *found)

    def said(self, row: Part) -> str:
        """The choice, and its probability; see the base."""
        best = int(row["scores"].argmax())
        return f"choice {best + 1} ({float(row['scores'][best]):.1%})"

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the choice by number, as labels are written and as text, and the probability of each choice."""
        scores = row["scores"][: int(row["choices"])].tolist()
        best = max(range(len(scores)), key=scores.__getitem__)
        made: dict[str, Any] = {"predicted_index": best, "score": scores[best], "scores": scores}
        known = self.description
        if not row["info"] or not set(known.get("choice_columns", [""])) <= row["info"].keys():
            return made
        columns = known["choice_columns"]
        (choices,) = read_choices({name: [row["info"][name]] for name in columns}, columns)
        made |= {"predicted_index": choices.places[best], "predicted_choice": choices.texts[best]}
        if known.get("label_kind") not in (None, "text"):
            labels = ChoiceLabels(known["label_column"], known["label_kind"], known["first_label"])
            made["predicted_label"] = labels.said(choices.places[best], choices)
        return {**made, "scores": choices.spread(scores)}


def _scores(rows: list[Part]) -> Tensor:
    """Returns the probabilities of rows that differ in their number of choices, `[rows, choices]`."""
    return pad_sequence([row["scores"] for row in rows], batch_first=True)


def present(batch: Batch, logits: Tensor) -> Tensor:
    """Returns which choices a row has, `[batch, choices]`."""
    mask = batch.get("attention_mask")
    return torch.ones_like(logits, dtype=torch.bool) if mask is None else mask.bool().any(-1)
