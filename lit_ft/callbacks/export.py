"""`hf/`: the best checkpoint as an ordinary Hugging Face folder, checked before it appears, whole or not at all."""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from safetensors import SafetensorError
from torch import Tensor

from lit_ft import made_with
from lit_ft.callbacks.base import RunCallback
from lit_ft.callbacks.hub import HubRepository
from lit_ft.callbacks.model_card import model_card
from lit_ft.callbacks.whole_files import sync, sync_files
from lit_ft.errors import UserError
from lit_ft.ops.adapters.injecting import SUBFOLDER
from lit_ft.ops.building.checkpoint_extras import KEY, load_config, load_tokenizer_files, save_tokenizer
from lit_ft.ops.building.models import BASE_GGUF
from lit_ft.ops.building.sharding import is_sharded, whole
from lit_ft.runs import EXPORT, read_checkpoint

log = logging.getLogger("lit_ft")
TOLERANCE = 1e-4


class HFExport(RunCallback):
    """Writes the best model (the last one where nothing is monitored) for `AutoModelFor*` and `pipeline`.

    Args:
        enabled: write it at the end of fit.
        on_improvement: write it also each time a better checkpoint is saved.
        merge_adapter: write the whole model with the adapter in its weights, instead of a folder of the adapter.
        push_to_hub: upload the folder at the end of fit. The token is that of `HF_TOKEN` or `hf auth login`.
        hub_model_id: the repository to push to, `namespace/name`; it is made where there is none.
        hub_private_repo: a new repository is private, an old one has to be. Default: as the namespace has it.
        hub_revision: branch to push to. Default: `main`.
    """

    def __init__(
        self,
        enabled: bool = True,
        on_improvement: bool = False,
        merge_adapter: bool = False,
        push_to_hub: bool = False,
        hub_model_id: str | None = None,
        hub_private_repo: bool | None = None,
        hub_revision: str | None = None,
    ) -> None:
        self.enabled, self.on_improvement, self.merge_adapter = enabled, on_improvement, merge_adapter
        if push_to_hub and not enabled:
            raise UserError("export.push_to_hub pushes what is exported, but export.enabled is false")
        self.hub = HubRepository(hub_model_id, hub_private_repo, hub_revision) if push_to_hub else None
        self.folder: Path | None = None
        self._sample: dict[str, Tensor] | None = None
        self._exported: float | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes sure, before hours are spent, that the folder can be pushed; every process hears of it.

        Raises:
            UserError: it cannot.
        """
        super().setup(trainer, pl_module, stage)
        if self.hub is None or self.run is None or stage != "fit":
            return
        if not hasattr(pl_module, "sample_inputs"):
            raise UserError(f"export.push_to_hub: {type(pl_module).__name__} is none of lit_ft's modules: no export")
        refused = ""
        if trainer.is_global_zero:
            try:
                self.hub.open()
            except UserError as error:
                refused = str(error)
        if refused := trainer.strategy.broadcast(refused):
            raise UserError(refused)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keeps a few rows for the check; exports, when asked to, what became the best since the last batch."""
        if self._sample is None and self.enabled and hasattr(pl_module, "sample_inputs"):
            self._sample = {name: value.cpu() for name, value in pl_module.sample_inputs(batch).items()}
        score = getattr(trainer.checkpoint_callback, "best_model_score", None)
        if self.on_improvement and score is not None and float(score) != self._exported:
            self._export_best(trainer, pl_module)
            self._exported = float(score)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Exports the best checkpoint, and pushes it; a push that fails is said, and loses nothing."""
        if self.enabled:
            self._export_best(trainer, pl_module)
        if self.hub is not None and self.run is not None and trainer.is_global_zero:
            if self.folder is None:
                log.warning(f"nothing was exported, so nothing is pushed to {self.hub.model_id}")
                return
            try:
                self.hub.push(self.folder)
            except UserError as error:
                log.warning(str(error))

    def _export_best(self, trainer: Trainer, module: Any) -> None:
        if self.run is None or self._sample is None:
            return
        callback: Any = trainer.checkpoint_callback
        paths = [getattr(callback, name, "") for name in ("best_model_path", "last_model_path")]
        path = next((path for path in paths if path and Path(path).exists()), "")  # a full disk may have taken none
        checkpoint: dict[str, Any] = {}
        if not path:  # all processes
            checkpoint["state_dict"] = {name: whole(value) for name, value in module.state_dict().items()}
            module.on_save_checkpoint(checkpoint)
        if not trainer.is_global_zero:
            return
        checkpoint = checkpoint or read_checkpoint(Path(path))
        module.complete(checkpoint)
        self.folder = export(module, checkpoint, self.run / EXPORT, self._sample, self.merge_adapter, self.run)


def export(
    module: Any,
    checkpoint: dict[str, Any],
    target: Path,
    sample: dict[str, Tensor] | None,
    merge: bool = False,
    run: Path | None = None,
) -> Path:
    """Writes a checkpoint of a module as a Hugging Face folder.

    Args:
        module: the built module; its own weights stay as they are.
        checkpoint: a checkpoint of this module, loaded.
        target: the folder; an older one is replaced at the very end.
        sample: inputs on which folder and checkpoint must give the same scores.
        merge: an adapter's weights are added to those of the model.
        run: the folder of the run that the checkpoint is of, for the card.

    Raises:
        RuntimeError: they do not; nothing is left behind.
        UserError: the folder cannot be written; the older one stays.
    """
    state = {
        name.removeprefix("model."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("model.")
    }
    extras = checkpoint[KEY]
    working = target.with_name(f".{target.name}.writing")
    shutil.rmtree(working, ignore_errors=True)
    try:
        config = load_config(extras["config"], module.source)
        config.architectures = [type(module.model).__name__]
        adapter = module.adapter is not None and not merge
        if adapter and module.source.gguf_file is not None:
            setattr(config, BASE_GGUF, module.source.gguf_file)
        if module.adapter is None:
            module.model.save_pretrained(working, state_dict=dict(state))  # it empties what it is given
        else:
            module.write_adapter(state, working)
        if merge and module.adapter is not None:
            model = module.merged(config, working)
            shutil.rmtree(working)
            model.save_pretrained(working)
        if not adapter:
            config.__dict__.pop(BASE_GGUF, None)
        config.save_pretrained(working / SUBFOLDER if adapter else working)
        for code in (working / SUBFOLDER).glob("*.py"):  # of a class of its own; transformers looks for it above
            shutil.copy(code, working)
        _write_beside(module, checkpoint, working, adapter, run)
        if sample is not None:
            _check(module, state, working, sample)
        sync_files(working)
        _put(working, target)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{target} could not be written: {getattr(error, 'strerror', None) or error}") from None
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return target


def _write_beside(module: Any, checkpoint: dict[str, Any], folder: Path, adapter: bool, run: Path | None) -> None:
    """Writes what belongs to the weights: tokenizer, what other libraries need, how rows were read, and the card."""
    extras = checkpoint[KEY]
    tokenizer = load_tokenizer_files(extras["tokenizer"], module.source.trust_remote_code)
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)
    module.write_extras(folder)
    made_with.write(folder, made_with.of_module(extras["class_path"], module._datamodule, run))
    (folder / "README.md").write_text(model_card(module, checkpoint, adapter, run), encoding="utf-8")


def _put(working: Path, target: Path) -> None:
    """Moves a folder to its place, where an older one may be."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    working.rename(target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@torch.no_grad()
def _check(module: Any, state: dict[str, Tensor], folder: Path, sample: dict[str, Tensor]) -> None:
    reloaded = module.reopened(folder).eval()
    model = module.model
    if is_sharded(model):  # one process alone cannot run it
        model = module.blank(reloaded.config)
    training, device = model.training, next(model.parameters()).device
    model.eval()
    here = {name: value.to(device) for name, value in sample.items()}
    # weights of a few bits are what they were, and no plain tensors
    weights = {name: value.to(device) for name, value in state.items() if value.is_floating_point()}
    ours = module.scores(module.run_with(model, weights, here)).float().cpu()
    model.train(training)
    difference = float((module.scores(reloaded(**sample)).float() - ours).abs().max())
    exact = next(iter(state.values())).dtype == torch.float32
    if not difference <= (TOLERANCE if exact else 0.1):
        raise RuntimeError(f"the exported folder does not reproduce the module's scores (difference {difference:.2e})")
