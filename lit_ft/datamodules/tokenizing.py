"""A LightningDataModule with the tokenizer of its model: from the checkpoint that the run starts from, or by name."""

from functools import cached_property
from typing import Any

from lightning.pytorch import LightningDataModule
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from lit_ft.data.tokenization import TextEncoder, add_tokens_to, load_tokenizer
from lit_ft.errors import UserError
from lit_ft.ops.building import ModelSource
from lit_ft.ops.positions import longest_input


class TokenizingDataModule(LightningDataModule):
    """Reads its hyperparameters by name: `model_name_or_path`, `tokenizer_name`, `max_seq_length`, `stride`, ..."""

    _tokenizer: PreTrainedTokenizerBase | None = None
    _config: PreTrainedConfig | None = None
    _served: Any = None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the checkpoint that the run starts from, else of `model_name_or_path`."""
        restored = getattr(self._module, "restored_tokenizer", None)
        if restored is not None:
            return restored  # type: ignore[no-any-return]
        if self._tokenizer is None:
            self._tokenizer = add_tokens_to(self.load_tokenizer(), self.hparams["add_tokens"])
        return self._tokenizer

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Loads the tokenizer of `tokenizer_name` or `model_name_or_path`.

        Raises:
            UserError: neither is given, or holds no tokenizer.
        """
        options = self.hparams
        name = options["tokenizer_name"] or options["model_name_or_path"]
        if name is None:
            raise UserError("no tokenizer: set model_name_or_path or tokenizer_name")
        return load_tokenizer(
            name,
            options["model_revision"],
            options["use_fast_tokenizer"],
            options["trust_remote_code"],
            options["gguf_file"],
            options["cache_dir"],
            **(options["tokenizer_kwargs"] or {}),
        )

    @cached_property
    def encoder(self) -> TextEncoder:
        """Cuts or windows texts by this data module's options.

        Raises:
            UserError: `max_seq_length` is above what the model takes.
        """
        options, config = self.hparams, self.pretrained_config()
        limit = longest_input(config, self.tokenizer) if config else None
        if limit is not None and (options["max_seq_length"] or 0) > limit:
            raise UserError(f"max_seq_length {options['max_seq_length']} is above the model's {limit} tokens")
        return TextEncoder(
            self.tokenizer, options["max_seq_length"] or limit, options["truncation_side"], options["stride"]
        )

    @property
    def longest_feature(self) -> int | None:
        """The most tokens of a feature; `None` = no limit."""
        return self.encoder.max_seq_length

    def pretrained_config(self) -> PreTrainedConfig | None:
        """The configuration of the model, from the checkpoint that the run starts from or from `model_name_or_path`."""
        restored = getattr(self._module, "hf_config", None)
        name = self.hparams["model_name_or_path"]
        if restored is not None:
            return restored  # type: ignore[no-any-return]
        if self._config is None and name is not None:
            names = ("model_revision", "trust_remote_code", "gguf_file", "cache_dir")
            self._config = ModelSource(name, **{option: self.hparams[option] for option in names}).config()
        return self._config

    def serve(self, module: Any) -> None:
        """Takes tokenizer, configuration and description from a module without a Trainer, as from that of a run."""
        self._served = module

    @property
    def _module(self) -> Any:
        return self.trainer.lightning_module if self.trainer else self._served
