"""The parser of the command line: an option that is not there is answered with its place, or the closest name."""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import NoReturn

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser
from transformers import GenerationConfig

import lit_ft
from lit_ft.errors import UserError, did_you_mean
from lit_ft.objects import import_name, option_defaults

OTHERWISE = {
    "max_seq_length": "data.block_size",
    "block_size": "data.max_seq_length",
    "warmup_steps": "model.num_warmup_steps",
    "output_dir": "trainer.default_root_dir",
    "num_train_epochs": "trainer.max_epochs",
    "gradient_accumulation_steps": "trainer.accumulate_grad_batches",
    "max_grad_norm": "trainer.gradient_clip_val",
    "seed": "seed_everything",
    "bf16": "trainer.precision",
    "fp16": "trainer.precision",
    "optim": "optimizer",
    "report_to": "trainer.logger",
    "logging_steps": "trainer.log_every_n_steps",
    "eval_strategy": "trainer.check_val_every_n_epoch",
    "eval_steps": "trainer.val_check_interval",
    "save_steps": "checkpoint.every_n_train_steps",
    "save_total_limit": "checkpoint.save_top_k",
    "metric_for_best_model": "checkpoint.monitor",
    "greater_is_better": "checkpoint.mode",
    "resume_from_checkpoint": "ckpt_path",
    "per_device_train_batch_size": "data.batch_size",
    "per_device_eval_batch_size": "data.eval_batch_size",
    "dataloader_num_workers": "data.num_workers",
    "deepspeed": "trainer.strategy",
    "fsdp": "trainer.strategy",
}
"""Options that another task, the Trainer or Lightning call otherwise; the whole list: docs/coming_from/trainer.md."""

HERE = " — here it is"


class Parser(LightningArgumentParser):
    """Lightning's parser, whose errors name the fix."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends the command with the message; see `ArgumentParser.error`.

        Raises:
            UserError: always, but for what jsonargparse raises to try another reading of a value.
        """
        if unknown := re.search(r"class_path '([\w.]+)':\s*Option '(\w+)' is not accepted", message):
            wing, known = _wing(unknown[1])
            hint = where(unknown[2], self._sections(unknown[1]) | {wing: known - {unknown[2]}}, wing)
            if unknown[2] in known and not hint.startswith(HERE):
                raise UserError(f"{unknown[1]} settles {unknown[2]!r} by itself: leave it out")
            raise UserError(f"{unknown[1]} has no option {unknown[2]!r}{hint}")
        if not self.exit_on_error:
            super().error(message, ex)
        if strange := re.match(r"unrecognized arguments: --([^\s=]+)", message):
            message += where(strange[1], self._sections())
        raise UserError(f"{message}\nall options: {self.prog.replace(' [options]', '')} --help")

    def _sections(self, beside: str = "") -> dict[str, set[str]]:
        """The options of each section; those of the wings are of the task of this class, or of all that ship."""
        found: dict[str, set[str]] = {"model": set(), "data": set()}
        task = re.sub(r".*\.|(Data)?Module$", "", beside)
        ours = [name for name in lit_ft.__all__ if name.endswith("Module")]
        for name in [each for each in ours if each in (f"{task}Module", f"{task}DataModule")] or ours:
            wing, known = _wing(f"lit_ft.{name}")
            found[wing] |= known
        for words in (words for action in self._actions for words in action.option_strings if words.startswith("--")):
            section, dot, option = words[2:].partition(".")
            found.setdefault(section if dot else "", set()).add(option if dot else section)
        return found


def where(name: str, sections: Mapping[str, Collection[str]], own: str = "") -> str:
    """Says where an option is that is not where it was sought.

    Args:
        name: of the option, perhaps with its section: `trainer.num_train_epochs`.
        sections: the names of options by section, such as `model` and `data`; under "" those of none.
        own: the section where it was sought, if it is known.

    Returns:
        The rest of a sentence; empty where nothing is like it.
    """
    section, _, bare = name.rpartition(".")
    full = {f"{part}.{option}".lstrip("."): option for part, options in sections.items() for option in options}
    homes = [known for known, option in full.items() if option == bare and known != name]
    if OTHERWISE.get(bare) in full:
        homes.append(OTHERWISE[bare])
    if homes:
        return f"{HERE} --{homes[0]}"
    if hasattr(GenerationConfig(), bare) and "generation" in sections["model"]:
        return f"{HERE} a part of --model.generation: '{{{bare}: ...}}'"
    if own or (section and section in sections):
        return did_you_mean(bare, sections[own or section])
    places = {option: known for known, option in full.items()} | {known: known for known in full}
    close = get_close_matches(name, places, n=1)
    return f" — did you mean '--{places[close[0]]}'?" if close else ""


def _wing(class_path: str) -> tuple[str, set[str]]:
    kind = import_name(class_path)
    return "data" if issubclass(kind, LightningDataModule) else "model", {*option_defaults(kind)}
