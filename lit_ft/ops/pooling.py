"""From the vectors of tokens to one of a text, and the files by which sentence-transformers does the same."""

import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lit_ft.ops.building.files_beside import file_beside

Pooling = Literal["mean", "cls", "last"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
MODES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
"""What sentence-transformers calls them in `1_Pooling/config.json`."""
HOME = "sentence_transformers.models"


def pooled(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Returns a vector for each text, `[texts, hidden]`.

    Args:
        hidden: of each token, `[texts, seq, hidden]`.
        mask: 1 where there is a token, `[texts, seq]`; padding on either side.
        pooling: `mean` of all tokens, `cls` (the first one), `last`.
    """
    if pooling == "mean":
        weights = mask[..., None].to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
    places = torch.arange(mask.shape[1], device=mask.device)
    at = (places * mask).amax(1) if pooling == "last" else mask.int().argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), at]


def read_pooling(source: str | None, revision: str = "main", cache_dir: str | None = None) -> dict[str, Any]:
    """Returns `pooling` and `normalize` as a folder of sentence-transformers says them; empty of any other model.

    Args:
        source: folder, `package://name/folder` or hub name; `None` = a model from scratch.
        revision: branch, tag or commit on the hub.
        cache_dir: where downloads are kept.

    Raises:
        UserError: there is no such model.
    """
    if source is None or (path := file_beside(source, "modules.json", revision, cache_dir)) is None:
        return {}
    modules = json.loads(path.read_text(encoding="utf-8"))
    kinds = [str(each["type"]).rpartition(".")[2] for each in modules]
    found: dict[str, Any] = {"normalize": "Normalize" in kinds}
    place = next((each["path"] for each, kind in zip(modules, kinds, strict=True) if kind == "Pooling"), None)
    config = None if place is None else file_beside(source, f"{place}/config.json", revision, cache_dir)
    if config is not None:
        said = json.loads(config.read_text(encoding="utf-8"))
        newer = {"mean": "mean", "cls": "cls", "lasttoken": "last"}.get(str(said.get("pooling_mode")))
        found["pooling"] = newer or next((name for name, mode in MODES.items() if said.get(mode)), None)
    return {name: value for name, value in found.items() if value is not None}


def write_pooling(
    folder: Path, size: int, pooling: Pooling, normalize: bool, longest: int | None, prompts: dict[str, str]
) -> None:
    """Writes the files by which sentence-transformers opens a folder.

    Args:
        folder: of the model.
        size: of a vector.
        pooling: how it is made.
        normalize: whether it has length 1.
        longest: tokens that are read of a text.
        prompts: what stands before a text, by name.
    """
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    listed = [
        {"idx": at, "name": str(at), "path": path, "type": f"{HOME}.{kind}"} for at, (path, kind) in enumerate(modules)
    ]
    for path, _ in modules:
        (folder / path).mkdir(exist_ok=True)
    modes = {mode: name == pooling for name, mode in MODES.items()}
    _write(folder / "modules.json", listed)
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": size, **modes, "include_prompt": True})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    options = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write(folder / "config_sentence_transformers.json", options)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
