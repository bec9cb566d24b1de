"""What modules of vectors of texts share: the body of any encoder or decoder, pooled as its folder says."""

import logging
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from lit_ft.errors import UserError
from lit_ft.modules.base import Batch, TransformerModule
from lit_ft.ops.building.checkpoint_extras import KEY
from lit_ft.ops.pooling import POOLINGS, Pooling, check_weights_place, pooled, read_folder
from lit_ft.ops.vectors import one_below_the_other
from lit_ft.ranges import check_choice

log = logging.getLogger("lit_ft")


class PooledModule(TransformerModule):
    """One vector for each text; a task writes what is learned of them, or asked.

    Args:
        pooling: `mean`, `cls` or `last`. Default: that of the folder, else `mean`.
        normalize: give vectors length 1. Default: as the folder does, else do.
        kwargs: options of every module.

    Raises:
        UserError: `pooling` is none of these; or it is not given, and the folder makes its vectors in another way.
    """

    auto_class = AutoModel
    extra_keys = ("text_ids", "real")
    _way: dict[str, Any] | None = None

    def __init__(self, *, pooling: Pooling | None = None, normalize: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._kept: dict[str, Any] = {}
        check_choice(self.hparams, "pooling", (None, *POOLINGS))

    def build(self) -> PreTrainedModel:
        """Builds the model; what it has behind the vectors of tokens is not trained; see the base."""
        model = super().build()
        for name, value in model.named_parameters():
            if name.startswith("pooler."):
                value.requires_grad_(False)
        return model

    def _configured(self) -> PreTrainedConfig:
        """Reads how texts are pooled, too: what does not fit is said before the weights are loaded; see the base."""
        source = self.source
        place = (source.model_name_or_path, source.model_revision, source.cache_dir)
        try:
            config = super()._configured()
        except UserError:
            check_weights_place(*place)
            raise
        if self._way is None:
            said, self._kept = read_folder(*place, self.hparams["pooling"])
            self._way = {"pooling": "mean", "normalize": True, **said}
            for note in self.folder_notes(self._kept):
                log.info(f"{source.model_name_or_path}: {note}")
        return config

    def folder_notes(self, kept: dict[str, Any]) -> list[str]:
        """Returns what a folder of sentence-transformers says of texts that is not done here.

        Args:
            kept: what `read_folder` returns of texts.
        """
        if not kept.get("do_lower_case") or self.tokenizer is None:
            return []
        if self.tokenizer.tokenize("ABC abc") == self.tokenizer.tokenize("abc abc"):  # it does so by itself
            return []
        return ["do_lower_case is not done here, texts are read as they are: make them lower case yourself"]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds how texts are pooled, which only the folder says that training began with; see the base."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[KEY]["way"], checkpoint[KEY]["kept"] = self.way, self._kept

    def restore(self, extras: dict[str, Any]) -> None:
        """Takes how texts are pooled, too; see the base."""
        super().restore(extras)
        self._way, self._kept = extras.get("way"), extras.get("kept", {})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes how texts are pooled where the model is built already, too; see the base."""
        super().on_load_checkpoint(checkpoint)
        self._way = checkpoint[KEY].get("way") or self._way
        self._kept = checkpoint[KEY].get("kept", self._kept)

    @property
    def way(self) -> dict[str, Any]:
        """`pooling` and `normalize`: by option, else as checkpoint or folder say, else the usual ones."""
        assert self._way is not None
        given = {name: self.hparams[name] for name in ("pooling", "normalize") if self.hparams[name] is not None}
        return {**self._way, **given}

    def model_inputs(self, batch: Batch) -> Batch:
        """Lays all texts one below the other; see the base."""
        return one_below_the_other(super().model_inputs(batch))

    def vectors(self, inputs: dict[str, Tensor]) -> Tensor:
        """Returns the vectors of texts, `[texts, size]`.

        Args:
            inputs: the model's inputs, `[texts, seq]` each.
        """
        made = pooled(self(**inputs).last_hidden_state, inputs["attention_mask"], self.way["pooling"])
        return F.normalize(made, dim=-1) if self.way["normalize"] else made

    def scores(self, outputs: Any) -> Tensor:
        """The vectors of tokens; see the base."""
        return outputs.last_hidden_state  # type: ignore[no-any-return]
