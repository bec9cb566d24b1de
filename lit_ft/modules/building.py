"""A LightningModule whose model is a Hugging Face one: loaded, made from scratch, or rebuilt from a checkpoint."""

import logging
from typing import Any, Literal

from lightning.pytorch.callbacks import StochasticWeightAveraging
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from lit_ft.data.tokenizing.texts import add_tokens_to, load_tokenizer
from lit_ft.errors import UserError
from lit_ft.modules.adapters import AdapterModule
from lit_ft.modules.standalone import StandaloneModule
from lit_ft.ops.agreements import Description
from lit_ft.ops.building.compiling import compile_layers
from lit_ft.ops.building.models import (
    ModelSource,
    check_names,
    fit_to_tokenizer,
    freeze,
    resize_embeddings,
    weights_dtype,
)
from lit_ft.ops.building.own_memory import into_own_memory
from lit_ft.ops.building.sharding import share_out

log = logging.getLogger("lit_ft")


class BuiltModule(AdapterModule, StandaloneModule):
    """Builds `module.model` once its configuration is known, and knows its tokenizer; see `TransformerModule`.

    Args:
        model_name_or_path: checkpoint to start from: hub name, folder, or `package://name/folder` inside an installed
            package.
        config_name: configuration, where it is not the model's.
        model_type: architecture to train from scratch, such as `bert`; instead of `model_name_or_path`.
        config_overrides: values that replace those of the configuration.
        tokenizer_name: tokenizer, where it is not the model's.
        model_revision: branch, tag or commit of the model on the hub.
        trust_remote_code: run code that lies beside a checkpoint on the hub.
        gguf_file: name of the GGUF file in the model's folder.
        cache_dir: where downloads from the hub are kept.
        use_safetensors: refuse weights that are pickles (`.bin`); `false` reads them, too, but tensors only.
        attn_implementation: `eager`, `sdpa`, `flash_attention_2`, ... Default: transformers' choice.
        dtype: of the weights: `float32`, `bfloat16`, `float16` or `auto` (as in the file). Default: float32, unless the
            Trainer's precision is `bf16-true` or `16-true`.
        ignore_mismatched_sizes: start a new head where the checkpoint's has another size.
        add_tokens: words to add to the vocabulary; their embeddings start as the mean of the others.
        gradient_checkpointing: recompute activations in backward: less memory, slower.
        freeze: regular expressions; parameters whose name matches are not trained.
        torch_compile: compile the layers of the model, once for all lengths; the first steps take long.
        kwargs: options of adapters, of padding and of checkpoints.
    """

    auto_class: Any

    def __init__(
        self,
        *,
        model_name_or_path: str | None = None,
        config_name: str | None = None,
        model_type: str | None = None,
        config_overrides: dict[str, Any] | None = None,
        tokenizer_name: str | None = None,
        model_revision: str = "main",
        trust_remote_code: bool = False,
        gguf_file: str | None = None,
        cache_dir: str | None = None,
        use_safetensors: bool = True,
        attn_implementation: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16", "auto"] | None = None,
        ignore_mismatched_sizes: bool = False,
        add_tokens: list[str] | None = None,
        gradient_checkpointing: bool = False,
        freeze: list[str] | None = None,
        torch_compile: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = ModelSource(
            model_name_or_path,
            config_name,
            model_type,
            config_overrides,
            model_revision,
            trust_remote_code,
            gguf_file,
            cache_dir,
            use_safetensors,
        )
        self._tokenizer: PreTrainedTokenizerBase | None = None

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Returns values of the Hugging Face configuration, such as `id2label`; by default none."""
        return {}

    def configure_model(self) -> None:
        """Builds the model, once the data's description is known; Lightning calls it after `setup`.

        Without a Trainer there may be no description yet (`load_from_checkpoint` calls it too early): then it does
        nothing; `build` builds.

        Raises:
            UserError: a callback has copied the module already, without its weights.
        """
        if self.model is None and self._trainer is not None:
            self._check_averaging()
            model = self.build()
            if self._device_mesh is not None:
                share_out(model, self._device_mesh)
            elif self.trainer.strategy.root_device.type == "cpu":
                into_own_memory(model)

    def _check_averaging(self) -> None:
        # it copies the module before the model is built, and would go through nothing at all, without a word
        trainer: Any = self._trainer
        fitted = trainer.state.fn == "fit" and trainer.lightning_module is self  # not the reference of another module
        if fitted and any(isinstance(each, StochasticWeightAveraging) for each in trainer.callbacks):
            raise UserError(
                "StochasticWeightAveraging copies the module before its model is built, and would average nothing: "
                "take Lightning's WeightAveraging or EMAWeightAveraging, or call trainer.validate(module, data) before "
                "trainer.fit"
            )

    def build(self) -> PreTrainedModel:
        """Builds `self.model` from the checkpoint being restored, the pretrained weights, or from scratch.

        Raises:
            UserError: the model cannot be loaded, or nobody has named the labels.
        """
        self.description = self.known_description
        model, fresh = self._with_weights(self._configured())
        named = model.named_parameters(remove_duplicate=False)
        pretrained = self.source.model_name_or_path is not None and (self.hf_config is None or self.needs_pretrained)
        loaded = {id(value) for name, value in named if name not in fresh} if pretrained else set[int]()
        self.add_adapter(model, fresh)
        named = model.named_parameters(remove_duplicate=False)
        self.pretrained_weights = {f"model.{name}" for name, value in named if id(value) in loaded}
        model.train()  # from_pretrained returns a model in eval mode, and Lightning would keep it so: no dropout
        if self.hparams["gradient_checkpointing"]:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if self.hparams["freeze"]:
            log.info(f"frozen: {freeze(model, self.hparams['freeze']):,} of {model.num_parameters():,} parameters")
        if self.hparams["torch_compile"]:
            compile_layers(model)
        self.model = model
        self.forget_padding()
        return model

    def _configured(self) -> PreTrainedConfig:
        """Returns the configuration: that of a checkpoint as it is, any other with what data and tokenizer say."""
        if self.hf_config is not None:
            return self.hf_config
        config = self.source.config()
        values = self.config_kwargs(self.description)
        if not self.hparams["ignore_mismatched_sizes"]:
            check_names(config, values, self.auto_class)
        for name, value in values.items():
            setattr(config, name, value)
        if self.tokenizer is not None and self.source.model_name_or_path is None:
            fit_to_tokenizer(config, self.tokenizer, self.hparams["config_overrides"])
        return config

    def _with_weights(self, config: PreTrainedConfig) -> tuple[PreTrainedModel, list[str]]:
        """Returns the model, and the names of parameters that do not come from pretrained weights."""
        precision = str(self._trainer.precision) if self._trainer is not None else "32-true"
        kwargs: dict[str, Any] = {"dtype": weights_dtype(self.hparams["dtype"], precision)}
        if self.hparams["attn_implementation"] is not None:
            kwargs["attn_implementation"] = self.hparams["attn_implementation"]
        kwargs |= self.quantized(config)
        if self.hf_config is not None and not self.needs_pretrained:  # the weights follow from Lightning
            trusted = self.hparams["trust_remote_code"]
            return self.auto_class.from_config(config, trust_remote_code=trusted, **kwargs), []
        mismatched = self.needs_pretrained or self.hparams["ignore_mismatched_sizes"]
        model, fresh = self.source.build(self.auto_class, config, mismatched, **kwargs)
        if fresh and not self.needs_pretrained:
            log.info(f"fresh weights, to be trained: {', '.join(fresh)}")
        return model, fresh + resize_embeddings(model, len(self.tokenizer) if self.tokenizer is not None else 0)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The checkpoint's tokenizer, else the data module's, else that of `tokenizer_name` or `model_name_or_path`."""
        if self.restored_tokenizer is not None:
            return self.restored_tokenizer
        if hasattr(self._datamodule, "tokenizer"):
            return self._datamodule.tokenizer  # type: ignore[no-any-return]
        options = self.hparams
        name = options["tokenizer_name"] or options["model_name_or_path"]
        if self._tokenizer is None and name is not None:
            tokenizer = load_tokenizer(
                name,
                options["model_revision"],
                trust_remote_code=options["trust_remote_code"],
                gguf_file=options["gguf_file"],
                cache_dir=options["cache_dir"],
            )
            self._tokenizer = add_tokens_to(tokenizer, options["add_tokens"])
        return self._tokenizer

    @property
    def trained_config(self) -> PreTrainedConfig | None:
        """The configuration of the checkpoint, or the pretrained model, that training starts from, if from any."""
        return self.hf_config or (self.source.config() if self.source.model_name_or_path else None)

    def check_tokens(self) -> None:
        """Makes sure that the data's tokenizer has the tokens that are added to the model.

        Raises:
            UserError: it lacks some.
        """
        added = self.hparams["add_tokens"] or []
        known = self.tokenizer.get_vocab() if added and self.tokenizer is not None else added
        if lacking := [token for token in added if token not in known]:
            raise UserError(f"add_tokens: the data's tokenizer lacks {lacking}: give the data the same add_tokens")
