"""Checkpoints that stand alone: configuration, description and tokenizer travel in the file beside the weights."""

import hashlib
import json
import logging
from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from lit_ft.errors import UserError
from lit_ft.modules.normaliser import LossNormaliser
from lit_ft.ops.adapters.quantizing import quantized_parts
from lit_ft.ops.building.checkpoint_extras import KEY, load_config, load_tokenizer_files, pack
from lit_ft.ops.building.models import ModelSource
from lit_ft.ops.building.sharding import is_sharded

log = logging.getLogger("lit_ft")


class StandaloneModule(LightningModule):
    """Saves and restores all that a module is made of; see `TransformerModule`.

    With the option `save_trainable_only`, or an adapter, frozen weights that are still those of
    `model_name_or_path` stay out of the file; they are read from there again, and a digest says whether they are the
    same. Not under FSDP2, whose strategy reads its files itself.

    Args:
        save_trainable_only: leave frozen weights out of checkpoints; they are read from `model_name_or_path` again.

    Attributes:
        model: the Hugging Face model, once it is built.
        description: what the data said of itself.
        hf_config: the configuration of a checkpoint that is being restored.
        restored_tokenizer: the tokenizer of that checkpoint.
        pretrained_weights: names of parameters that are still those of `model_name_or_path`.
        source: where the model came from.
        adapter: the keys of an adapter's configuration, if there is one.
    """

    reads_rows_by: tuple[str, ...] = ()
    """What of the description, beside labels, decides how rows are read."""
    source: ModelSource
    adapter: dict[str, Any] | None
    step_seed: int | None
    _frozen_digest: str | None = None
    _left_out: frozenset[str] | None = None

    def __init__(self, *, save_trainable_only: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)  # those of all classes that have called this one
        self.model: PreTrainedModel | None = None
        self.description: dict[str, Any] = {}
        self.hf_config: PreTrainedConfig | None = None
        self.restored_tokenizer: PreTrainedTokenizerBase | None = None
        self.pretrained_weights: set[str] = set()
        self._normaliser = LossNormaliser()

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """As Lightning's; code beside a model is run where the caller says so (`trust_remote_code`), not the file."""
        return super().load_from_checkpoint(checkpoint_path, **{"trust_remote_code": False, **kwargs})

    @property
    def known_description(self) -> dict[str, Any]:
        """The description, with what the data at hand say over it."""
        return {**self.description, **getattr(self._datamodule, "description", {})}

    @property
    def _datamodule(self) -> Any:
        return getattr(self._trainer, "datamodule", None)

    @abstractmethod
    def build(self) -> PreTrainedModel:
        """Builds `self.model`."""

    @property
    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer that is saved."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration, the description and the tokenizer's files; leaves out weights that lie elsewhere."""
        assert self.model is not None
        checkpoint[KEY] = pack(self.description, self.model.config, self.tokenizer)
        checkpoint[KEY]["class_path"] = f"{type(self).__module__}.{type(self).__qualname__}"
        checkpoint[KEY]["loss"] = self._normaliser.state(self)
        checkpoint[KEY]["step_seed"] = self.step_seed
        checkpoint[KEY]["peft"] = json.dumps(self.adapter)
        metrics = self.trainer.callback_metrics if self._trainer is not None else {}
        checkpoint[KEY]["metrics"] = {name: float(value) for name, value in metrics.items()}
        if (self.hparams.get("save_trainable_only") or self.adapter) and not is_sharded(self):
            self._leave_out_frozen(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Builds the model from the checkpoint, where it is not built yet; adds weights that were left out.

        Raises:
            UserError: no checkpoint of ours, one with other labels, or one that left out other weights.
        """
        if KEY not in checkpoint:
            raise UserError(f"not a checkpoint of lit_ft (no {KEY!r} in it)")
        self._normaliser.load(checkpoint[KEY]["loss"], self)
        self.step_seed = checkpoint[KEY].get("step_seed")
        if self.model is None:
            self.restore(checkpoint[KEY])
            self.build()
        self._check_known(json.loads(checkpoint[KEY]["description"]))
        self.complete(checkpoint)

    def _check_known(self, theirs: dict[str, Any]) -> None:
        """Makes sure that rows were read as the checkpoint has them read: a module made freshly does not know of it."""
        ours = self.description
        if theirs.get("labels") != ours.get("labels"):
            raise UserError(
                f"the checkpoint's labels are {theirs.get('labels')}, the data's {ours.get('labels')}; load it with "
                "load_from_checkpoint"
            )
        for name in self.reads_rows_by:
            if theirs.get(name) and not ours.get(name):
                raise UserError(
                    f"the checkpoint was trained with {name} ({theirs[name]}), of which this module knew nothing when "
                    f"rows were read: load it with {type(self).__name__}.load_from_checkpoint"
                )

    def restore(self, extras: dict[str, Any]) -> None:
        """Takes configuration, description and tokenizer from a checkpoint's extras; the weights follow from Lightning.

        Args:
            extras: what `lit_ft.ops.building.checkpoint_extras.read_extras` returns.
        """
        self.description = json.loads(extras["description"])
        self.hf_config = load_config(extras["config"], self.source)
        self.restored_tokenizer = load_tokenizer_files(extras["tokenizer"], self.source.trust_remote_code)
        self._frozen_digest = extras.get("frozen")
        self.adapter = json.loads(extras.get("peft", "null"))

    @property
    def needs_pretrained(self) -> bool:
        """Says whether the checkpoint that is being restored left out weights of `model_name_or_path`."""
        return self._frozen_digest is not None

    def complete(self, checkpoint: dict[str, Any]) -> None:
        """Puts frozen weights that a checkpoint left out into its `state_dict`, from the model at hand.

        Raises:
            UserError: the model at hand has others.
        """
        saved = checkpoint[KEY].get("frozen")
        if saved is None:
            return
        own, state = self.state_dict(), checkpoint["state_dict"]
        missing = {name: value for name, value in own.items() if name not in state}
        if digest(missing) != saved:
            raise UserError(
                f"the checkpoint left {len(missing)} frozen weights out, and those of "
                f"{self.hparams.get('model_name_or_path')!r} are others now: set model_name_or_path to the model that "
                "it was trained from"
            )
        # the scales of quantized weights are in the model already, and nobody loads them from here
        parts = self._quantized_parts(own)
        checkpoint["state_dict"] = {name: state.get(name, value) for name, value in own.items() if name not in parts}

    def _quantized_parts(self, state: dict[str, Any]) -> set[str]:
        if not getattr(self.model, "is_quantized", False):
            return set()
        return quantized_parts(state, (name for name, _ in self.named_parameters(remove_duplicate=False)))

    def _leave_out_frozen(self, checkpoint: dict[str, Any]) -> None:
        trained = {name for name, value in self.named_parameters(remove_duplicate=False) if value.requires_grad}
        self.pretrained_weights -= trained  # for good: what is frozen later is no longer what it was
        state = checkpoint["state_dict"]
        parts = self._quantized_parts(state)
        left_out = frozenset((state.keys() & self.pretrained_weights) | parts)
        if left_out != self._left_out:  # once: they do not change
            self._left_out = left_out
            self._frozen_digest = digest({name: state[name] for name in left_out}) if left_out else None
            total = sum(value.numel() for value in state.values())
            saved = sum(value.numel() for name, value in state.items() if name not in left_out)
            why = "" if left_out else ": no weights are frozen that lie elsewhere (model.freeze)"
            option = "adapter" if self.adapter else "save_trainable_only"
            log.info(f"{option}: checkpoints hold {saved:,} of {total:,} weights{why}")
        if left_out:
            checkpoint[KEY]["frozen"] = self._frozen_digest
            checkpoint["state_dict"] = {name: value for name, value in state.items() if name not in left_out}


def digest(weights: dict[str, Tensor]) -> str:
    """Returns a SHA-256 over names and values, in the order of names."""
    made = hashlib.sha256()
    for name in sorted(weights):
        made.update(name.encode())
        made.update(weights[name].detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return made.hexdigest()
