"""What lets a checkpoint stand alone: configuration, description and the tokenizer's files, as plain text."""

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from lit_ft.errors import UserError

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


def tokenizer_files(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """Returns the files that `save_pretrained` writes, by name; binary ones in base64."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {}
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):  # templates lie in a folder
            name = path.relative_to(folder).as_posix()
            try:
                files[name] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                files[name] = BINARY + base64.b64encode(path.read_bytes()).decode()
        return files


def load_tokenizer_files(files: dict[str, str]) -> PreTrainedTokenizerBase | None:
    """Rebuilds the tokenizer from its files."""
    if not files:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            data = base64.b64decode(content.removeprefix(BINARY)) if content.startswith(BINARY) else content.encode()
            path = Path(folder, *(part for part in Path(name).parts if part not in ("/", "..")))  # never outside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return AutoTokenizer.from_pretrained(folder)  # type: ignore[no-any-return]


def load_config(text: str) -> PreTrainedConfig:
    """Rebuilds the configuration."""
    values = json.loads(text)
    return AutoConfig.for_model(values.pop("model_type"), **values)  # type: ignore[no-any-return]


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
