"""What modules share whose head has names: where they come from, and that a trained head keeps them."""

from abc import abstractmethod
from typing import Any

from transformers import PreTrainedConfig

from lit_ft.errors import UserError
from lit_ft.modules.base import Description, TransformerModule
from lit_ft.ops.building.models import check_head, head_of, label_config, pretrained_labels
from lit_ft.ranges import BELOW_ONE, check_ranges


class LabelledModule(TransformerModule):
    """A head that knows labels by name: the data's, those given, or those of the pretrained head.

    Args:
        label_names: names of the labels in the order of their ids, where no data module of ours gives them.
        label_smoothing_factor: share of the target that is spread over all labels.
        kwargs: options of every module.
    """

    def __init__(
        self, *, label_names: list[str] | None = None, label_smoothing_factor: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_ranges(self.hparams, {"label_smoothing_factor": BELOW_ONE})
        if label_names is not None:
            self.description = self.describe_names(label_names, None)

    @abstractmethod
    def describe_names(self, names: list[str], config: PreTrainedConfig | None) -> Description:
        """Returns what names of labels say to the module; `config` is that of the head that they are read off."""

    def setup(self, stage: str) -> None:
        """Checks the pretrained head by name before any weights are loaded; see the base."""
        super().setup(stage)
        names = self.named(self.description)["labels"]
        check_head(self.trained_config, names, head_of(self.auto_class), self.hparams["ignore_mismatched_sizes"])

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Names the labels in the configuration."""
        description |= self.named(description)
        return label_config(description["labels"])

    def named(self, description: Description) -> Description:
        """Adds the labels of a pretrained head where nobody has named them.

        Raises:
            UserError: it has none.
        """
        if "labels" in description:
            return description
        config = self.hf_config or self.source.config()
        names = pretrained_labels(config, head_of(self.auto_class))
        if names is None:
            raise UserError("nobody has named the labels: pass label_names=[...] to the module, or use our data module")
        return {**description, **self.describe_names(names, config)}
