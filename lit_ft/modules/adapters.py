"""A LightningModule whose model is trained by an adapter of PEFT, where the option `peft` says so."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from lit_ft.errors import UserError
from lit_ft.modules.padding import PaddingFreeModule, check_option
from lit_ft.ops.adapters.injecting import (
    SUBFOLDER,
    inject,
    is_adapter,
    load_weights,
    merged,
    opened,
    read_settings,
    save,
)
from lit_ft.ops.adapters.prompts import Prompts, is_prompt
from lit_ft.ops.adapters.quantizing import check_trainable, heads, lies_quantized, placed, read_quantization, settle
from lit_ft.ops.building.models import ModelSource
from lit_ft.ops.building.positions import hard_limit

log = logging.getLogger("lit_ft")


class AdapterModule(PaddingFreeModule):
    """Trains an adapter in the weights' place; see `TransformerModule`.

    Args:
        peft: train an adapter instead of the weights: the keys of PEFT's `adapter_config.json`, such as
            `{peft_type: LORA, r: 8}`, or the folder of a saved adapter to go on with.
        quantization: load the weights beside an adapter in a few bits: the keys of transformers' `BitsAndBytesConfig`,
            such as `{load_in_4bit: true, bnb_4bit_quant_type: nf4}` (QLoRA).
        kwargs: options of padding and of checkpoints.

    Attributes:
        adapter: the keys of the adapter's configuration, all of them once the model is built; `None` = no adapter.
    """

    auto_class: Any
    model: PreTrainedModel | None
    source: ModelSource
    adapter: dict[str, Any] | None = None
    _datamodule: Any

    def __init__(
        self, *, peft: dict[str, Any] | str | None = None, quantization: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)

    @property
    def prompts(self) -> Prompts | None:
        """The adapter, where it stands before the text."""
        return self.__dict__.get("_prompts")

    def forward(self, **inputs: Any) -> Any:
        """Runs the model, behind its trained tokens if there are any; see the base."""
        return super().forward(**inputs) if self.prompts is None else self.prompts(**inputs)

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
        self._settle(model, fresh)
        settings = read_settings(option) if restored is None else restored
        if is_prompt(settings):
            folder = option if restored is None and isinstance(option, str) else None
            self._add_prompts(
                Prompts(model, settings, self.auto_class.__name__, fresh if restored is None else ()), folder
            )
            return
        found, saved = inject(model, settings, self.auto_class.__name__, fresh if restored is None else ())
        if restored is None and isinstance(option, str):
            load_weights(model, option)
        self.adapter = found
        if restored is not None:  # the weights follow from its checkpoint
            return
        beside = f", and of {', '.join(saved)} as a whole" if saved else ""
        targets = found.get("target_modules") or "PEFT's choice of modules"
        if not isinstance(targets, str):
            targets = ", ".join(sorted({name.rpartition(".")[2] for name in targets}))
        self._say_trained(model, f"{found['peft_type']} of {targets}{beside}")

    def _add_prompts(self, made: Prompts, folder: str | None) -> None:
        model: Any = made.wrapped.base_model
        if check_option(self.hparams["padding_free"]) == "on":
            raise UserError(f"padding_free: on: {made.kind} puts tokens before the text; set it to auto")
        if folder is not None:
            made.load(folder)
        most, size = hard_limit(model.config), getattr(self._datamodule, "longest_feature", None)
        if most is not None and isinstance(size, int) and size + made.tokens > most:
            raise UserError(
                f"peft: {made.tokens} tokens before {size} of a text are more than the model's {most} positions: "
                f"{most - made.tokens} may be left to the text (max_seq_length, block_size)"
            )
        self.__dict__["_prompts"], self.adapter = made, made.settings
        self._say_trained(model, f"{made.kind}: {made.tokens} tokens before each text, computed with padding")

    @staticmethod
    def _say_trained(model: PreTrainedModel, what: str) -> None:
        trained, total = model.num_parameters(only_trainable=True), model.num_parameters()
        log.info(f"{what}: {trained:,} of {total:,} weights are trained")

    def write_adapter(self, state: dict[str, Tensor], folder: Path) -> None:
        """Writes the adapter's folder, with weights of the model that may be others than it has now."""
        assert self.model is not None
        if self.prompts is None:
            save(self.model, state, folder)
        else:
            self.prompts.save(state, folder)

    def run_with(self, model: nn.Module, weights: dict[str, Tensor], inputs: dict[str, Tensor]) -> Any:
        """Runs a model of this module's kind with weights that are put into it."""
        if self.prompts is not None:
            return self.prompts.run_with(weights, inputs)
        # tied weights come under both their names, each a tensor of its own once it is loaded
        return torch.func.functional_call(model, weights, kwargs=inputs, tie_weights=False)

    def reopened(self, folder: Path) -> nn.Module:
        """Opens a folder that this module was exported to, in float32 (or a few bits), as its users will."""
        trusted = self.source.trust_remote_code
        if not is_adapter(folder):
            return self.auto_class.from_pretrained(  # type: ignore[no-any-return]
                folder, dtype=torch.float32, trust_remote_code=trusted
            )
        config = AutoConfig.from_pretrained(folder, subfolder=SUBFOLDER, trust_remote_code=trusted)
        return opened(self._pretrained(config, torch.float32), folder)

    def blank(self, config: PreTrainedConfig) -> PreTrainedModel:
        """Makes a model of the same parts, the adapter's included, for weights that are put into it."""
        model: PreTrainedModel = self.auto_class.from_config(config, trust_remote_code=self.source.trust_remote_code)
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
        if self.prompts is not None:
            raise UserError(f"peft: {self.prompts.kind} is no part of weights, so that nothing can be merged")
        if getattr(self.model, "is_quantized", False):
            raise UserError(
                "quantization: weights of a few bits cannot take an adapter: export it without merging, and merge it "
                "into the model as it is with PEFT's merge_and_unload"
            )
        return merged(self._pretrained(config, self.model.dtype), folder)

    def _pretrained(self, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
        model = self.source.build(self.auto_class, config, True, dtype=dtype, **self.quantized(config))[0]
        self._settle(model)
        return model

    def _settle(self, model: PreTrainedModel, fresh: Iterable[str] = ()) -> None:
        """Settles weights in a few bits, by the option or as they lie in their folder."""
        if getattr(model, "is_quantized", False):
            settle(model, fresh, lie_so=self.hparams["quantization"] is None)

    def quantized(self, config: PreTrainedConfig) -> dict[str, Any]:
        """Returns what `from_pretrained` has to know to load the weights in a few bits, if they shall be or lie so.

        Args:
            config: of the model.

        Raises:
            UserError: the option cannot be met, or weights in a few bits would be trained; the message says why.
        """
        option, name = self.hparams["quantization"], self.source.model_name_or_path
        lie_so = name is not None and self.source.gguf_file is None and lies_quantized(config)
        if option is None and not lie_so:
            return {}
        if self._device_mesh is not None:
            raise UserError("quantization: weights of a few bits are not shared out: use ddp, or leave it out")
        adapted = self.hparams["peft"] is not None or self.source.adapter is not None
        if lie_so:
            check_trainable(str(name), option, adapted or self._trainer is None or self._trainer.state.fn != "fit")
            return placed()
        assert option is not None
        beside = heads(self.auto_class, config, self.source.trust_remote_code)
        return {"quantization_config": read_quantization(option, adapted, self.source.gguf_file, beside), **placed()}
