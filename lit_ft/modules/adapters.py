"""A LightningModule whose model is trained by an adapter of PEFT, where the option `peft` says so."""

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from lit_ft.errors import UserError
from lit_ft.ops.adapters import SUBFOLDER, inject, is_adapter, load_weights, merged, opened, read_settings
from lit_ft.ops.building import ModelSource
from lit_ft.ops.quantizing import heads, placed, read_quantization, settle

log = logging.getLogger("lit_ft")


class AdapterModule(LightningModule):
    """Reads the hyperparameter `peft`.

    Attributes:
        adapter: the keys of the adapter's configuration, all of them once the model is built; `None` = no adapter.
    """

    auto_class: Any
    model: PreTrainedModel | None
    source: ModelSource
    adapter: dict[str, Any] | None = None

    def add_adapter(self, model: PreTrainedModel, fresh: list[str]) -> None:
        """Puts the adapter into a model.

        Args:
            model: with its pretrained weights.
            fresh: names of parameters that do not come from a checkpoint.

        Raises:
            UserError: the adapter does not fit, or there are no pretrained weights.
        """
        given, restored = self.hparams["peft"], self.adapter
        option = given or self.source.adapter
        if option is None:
            return
        if given is not None and self.source.adapter is not None:
            raise UserError(
                "model_name_or_path is an adapter's folder already: name the model there, or leave peft out"
            )
        if self.source.model_name_or_path is None:
            raise UserError("peft adapts a pretrained model: set model_name_or_path, or leave peft out")
        if self.hparams["quantization"]:
            settle(model, fresh)
        settings = read_settings(option) if restored is None else restored
        found, saved = inject(model, settings, self.auto_class.__name__, fresh if restored is None else ())
        if restored is None and isinstance(option, str):
            load_weights(model, option)
        self.adapter = found
        if restored is not None:  # the weights follow from its checkpoint
            return
        trained, total = model.num_parameters(only_trainable=True), model.num_parameters()
        beside = f", and of {', '.join(saved)} as a whole" if saved else ""
        targets = found.get("target_modules") or "PEFT's choice of modules"
        if not isinstance(targets, str):
            targets = ", ".join(sorted({name.rpartition(".")[2] for name in targets}))
        log.info(f"{found['peft_type']} of {targets}{beside}: {trained:,} of {total:,} weights are trained")

    def reopened(self, folder: Path) -> nn.Module:
        """Opens a folder that this module was exported to, in float32 (or a few bits), as its users will."""
        if not is_adapter(folder):
            return self.auto_class.from_pretrained(folder, dtype=torch.float32)  # type: ignore[no-any-return]
        return opened(self._pretrained(AutoConfig.from_pretrained(folder, subfolder=SUBFOLDER), torch.float32), folder)

    def blank(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Makes a model of the same parts, the adapter's included, for weights that are put into it."""
        model: PreTrainedModel = self.auto_class.from_config(config)
        if self.adapter is not None:
            inject(model, self.adapter, self.auto_class.__name__)
        return model

    def merged(self, config: PreTrainedConfig, folder: Path) -> PreTrainedModel:
        """Returns the model with the adapter that lies in a folder in its weights.

        Args:
            config: of the whole model.
            folder: of the adapter.
        """
        assert self.model is not None
        if self.hparams["quantization"]:
            raise UserError(
                "quantization: weights of a few bits cannot take an adapter: export it without merging, and merge it "
                "into the model as it is with PEFT's merge_and_unload"
            )
        return merged(self._pretrained(config, self.model.dtype), folder)

    def _pretrained(self, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
        model = self.source.build(self.auto_class, config, True, dtype=dtype, **self.quantized(config))[0]
        if self.hparams["quantization"]:
            settle(model)
        return model

    def quantized(self, config: PreTrainedConfig) -> dict[str, Any]:
        """Returns what `from_pretrained` has to know to load the weights in a few bits, if they shall be.

        Args:
            config: of the model.

        Raises:
            UserError: the option cannot be met; the message says why.
        """
        option = self.hparams["quantization"]
        if option is None:
            return {}
        if self._device_mesh is not None:
            raise UserError("quantization: weights of a few bits are not shared out: use ddp, or leave it out")
        adapted = self.hparams["peft"] is not None or self.source.adapter is not None
        beside = heads(self.auto_class, config, self.source.trust_remote_code)
        return {"quantization_config": read_quantization(option, adapted, self.source.gguf_file, beside), **placed()}
