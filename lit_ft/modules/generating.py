"""Language models that write: a way of generating that travels in checkpoints; when and for which rows it is used."""

import json
from typing import Any

import numpy as np
from lightning.pytorch.callbacks import EarlyStopping
from transformers import GenerationConfig, PreTrainedModel

from lit_ft.data.batching.twins import on_cpu
from lit_ft.data.ordering.spread import spread
from lit_ft.errors import UserError
from lit_ft.metrics.texts import text_metric_names
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.language_modeling import LanguageModelingModule
from lit_ft.ops.building.checkpoint_extras import KEY
from lit_ft.ops.decoding.generation import check_generation, set_generation


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
        if self._generation.get("max_new_tokens") is None:
            self._generation.pop("max_new_tokens", None)  # `null` is nobody's say, not any number of tokens

    def build(self) -> PreTrainedModel:
        """Builds the model with its way of generating, that of a checkpoint or by options; see the base."""
        model = super().build()
        if self._generation_of_checkpoint is not None:
            model.generation_config = GenerationConfig.from_dict(json.loads(self._generation_of_checkpoint))
        self._set_generation(model)
        return model

    def _set_generation(self, model: PreTrainedModel) -> None:
        """Makes the options part of the model."""
        set_generation(model, self._generation)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the model's way of generating; see the base."""
        super().on_save_checkpoint(checkpoint)
        assert self.model is not None
        checkpoint[KEY]["generation"] = self.model.generation_config.to_json_string(use_diff=False)

    def restore(self, extras: dict[str, Any]) -> None:
        """Takes the checkpoint's way of generating, too; see the base."""
        super().restore(extras)
        self._generation_of_checkpoint = extras["generation"]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the checkpoint's way of generating also where the model is built already; see the base."""
        super().on_load_checkpoint(checkpoint)
        self._take_generation(checkpoint[KEY])

    def _take_generation(self, extras: dict[str, Any]) -> None:
        assert self.model is not None
        self.model.generation_config = GenerationConfig.from_dict(json.loads(extras["generation"]))
        self._set_generation(self.model)


class NowAndThenGenerating(GeneratingModule):
    """Reads the hyperparameters `predict_with_generate`, `eval_generate_every_n_epochs` and `max_generate_samples`."""

    _scored_by: dict[str, dict[str, Any]]
    _evaluated: tuple[str, int] = ("", 0)
    _chosen_rows: dict[tuple[Any, ...], Any]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._chosen_rows = {}

    def _evaluate(self, batch: Batch, stage: str, dataloader_idx: int) -> dict[str, Any]:
        self._evaluated = (stage, dataloader_idx)
        return super()._evaluate(batch, stage, dataloader_idx)

    def metrics(self, description: Description, stage: str) -> dict[str, Any]:
        """Begins to count the rows of a set; see the base."""
        self._chosen_rows = {}
        return super().metrics(description, stage)

    @property
    def generates(self) -> bool:
        """Whether this evaluation generates texts."""
        if not self.hparams["predict_with_generate"]:
            return False
        every, trainer = self.hparams["eval_generate_every_n_epochs"], self._trainer
        if trainer is None or trainer.state.fn != "fit" or self._evaluated[0] == "test":
            return True
        epoch = trainer.current_epoch + 1
        return epoch % every == 0 or epoch == trainer.max_epochs or 0 <= trainer.max_steps <= trainer.global_step

    @property
    def leaves_metrics_out(self) -> bool:
        """Whether the last evaluation generated no texts, so that a metric of theirs is not there to choose by."""
        return not self.generates

    def chosen(self, batch: Batch) -> list[int]:
        """Returns for which rows of a batch texts are generated: all, or in validation some, spread over the set."""
        size, most = len(batch["input_ids"]), self.hparams["max_generate_samples"]
        most = None if self._evaluated[0] == "test" else most
        if most is None:
            return list(range(size)) if "row" not in batch else (batch["row"] >= 0).nonzero()[:, 0].tolist()
        if "row" not in batch:  # somebody else's loader: the first ones
            done = self._chosen_rows.get(self._evaluated, 0)
            self._chosen_rows[self._evaluated] = done + size
            return list(range(size))[: max(most - done, 0)]
        return np.flatnonzero(np.isin(on_cpu(batch["row"]).numpy(), self._spread_rows(most))).tolist()

    def _spread_rows(self, most: int) -> Any:
        stage, number = self._evaluated
        kind = {"val": "validation"}.get(stage, stage)
        rows = list(self._datamodule.features[kind].values())[number].row_of_feature
        sanity = "sanity_val" if self.trainer.sanity_checking else stage
        batches = getattr(self.trainer, f"num_{sanity}_batches")[number]
        size = self._datamodule.hparams["eval_batch_size"] or self._datamodule.hparams["batch_size"]
        key = (stage, number, batches, len(rows))
        if key not in self._chosen_rows:
            self._chosen_rows[key] = spread(rows, most, self.trainer.world_size, int(batches) * size)
        return self._chosen_rows[key]

    def check_monitored(self) -> None:
        """Looks for those that stop a run by texts that are not always there, too; see the base."""
        super().check_monitored()
        texts = tuple(f"_{name}" for name in text_metric_names(self._scored_by))
        for callback in self.trainer.callbacks if self.hparams["eval_generate_every_n_epochs"] > 1 else ():  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and callback.strict and callback.monitor.endswith(texts):
                raise UserError(
                    f"EarlyStopping monitors {callback.monitor!r}, which not every validation has "
                    "(eval_generate_every_n_epochs): set its strict: false"
                )
