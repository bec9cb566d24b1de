"""What every task's module shares: building, the steps, exact losses, AdamW with warmup, standalone checkpoints."""

import logging
from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from lit_ft.data.merging import Part
from lit_ft.data.tokenization import add_tokens_to, load_tokenizer
from lit_ft.modules.adamw import AdamWModule
from lit_ft.modules.adapters import AdapterModule
from lit_ft.modules.evaluation import EvaluationSet, beside, check_monitors, full_precision, prefixes
from lit_ft.modules.normaliser import LossNormaliser
from lit_ft.modules.padding import PaddingFreeModule, check_option
from lit_ft.modules.parallel import share_out
from lit_ft.modules.randomness import StepwiseRandomness
from lit_ft.modules.standalone import StandaloneModule
from lit_ft.ops.building import ModelSource, fit_to_tokenizer, freeze, resize_embeddings, weights_dtype
from lit_ft.ops.compiling import compile_layers
from lit_ft.ops.losses import mean
from lit_ft.optim.ranges import check_ranges
from lit_ft.optim.schedules import check_schedule

log = logging.getLogger("lit_ft")

Batch = dict[str, Any]
Description = dict[str, Any]
SAMPLE = 4
"""Rows of a sample."""


class TransformerModule(AdamWModule, PaddingFreeModule, AdapterModule, StepwiseRandomness, StandaloneModule):
    """A Hugging Face model in Lightning: `module.model` is the model itself, unpatched.

    A task writes `auto_class`, `config_kwargs`, `loss`, `decode`, `merge`, `metrics`, `update`, `compute` and
    `prediction`.

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
    card_example: str
    """How the exported folder is used, for the model card."""
    monitor = "val_loss"
    """The metric that the best checkpoint is chosen by, unless the user names another."""
    monitor_mode: Literal["min", "max"] = "min"
    label_names: tuple[str, ...] = ("labels",)
    """What a batch calls its labels; the model itself never sees them."""

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

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the summed loss of a batch and the count to divide it by; rows without a label count nowhere."""

    @abstractmethod
    def decode(self, outputs: Any, batch: Batch) -> list[Part]:
        """Returns one small dict per feature."""

    @abstractmethod
    def merge(self, parts: list[Part]) -> Part:
        """Makes one dict per row of its windows' parts."""

    def progress(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Returns what is logged of each training batch beside its loss."""
        return {}

    def evaluation_loss(self, outputs: Any, batch: Batch, rows: list[Part]) -> tuple[Tensor, Tensor]:
        """Returns the summed loss of a batch and its count, of features or, where windows are merged, of `rows`."""
        return self.loss(outputs, batch)

    @abstractmethod
    def metrics(self, description: Description, stage: str) -> Any:
        """Makes the metrics of one evaluation set, on this module's device."""

    @abstractmethod
    def update(self, metrics: Any, rows: list[Part]) -> None:
        """Scores merged rows."""

    @abstractmethod
    def compute(self, metrics: Any) -> dict[str, Tensor]:
        """Returns the metrics by name, without a prefix; every process calls it."""

    @abstractmethod
    def metric_names(self, description: Description) -> list[str]:
        """Returns the names that `compute` will return."""

    @abstractmethod
    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns what is written for a merged row, as plain values."""

    def model_inputs(self, batch: Batch) -> Batch:
        """Returns the forward's keywords: no label, so that the head's own loss is not computed beside ours."""
        ours = (*self.label_names, "row", "windows", "settled", "info")
        return {name: value for name, value in batch.items() if name not in ours}

    def outputs(self, batch: Batch) -> Any:
        """Runs the model on a batch; returns what `loss` and `decode` are given."""
        return self(**self.model_inputs(batch))

    def predict_parts(self, batch: Batch) -> list[Part]:
        """Returns one small dict per feature of a batch to predict."""
        return self.decode(self.outputs(batch), batch)

    def scores(self, outputs: Any) -> Tensor:
        """Returns the scores that an exported folder must give, too."""
        return outputs.logits  # type: ignore[no-any-return]

    def sample_inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Returns inputs of a few rows, on which an exported folder must give the same scores."""
        return {name: value[:SAMPLE] for name, value in self.model_inputs(batch).items() if isinstance(value, Tensor)}

    def text_sample(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """Makes inputs for the model of the tokens of a text, `[1, seq]` each."""
        return tokens

    # Building

    def setup(self, stage: str) -> None:
        """Takes what the data module says of its rows; checks, before any weights are loaded, what needs it."""
        self.description = {**self.description, **getattr(self._datamodule, "description", {})}
        if stage == "fit":
            self._check_monitors()
            self._check_warmup()

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
            for name, value in self.config_kwargs(self.description).items():
                setattr(config, name, value)
            if tokenizer is not None and self.source.model_name_or_path is None:
                fit_to_tokenizer(config, tokenizer, self.hparams["config_overrides"])
        precision = str(self._trainer.precision) if self._trainer is not None else "32-true"
        kwargs: dict[str, Any] = {"dtype": weights_dtype(self.hparams["dtype"], precision)}
        if self.hparams["attn_implementation"] is not None:
            kwargs["attn_implementation"] = self.hparams["attn_implementation"]
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
        total, count = self.loss(outputs, batch)
        self.log("train_loss", mean(total, count).detach(), prog_bar=True, batch_size=size)
        for name, value in self.progress(outputs, batch).items():
            self.log(f"train_{name}", value, batch_size=size)
        return self._normaliser.loss(self, total, count)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Makes the gradients those of one big batch; Lightning clips afterwards."""
        self._normaliser.rescale(self, optimizer)

    def _check_monitors(self) -> None:
        description = {**self.description, **getattr(self._datamodule, "description", {})}
        if not description or not hasattr(self._datamodule, "set_names"):
            return
        sets = self._datamodule.set_names("validation")
        names = {"loss", *self.metric_names(description)}
        known = {
            prefix + name for number in range(len(sets)) for prefix in prefixes("val", sets, number) for name in names
        }
        check_monitors(self.trainer, known | {"train_loss", *(self.hparams["logged_metrics"] or [])})

    # Evaluation: prediction, plus scores

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores the rows whose last window is in this batch."""
        self._evaluate(batch, "val", dataloader_idx)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Scores the rows whose last window is in this batch."""
        self._evaluate(batch, "test", dataloader_idx)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> list[dict[str, Any]]:
        """Returns the rows whose last window is in this batch: the input's own columns and the prediction."""
        rows = self._open("predict")[dataloader_idx].merger.add(self.predict_parts(batch), batch)
        return [beside(info, self.prediction(self.merge(parts))) for parts, info in rows]

    def on_validation_epoch_start(self) -> None:
        """Starts afresh."""
        self._sets.pop("val", None)

    def on_test_epoch_start(self) -> None:
        """Starts afresh."""
        self._sets.pop("test", None)

    def on_predict_epoch_start(self) -> None:
        """Starts afresh."""
        self._sets.pop("predict", None)

    def on_validation_epoch_end(self) -> None:
        """Logs `val_loss` and the metrics of each set."""
        self._log_sets("val")

    def on_test_epoch_end(self) -> None:
        """Logs `test_loss` and the metrics of each set."""
        self._log_sets("test")

    def _evaluate(self, batch: Batch, stage: str, dataloader_idx: int) -> None:
        evaluated = self._open(stage)[dataloader_idx]
        outputs = self.outputs(batch)
        rows = [self.merge(parts) for parts, _ in evaluated.merger.add(self.decode(outputs, batch), batch)]
        if set(self.label_names) <= batch.keys():
            evaluated.add_loss(*self.evaluation_loss(outputs, batch, rows))
        self.update(evaluated.metrics, rows)

    def _open(self, stage: str) -> list[EvaluationSet]:
        if stage not in self._sets:
            with full_precision():  # under bf16-true Lightning would make their sums bfloat16
                names = self._set_names(stage)
                metrics = [None if stage == "predict" else self.metrics(self.description, stage) for _ in names]
                pairs = zip(names, metrics, strict=True)
                self._sets[stage] = [EvaluationSet(name, made, self.device) for name, made in pairs]
        return self._sets[stage]

    def _set_names(self, stage: str) -> list[str]:
        kind = {"val": "validation"}.get(stage, stage)
        if hasattr(self._datamodule, "set_names"):
            return list(self._datamodule.set_names(kind))
        batches = {"val": "num_val_batches", "test": "num_test_batches", "predict": "num_predict_batches"}
        return [""] * len(getattr(self._trainer, batches[stage]))

    def _log_sets(self, stage: str) -> None:
        sets = self._open(stage)
        chosen_by = {self.monitor, getattr(self.trainer.checkpoint_callback, "monitor", None)}
        for number, evaluated in enumerate(sets):
            values = {"loss": evaluated.loss(), **self.compute(evaluated.metrics)}
            for prefix in prefixes(stage, [each.name for each in sets], number):
                for name, value in values.items():
                    self.log(prefix + name, value, prog_bar=prefix + name in chosen_by, rank_zero_only=False)
