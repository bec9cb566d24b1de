"""A LightningModule that is compared with the model its training began with.

Three ways to have that model: the adapter switched off, its log-probabilities computed before training begins, or a
second model in memory.
"""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from lit_ft.data.caching.cache import find, once, preparation_root
from lit_ft.data.caching.digests import digest
from lit_ft.errors import UserError
from lit_ft.modules.standalone import StandaloneModule
from lit_ft.modules.standalone import digest as digest_of_weights
from lit_ft.ops.adapters.injecting import without_adapter
from lit_ft.ops.adapters.prompts import is_prompt
from lit_ft.ops.building.checkpoint_extras import KEY
from lit_ft.ops.building.models import ModelSource
from lit_ft.ops.building.sharding import is_sharded
from lit_ft.ops.heads.log_prob_table import LogProbTable, keys_of

log = logging.getLogger("lit_ft")

Batch = dict[str, Any]


class ReferenceModule(StandaloneModule):
    """Reads the hyperparameter `precompute_ref_log_probs`."""

    source: ModelSource
    _datamodule: Any
    _table: LogProbTable | None = None
    _reference_digest: str | None = None

    @property
    def compares(self) -> bool:
        """Says whether there is a reference at all."""
        return True

    @property
    def may_precompute(self) -> bool:
        """Says whether all that the reference will be asked for is known before training."""
        return True

    @abstractmethod
    def reply_log_probs(self, batch: Batch) -> Tensor:
        """Returns the log-probability of each row's labelled tokens, summed, `[rows]`."""

    def check_reference(self) -> None:
        """Refuses what leaves no reference.

        Raises:
            UserError: with the fix.
        """
        if self.compares and self.source.model_name_or_path is None:
            raise UserError("the loss compares with the model that training began with: set model_name_or_path")
        if self.compares and isinstance(self.hparams["peft"], dict) and is_prompt(self.hparams["peft"]):
            raise UserError(f"peft: {self.hparams['peft']['peft_type']} is no part of layers to switch off: use LORA")
        if self.hparams["precompute_ref_log_probs"] and not (self.compares and self.may_precompute):
            raise UserError("loss_type: there is nothing to compute before training: take precompute_ref_log_probs out")

    def on_fit_start(self) -> None:
        """Makes the reference ready while the model still is the one that training begins with."""
        super().on_fit_start()
        self.__dict__.pop("_twin_module", None)
        self._table = None
        if not self.compares:
            return
        wanted = self.hparams["precompute_ref_log_probs"]
        if wanted is None:
            wanted = not self._is_the_base and self._knows_all_rows and self.may_precompute and not self._dry
        if wanted and not self._knows_all_rows:
            raise UserError(
                "precompute_ref_log_probs needs PreferenceDataModule, without streaming, to know all rows: set it false"
            )
        if wanted:
            self._table = self._precomputed()
        elif not self._is_the_base:
            _ = self._twin

    @torch.no_grad()
    def reference_log_probs(self, batch: Batch) -> Tensor:
        """Returns the log-probability of each row's labelled tokens under the reference, summed, `[rows]`."""
        found = self._table.find(keys_of(batch)) if self._table is not None else None
        if found is not None:
            return found.to(self.device, non_blocking=True)
        with self._evaluating(self if self._is_the_base else self._twin) as model:
            return model.reply_log_probs(batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds which model the reference was; see the base."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[KEY]["reference"] = self._reference_digest

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes which model the reference was, for the weights at hand are no longer its; see the base."""
        super().on_load_checkpoint(checkpoint)
        self._reference_digest = checkpoint[KEY].get("reference")

    def restore(self, extras: dict[str, Any]) -> None:
        """Takes which model the reference was; see the base."""
        super().restore(extras)
        self._reference_digest = extras.get("reference")

    @contextmanager
    def _evaluating(self, module: "ReferenceModule") -> Iterator["ReferenceModule"]:
        assert module.model is not None
        training = module.model.training
        module.model.train(False)
        try:
            with without_adapter(module.model) if module is self and self._is_the_base else nullcontext():
                yield module
        finally:
            module.model.train(training)

    @property
    def _is_the_base(self) -> bool:
        """Says whether the model without its adapter is the one that training began with."""
        return isinstance(self.hparams["peft"], dict) and self.source.adapter is None

    @property
    def _knows_all_rows(self) -> bool:
        data = self._datamodule
        return hasattr(data, "every_batch") and not data.hparams["streaming"] and "prepared" in self.description

    @property
    def _dry(self) -> bool:
        return bool(getattr(self.trainer, "fast_dev_run", False))

    @property
    def _twin(self) -> "ReferenceModule":
        """The model that training began with, once more; it is no part of this module, nor of checkpoints."""
        if "_twin_module" not in self.__dict__:
            assert self.model is not None
            # LightningCLI adds keys of its own
            twin = type(self)(**{name: value for name, value in self.hparams.items() if not name.startswith("_")})
            twin.description, twin.restored_tokenizer = self.description, self.tokenizer
            twin._trainer, twin._device_mesh = self._trainer, self._device_mesh
            if self._reference_digest is None and not is_sharded(self.model):  # exact, fresh weights included
                twin.model = deepcopy(self.model)
                self._reference_digest = self._digest_of(twin)
            elif self._trainer is None:  # without a Trainer, configure_model waits for one
                twin.build()
            else:
                twin.configure_model()
            twin.to(self.device).requires_grad_(False)
            self._check_twin(twin)
            log.info("training is compared with a second model in memory (precompute_ref_log_probs, peft)")
            self.__dict__["_twin_module"] = twin
        return self.__dict__["_twin_module"]  # type: ignore[no-any-return]

    def _check_twin(self, twin: "ReferenceModule") -> None:
        if self._reference_digest not in (None, self._digest_of(twin)):
            raise UserError(
                f"the model that training began with cannot be had any more: {self.source.model_name_or_path!r} has "
                "other weights now (or some of them were fresh then)"
            )

    def _precomputed(self) -> LogProbTable:
        root = preparation_root(getattr(self._datamodule, "hparams", {}).get("preparation_dir"))
        new = self._reference_digest is None
        if new:
            self._reference_digest = self._digest_of(self)
        key = {
            "reference": self._reference_digest,
            "options": {"model_name_or_path": self.source.model_name_or_path},
            "prepared": self.description["prepared"],
            "precision": str(self.trainer.precision),
        }
        known = find(digest(key), root) if self._reference_digest else None
        if not self.trainer.strategy.broadcast(known is not None):
            keys, values = self._gathered(self if new or self._is_the_base else self._twin)
            if self.local_rank == 0:
                nameless = self._reference_digest is None
                once(key, lambda folder: LogProbTable.write(folder, keys, values), root, overwrite=nameless)
            self.trainer.strategy.barrier()
            self.__dict__.pop("_twin_module", None)
        table = LogProbTable(root / digest(key))
        log.info(f"log-probabilities of {len(table) - 1:,} replies before training: {root / digest(key)}")
        return table

    @staticmethod
    def _digest_of(module: "ReferenceModule") -> str | None:
        """Returns a digest of a model's weights; `None` where no process has them all."""
        assert module.model is not None
        return None if is_sharded(module.model) else digest_of_weights(dict(module.model.state_dict()))

    @torch.no_grad()
    def _gathered(self, module: "ReferenceModule") -> tuple[Any, Any]:
        """Runs the reference on all rows; returns their keys and log-probabilities, those of all processes."""
        keys, values = [np.zeros(0, np.uint64)], [np.zeros(0, np.float32)]
        with self._evaluating(module) as model, self.trainer.precision_plugin.forward_context():
            for batch in self._datamodule.every_batch():
                keys.append(keys_of(batch))
                moved = self.trainer.strategy.batch_to_device(batch, self.device)
                values.append(model.reply_log_probs(moved).float().cpu().numpy())
        mine = (np.concatenate(keys), np.concatenate(values))
        if self.trainer.world_size == 1:
            return mine
        every: list[Any] = [None] * self.trainer.world_size
        distributed.all_gather_object(every, mine)
        return np.concatenate([each[0] for each in every]), np.concatenate([each[1] for each in every])
