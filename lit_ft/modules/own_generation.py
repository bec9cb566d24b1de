"""Language models that write: the options of `generate` are part of the model, and travel in its checkpoints."""

import json
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from lit_ft.modules.language_modeling import LanguageModelingModule
from lit_ft.ops.building.checkpoint_extras import KEY
from lit_ft.ops.decoding.generation import check_generation


class GeneratingModule(LanguageModelingModule):
    """A language model with a way of generating of its own.

    Args:
        generation: options of transformers' `generate`, such as `{max_new_tokens: 64, do_sample: true}`; they become
            part of the model and of its exported folder.
        kwargs: options of every module.
    """

    _generation_of_checkpoint: str | None = None

    def __init__(self, *, generation: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._generation = check_generation(generation)

    def build(self) -> PreTrainedModel:
        """Builds the model with the checkpoint's own way of generating; see the base."""
        model = super().build()
        if self._generation_of_checkpoint is not None:
            model.generation_config = GenerationConfig.from_dict(json.loads(self._generation_of_checkpoint))
        return model

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the model's way of generating; see the base."""
        super().on_save_checkpoint(checkpoint)
        assert self.model is not None
        checkpoint[KEY]["generation"] = self.model.generation_config.to_json_string(use_diff=False)

    def restore(self, extras: dict[str, Any]) -> None:
        """Takes the checkpoint's way of generating, too; see the base."""
        super().restore(extras)
        self._generation_of_checkpoint = extras["generation"]
