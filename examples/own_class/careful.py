"""A class of your own, named in YAML by its path: `careful.yaml` beside this file says how to run it."""

from typing import Any

from lit_ft import TextClassificationModule
from lit_ft.data.batching.merging import Part


class CarefulModule(TextClassificationModule):
    """Passes a message on to a person where no label is likely enough.

    Args:
        unsure_below: probability below which the label is `unsure`.
        kwargs: options of `TextClassificationModule`.
    """

    def __init__(self, *, unsure_below: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the prediction, with `unsure` in the place of a label that is not likely enough."""
        written = super().prediction(row)
        if written["score"] < self.hparams["unsure_below"]:
            written["predicted_label"] = "unsure"
        return written
