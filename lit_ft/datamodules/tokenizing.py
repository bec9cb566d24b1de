"""A LightningDataModule with the tokenizer of its model: from the checkpoint that the run starts from, or by name."""

import logging
from functools import cached_property
from typing import Any, get_args

from lightning.pytorch import LightningDataModule
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from lit_ft.data.tokenizing.texts import PairRule, TextEncoder, TruncationSide, add_tokens_to, load_tokenizer
from lit_ft.errors import UserError
from lit_ft.ops.building.models import ModelSource
from lit_ft.ops.building.positions import longest_input
from lit_ft.ranges import AT_LEAST_ONE, check_choice, check_ranges

log = logging.getLogger("lit_ft")


class TokenizingDataModule(LightningDataModule):
    """The tokenizer, and how it cuts texts; see `TransformerDataModule`.

    Args:
        model_name_or_path: checkpoint whose tokenizer is used (hub name, folder, or `package://name/folder` inside an
            installed package). On the command line it follows the model's.
        tokenizer_name: tokenizer, where it is not the model's.
        model_revision: branch, tag or commit of the model on the hub.
        use_fast_tokenizer: use the Rust tokenizer where there is one.
        tokenizer_kwargs: further arguments of `AutoTokenizer.from_pretrained`, such as `do_lower_case`.
        trust_remote_code: run code that lies beside a checkpoint on the hub.
        gguf_file: name of the GGUF file in the model's folder.
        cache_dir: where downloads from the hub are kept.
        add_tokens: words to add to the vocabulary; on the command line it follows the model's.
        max_seq_length: most tokens of a feature, special tokens included.
        truncation_side: the part of a longer text that is kept: `first`, `last` or `head_and_tail`.
        stride: make windows that overlap by this many tokens instead of cutting longer texts.

    Raises:
        UserError: `tokenizer_kwargs` holds a secret, or `truncation_side` is none of these.
    """

    pair_rule: PairRule = "longest_first"
    """Which text of a pair is cut."""
    _tokenizer: PreTrainedTokenizerBase | None = None
    _config: PreTrainedConfig | None = None
    _served: Any = None

    def __init__(
        self,
        *,
        model_name_or_path: str | None = None,
        tokenizer_name: str | None = None,
        model_revision: str = "main",
        use_fast_tokenizer: bool = True,
        tokenizer_kwargs: dict[str, Any] | None = None,
        trust_remote_code: bool = False,
        gguf_file: str | None = None,
        cache_dir: str | None = None,
        add_tokens: list[str] | None = None,
        max_seq_length: int | None = 128,
        truncation_side: TruncationSide = "first",
        stride: int | None = None,
    ) -> None:
        super().__init__()
        if secret := next((name for name in ("token", "use_auth_token") if name in (tokenizer_kwargs or {})), None):
            raise UserError(
                f"tokenizer_kwargs holds {secret!r}, which would be written to config.yaml and checkpoints: "
                "set HF_TOKEN in the environment, or log in with `hf auth login`"
            )
        # rows in memory are no hyperparameters: they would go into every checkpoint
        self.save_hyperparameters(ignore=["dataset", "sources"], logger=False)
        # what a task fixes for its users is on no command line, and Lightning saves only what is
        self.hparams.update(max_seq_length=max_seq_length, truncation_side=truncation_side, stride=stride)
        check_ranges(self.hparams, {"max_seq_length": AT_LEAST_ONE})
        check_choice(self.hparams, "truncation_side", get_args(TruncationSide))

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the checkpoint that the run starts from, else of `model_name_or_path`."""
        restored = getattr(self._module, "restored_tokenizer", None)
        if restored is not None:
            return restored  # type: ignore[no-any-return]
        if self._tokenizer is None:
            self._tokenizer = add_tokens_to(self.load_tokenizer(), self.hparams["add_tokens"])
            if self._tokenizer.truncation_side == "left" and self.hparams["truncation_side"] == "first":
                log.info("the tokenizer cuts long texts at the left; here their first part is kept (truncation_side)")
                self._tokenizer.truncation_side = "right"  # else the exported one would cut otherwise than training did
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
        most = options["max_seq_length"] or limit
        return TextEncoder(
            self.tokenizer, most, options["truncation_side"], options["stride"], pair_rule=self.pair_rule
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
    def known(self) -> dict[str, Any]:
        """What the module says of its data: of those that it was trained on; empty where it says nothing."""
        return getattr(self._module, "description", None) or {}

    @property
    def _module(self) -> Any:
        return self.trainer.lightning_module if self.trainer else self._served
