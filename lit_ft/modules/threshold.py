"""What modules share that decide by a threshold: an option says it, or validation finds it, and the model keeps it."""

import json
import math
from abc import abstractmethod
from typing import Any, ClassVar

from transformers import PreTrainedModel

from lit_ft.modules.base import Description, TransformerModule
from lit_ft.ops.building.checkpoint_extras import KEY
from lit_ft.ops.decoding.thresholds import check_threshold, threshold_of


class ThresholdModule(TransformerModule):
    """A threshold in the model's configuration, which exported folders and checkpoints have, too.

    The metrics of a task have `threshold_to_keep`, the best one for the rows that they were given.
    """

    threshold_option: ClassVar[str]
    """A number; or `auto` = the best one for the first validation set."""
    threshold_key: ClassVar[str]
    """What the configuration calls it."""
    usual_threshold: ClassVar[float]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_threshold(self.threshold_option, self.hparams[self.threshold_option])

    @abstractmethod
    def has_threshold(self, description: Description) -> bool:
        """Says whether there is anything to decide by it."""

    @property
    def threshold(self) -> float:
        """The threshold: by option, else that of the configuration, else the usual one."""
        assert self.model is not None
        given = self.hparams[self.threshold_option]
        return threshold_of(given, self.model.config, self.threshold_key, self.usual_threshold)

    @property
    def known_threshold(self) -> float | None:
        """The threshold, where there is one."""
        return self.threshold if self.has_threshold(self.description) else None

    def searches_threshold(self, description: Description, stage: str) -> bool:
        """Says whether a stage finds the threshold out."""
        automatic = self.hparams[self.threshold_option] == "auto"
        return stage == "val" and automatic and self.has_threshold(description)

    def build(self) -> PreTrainedModel:
        """Builds the model, and notes the threshold in its configuration; see the base."""
        model = super().build()
        self.note_threshold()
        return model

    def note_threshold(self) -> None:
        """Writes the threshold into the configuration, where there is one; the option wins over what is there."""
        if self.model is not None and self.has_threshold(self.description):
            setattr(self.model.config, self.threshold_key, self.threshold)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the checkpoint's threshold: a model that is built already has that of its last epoch; see the base."""
        super().on_load_checkpoint(checkpoint)
        kept = json.loads(checkpoint[KEY]["config"]).get(self.threshold_key)
        if kept is not None and self.model is not None:
            setattr(self.model.config, self.threshold_key, kept)
            self.note_threshold()

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics; keeps the threshold that was found on the first validation set."""
        super().on_validation_epoch_end()
        if (
            self.searches_threshold(self.description, "val")
            and not self.trainer.sanity_checking
            and self.model is not None
        ):
            found = self.set_metrics("val")[0].threshold_to_keep()
            if math.isfinite(found):
                setattr(self.model.config, self.threshold_key, found)
