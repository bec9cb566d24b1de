"""`lit-ft export --ckpt_path X --out DIR`: any checkpoint as an ordinary Hugging Face folder, without data or hub."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_ft.callbacks.export import export as write
from lit_ft.callbacks.hub import HubRepository
from lit_ft.errors import UserError
from lit_ft.loading import load
from lit_ft.runs import find_checkpoint, run_of
from lit_ft.screen import quiet, speak

log = logging.getLogger("lit_ft")


def export(arguments: list[str] | None = None) -> Path:
    """Runs `lit-ft export`.

    Args:
        arguments: the words after `export`, those of the command line by default.

    Returns:
        The folder.

    Raises:
        UserError: no checkpoint of ours, a class that is not named by the user, or a hub that does not take it.
    """
    options = parser().parse_args(sys.argv[2:] if arguments is None else arguments)
    hub = _hub(options)
    quiet()
    speak()
    path, target = find_checkpoint(options.ckpt_path, Path(options.default_root_dir)), Path(options.out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not options.overwrite:
        raise UserError(f"{target} is there already: another --out, or --overwrite")
    if hub is not None:
        hub.open()
    module, checkpoint = load(path, options.class_path, options.trust_remote_code)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = write(module, checkpoint, target, sample_of(module), options.merge, run_of(path))
    log.info(f"model: {written}")
    if hub is not None:
        hub.push(written)
    return target


def sample_of(module: Any) -> dict[str, Tensor]:
    """Returns a row of tokens on which folder and checkpoint must give the same scores."""
    tokenizer = module.tokenizer
    if tokenizer is None:
        ids = torch.arange(1, 9)[None] % module.model.config.get_text_config().vocab_size
        return module.text_sample({"input_ids": ids})  # type: ignore[no-any-return]
    words = " ".join(sorted(tokenizer.get_vocab(), key=len)[-3:])
    taken = tokenizer.model_input_names
    tokens = {name: value for name, value in tokenizer(words, return_tensors="pt").items() if name in taken}
    return module.text_sample(tokens)  # type: ignore[no-any-return]


def _hub(options: argparse.Namespace) -> HubRepository | None:
    given = (options.hub_model_id, options.hub_private_repo, options.hub_revision)
    if not options.push_to_hub and given != (None, None, None):
        raise UserError("--hub_model_id, --hub_private_repo and --hub_revision need --push_to_hub beside them")
    return HubRepository(*given) if options.push_to_hub else None


def parser() -> argparse.ArgumentParser:
    """Returns the options."""
    made = argparse.ArgumentParser(prog="lit-ft export", description=__doc__)
    made.add_argument("--ckpt_path", required=True, help="a file, a sharded folder, a run's folder, last or best")
    made.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    made.add_argument("--overwrite", action="store_true", help="replace the folder, at the very end")
    made.add_argument("--merge", action="store_true", help="add an adapter to the model's weights: an ordinary model")
    made.add_argument("--push_to_hub", action="store_true", help="upload the folder (HF_TOKEN, or hf auth login)")
    made.add_argument("--hub_model_id", metavar="ID", help="the repository to push to, namespace/name")
    made.add_argument("--hub_private_repo", action="store_true", default=None, help="a new repository is private")
    made.add_argument("--hub_revision", metavar="BRANCH", help="branch to push to (default main)")
    made.add_argument("--class_path", help="class of the module, where it is a subclass of your own")
    made.add_argument("--trust_remote_code", action="store_true", help="run code beside the model, if you trust it")
    made.add_argument("--default_root_dir", default="runs", help="where last and best are looked for (default runs)")
    return made
