"""What lets a checkpoint stand alone: configuration, description and the tokenizer's files, as plain text."""

import base64
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from lit_ft.errors import UserError
from lit_ft.ops.building.models import ModelSource

KEY = "lit_ft"
BINARY = "base64:"
SHARDS_EXTRAS = "meta.pt"
"""The file in a folder of shards that holds all but weights and optimizer, by Lightning's name."""


def pack(
    description: dict[str, Any], config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase | None
) -> dict[str, Any]:
    """Returns plain values that a checkpoint stores under `lit_ft`; loadable with `weights_only=True`."""
    return {
        "description": json.dumps(description),
        "config": config.to_json_string(use_diff=False),
        "tokenizer": {} if tokenizer is None else tokenizer_files(tokenizer),
    }


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a tokenizer's files, the code of a class of its own, too, so that they can be opened again.

    For a class without "Tokenizer" in its name transformers writes one name where it reads a pair, of slow and fast.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    if getattr(tokenizer, "_auto_class", None) is None or not path.is_file():
        return
    values = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(name := values["auto_map"]["AutoTokenizer"], str):
        values["auto_map"]["AutoTokenizer"] = [None, name] if tokenizer.is_fast else [name, None]
        path.write_text(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def tokenizer_files(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Returns the files that `save_pretrained` writes, by name; binary ones in base64."""
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, Path(folder))
        files = {}
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):  # templates lie in a folder
            name = path.relative_to(folder).as_posix()
            try:
                files[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                files[name] = BINARY + base64.b64encode(path.read_bytes()).decode()
        return files


def load_tokenizer_files(files: dict[str, str], trust_remote_code: bool = False) -> PreTrainedTokenizerBase | None:
    """Rebuilds the tokenizer from its files.

    Args:
        files: what `tokenizer_files` returned.
        trust_remote_code: run code that is among them.

    Raises:
        UserError: the tokenizer has a class of its own, and its code is not to be run.
    """
    if not files:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            data = base64.b64decode(content.removeprefix(BINARY)) if content.startswith(BINARY) else content.encode()
            path = Path(folder, *(part for part in Path(name).parts if part not in ("/", "..")))  # never outside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            return AutoTokenizer.from_pretrained(  # type: ignore[no-any-return]
                folder, trust_remote_code=trust_remote_code
            )
        except ValueError as error:
            if trust_remote_code or "trust_remote_code" not in str(error):
                raise
            raise UserError(
                "the checkpoint's tokenizer is of a class of its own, whose code is not run: if you trust it, set "
                "model.trust_remote_code: true"
            ) from None


def load_config(text: str, source: ModelSource | None = None) -> PreTrainedConfig:
    """Rebuilds the configuration.

    Args:
        text: what `pack` stored of it.
        source: where the model came from; a class that transformers does not know is taken from there.

    Raises:
        UserError: transformers does not know its class, and its code is not to be run or is not there.
    """
    values = json.loads(text)
    name = values.pop("model_type")
    if name in CONFIG_MAPPING:
        return AutoConfig.for_model(name, **values)  # type: ignore[no-any-return]
    if source is None or not source.trust_remote_code:
        raise UserError(
            f"the checkpoint's model_type {name!r} is none of transformers', and code beside a model is not run: if "
            "you trust it, set model.trust_remote_code: true"
        )
    found = replace(source, config_overrides=None).config()
    if found.model_type != name:
        raise UserError(
            f"the checkpoint's model_type is {name!r}, that of {source.config_name or source.model_name_or_path!r} "
            f"{found.model_type!r}: set model_name_or_path to the model that it was trained from"
        )
    return type(found)(**values)


def read_extras(path: str | Path) -> dict[str, Any]:
    """Reads what `pack` stored, hyperparameters, epoch and step, without loading the weights into memory.

    Args:
        path: a file, or a folder of shards.

    Raises:
        UserError: the file is no checkpoint of ours.
    """
    path = Path(path)
    try:
        checkpoint = torch.load(
            path / SHARDS_EXTRAS if path.is_dir() else path, map_location="cpu", weights_only=True, mmap=True
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a checkpoint that can be read safely: {reason}") from None
    if KEY not in checkpoint:
        raise UserError(f"{path}: not a checkpoint of lit_ft (no {KEY!r} in it)")
    place = {name: checkpoint.get(name, 0) for name in ("epoch", "global_step")}
    return {**checkpoint[KEY], **place, "hyper_parameters": dict(checkpoint.get("hyper_parameters", {}))}
