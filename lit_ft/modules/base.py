"""What every task's module shares: building, the steps, exact losses, AdamW with warmup, standalone checkpoints."""

import logging
from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from lit_ft.data.tokenizing.texts import add_tokens_to, load_tokenizer
from lit_ft.errors import UserError
from lit_ft.modules.adamw import AdamWModule
from lit_ft.modules.adapters import AdapterModule
from lit_ft.modules.agreements import checked_loss
from lit_ft.modules.evaluating import EvaluatingModule
from lit_ft.modules.evaluation import EvaluationSet
from lit_ft.modules.normaliser import LossNormaliser
from lit_ft.modules.padding import check_option
from lit_ft.modules.parallel import share_out
from lit_ft.modules.randomness import StepwiseRandomness
from lit_ft.modules.standalone import StandaloneModule
from lit_ft.ops.building.compiling import compile_layers
from lit_ft.ops.building.models import (
    ModelSource,
    check_names,
    fit_to_tokenizer,
    freeze,
    resize_embeddings,
    weights_dtype,
)
from lit_ft.ops.losses.classification import mean
from lit_ft.optim.ranges import check_ranges
from lit_ft.optim.schedules import check_schedule

log = logging.getLogger("lit_ft")

Batch = dict[str, Any]
Description = dict[str, Any]
SAMPLE = 4
"""Rows of a sample."""


class TransformerModule(EvaluatingModule, AdamWModule, AdapterModule, StepwiseRandomness, StandaloneModule):
    """A Hugging Face model in Lightning: `module.model` is the model itself, unpatched.

    A task writes `auto_class`, `config_kwargs`, `loss`, `decode`, `metrics`, `update`, `compute`, `metric_names` and
    `prediction`, and where its rows have several windows `merge`.

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
        peft: train an adapter instead of the weights: the keys of PEFT's `adapter_config.json`, such as
            `{peft_type: LORA, r: 8}`, or the folder of a saved adapter to go on with.
        quantization: load the weights beside an adapter in a few bits: the keys of transformers' `BitsAndBytesConfig`,
            such as `{load_in_4bit: true, bnb_4bit_quant_type: nf4}` (QLoRA).
        loraplus_lr_ratio: learning rate of LoRA's second matrices, as a multiple of the first ones' (LoRA+).
        save_trainable_only: leave frozen weights out of checkpoints; they are read from `model_name_or_path` again.
        padding_free: compute on real tokens only, with the same results: `auto` (where the model can, which is said
            where it cannot), `on` (an error where it cannot) or `off` (transformers' own execution and dropout).
        torch_compile: compile the layers of the model, once for all lengths; the first steps take long.
        learning_rate: peak learning rate of AdamW.
        weight_decay: of all parameters but biases and norms.
        adam_beta1: AdamW's first beta.
        adam_beta2: AdamW's second beta.
        adam_epsilon: AdamW's epsilon.
        lr_scheduler_type: schedule after the warmup, by transformers' name (`linear`, `cosine`, ...).
        lr_scheduler_kwargs: further arguments of the schedule.
        num_warmup_steps: optimizer steps of linear warmup.
        warmup_ratio: warmup as a share of all optimizer steps; used where `num_warmup_steps` is 0.
        layerwise_lr_decay: factor of the learning rate from each layer to the one below it.
        logged_metrics: names of metrics that a subclass logs by itself, so that callbacks may monitor them.
    """

    auto_class: Any
    pipeline_tag: str | None = None
    """Task name on the hub, for the model card."""
    card_example: str = ""
    """How the exported folder is used, for the model card; by default, how it is opened."""

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
        peft: dict[str, Any] | str | None = None,
        quantization: dict[str, Any] | None = None,
        loraplus_lr_ratio: float | None = None,
        save_trainable_only: bool = False,
        padding_free: Literal["auto", "on", "off"] | bool = "auto",
        torch_compile: bool = False,
        learning_rate: float = 5e-5,
        weight_decay: float = 0.0,
        adam_beta1: float = 0.9,
        adam_beta2: float = 0.999,
        adam_epsilon: float = 1e-8,
        lr_scheduler_type: str = "linear",
        lr_scheduler_kwargs: dict[str, Any] | None = None,
        num_warmup_steps: int = 0,
        warmup_ratio: float = 0.0,
        layerwise_lr_decay: float | None = None,
        logged_metrics: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_schedule(lr_scheduler_type)
        check_ranges(self.hparams)
        check_option(padding_free)
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
        self.model: PreTrainedModel | None = None
        self.description: Description = {}
        self.hf_config: PreTrainedConfig | None = None
        self.restored_tokenizer: PreTrainedTokenizerBase | None = None
        self.pretrained_weights: set[str] = set()
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._normaliser = LossNormaliser()
        self._sets: dict[str, list[EvaluationSet]] = {}

    # What a task writes

    @abstractmethod
    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Returns values of the Hugging Face configuration, such as `id2label`."""

    def progress(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Returns what is logged of each training batch beside its loss."""
        return {}

    def model_inputs(self, batch: Batch) -> Batch:
        """Returns the forward's keywords: no label, so that the head's own loss is not computed beside ours."""
        ours = (*self.label_keys, "row", "windows", "settled", "info")
        return {name: value for name, value in batch.items() if name not in ours}

    def outputs(self, batch: Batch) -> Any:
        """Runs the model on a batch; returns what `loss` and `decode` are given."""
        return self(**self.model_inputs(batch))

    def scores(self, outputs: Any) -> Tensor:
        """Returns the scores that an exported folder must give, too."""
        return outputs.logits  # type: ignore[no-any-return]

    def sample_inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Returns inputs of a few rows, on which an exported folder must give the same scores."""
        return {name: value[:SAMPLE] for name, value in self.model_inputs(batch).items() if isinstance(value, Tensor)}

    def write_extras(self, folder: Path) -> None:
        """Adds what other libraries need to an exported folder; by default nothing."""

    def text_sample(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """Makes inputs for the model of the tokens of a text, `[1, seq]` each."""
        return tokens

    # Building

    def setup(self, stage: str) -> None:
        """Takes what the data module says of its rows; checks, before any weights are loaded, what needs it."""
        self.description = {**self.description, **getattr(self._datamodule, "description", {})}
        self._check_tokens()
        if stage == "fit":
            self.check_monitored()
            self._check_warmup()

    def _check_tokens(self) -> None:
        added = self.hparams["add_tokens"] or []
        known = self.tokenizer.get_vocab() if added and self.tokenizer is not None else added
        if lacking := [token for token in added if token not in known]:
            raise UserError(f"add_tokens: the data's tokenizer lacks {lacking}: give the data the same add_tokens")

    def configure_model(self) -> None:
        """Builds the model, once the data's description is known; Lightning calls it after `setup`.

        Without a Trainer there may be no description yet (`load_from_checkpoint` calls it too early): then it does
        nothing; `build` builds.
        """
        if self.model is None and self._trainer is not None:
            model = self.build()
            if self._device_mesh is not None:
                share_out(model, self._device_mesh)

    def build(self) -> PreTrainedModel:
        """Builds `self.model` from the checkpoint being restored, the pretrained weights, or from scratch.

        Raises:
            UserError: the model cannot be loaded, or nobody has named the labels.
        """
        self.description = {**self.description, **getattr(self._datamodule, "description", {})}
        tokenizer = self.tokenizer
        config = self.hf_config or self.source.config()
        if self.hf_config is None:
            values = self.config_kwargs(self.description)
            if not self.hparams["ignore_mismatched_sizes"]:
                check_names(config, values, self.auto_class)
            for name, value in values.items():
                setattr(config, name, value)
            if tokenizer is not None and self.source.model_name_or_path is None:
                fit_to_tokenizer(config, tokenizer, self.hparams["config_overrides"])
        precision = str(self._trainer.precision) if self._trainer is not None else "32-true"
        kwargs: dict[str, Any] = {"dtype": weights_dtype(self.hparams["dtype"], precision)}
        if self.hparams["attn_implementation"] is not None:
            kwargs["attn_implementation"] = self.hparams["attn_implementation"]
        kwargs |= self.quantized(config)
        fresh, loaded = list[str](), set[int]()
        if self.hf_config is not None and not self.needs_pretrained:
            model = self.auto_class.from_config(config, trust_remote_code=self.hparams["trust_remote_code"], **kwargs)
        else:
            mismatched = self.needs_pretrained or self.hparams["ignore_mismatched_sizes"]
            model, fresh = self.source.build(self.auto_class, config, mismatched, **kwargs)
            if fresh and not self.needs_pretrained:
                log.info(f"fresh weights, to be trained: {', '.join(fresh)}")
            fresh += resize_embeddings(model, len(tokenizer) if tokenizer is not None else 0)
            if self.source.model_name_or_path is not None:
                named = model.named_parameters(remove_duplicate=False)
                loaded = {id(value) for name, value in named if name not in fresh}
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
        return model  # type: ignore[no-any-return]

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

    # Training

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the loss to call backward on; logs `train_loss`."""
        outputs, size = self.outputs(batch), len(batch["input_ids"])
        total, count = checked_loss(self, self.loss(outputs, batch))
        self.log("train_loss", mean(total, count).detach(), prog_bar=True, batch_size=size)
        for name, value in self.progress(outputs, batch).items():
            self.log(f"train_{name}", value, batch_size=size)
        return self._normaliser.loss(self, total, count)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Makes the gradients those of one big batch; Lightning clips afterwards."""
        self._normaliser.rescale(self, optimizer)
