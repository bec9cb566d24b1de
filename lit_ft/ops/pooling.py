"""From the vectors of tokens to one of a text, and the files by which sentence-transformers does the same."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lit_ft.errors import UserError
from lit_ft.ops.building.files_beside import file_beside

log = logging.getLogger("lit_ft")

Pooling = Literal["mean", "cls", "last"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
MODES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
"""What sentence-transformers calls them in `1_Pooling/config.json`."""
OURS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
"""The same by its newer names, of which one may say several."""
KNOWN = ("Transformer", "Pooling", "Normalize")
"""Its modules that are here, too."""
HOME = "sentence_transformers.models"
TEXTS, OPTIONS = "sentence_bert_config.json", "config_sentence_transformers.json"


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


def read_folder(
    source: str | None, revision: str = "main", cache_dir: str | None = None, given: Pooling | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what a folder of sentence-transformers says of its vectors and of its texts; nothing of any other model.

    Args:
        source: folder, `package://name/folder` or hub name; `None` = a model from scratch.
        revision: branch, tag or commit on the hub.
        cache_dir: where downloads are kept.
        given: the option `pooling`: what is not known here is then left out, and no error.

    Returns:
        `pooling` and `normalize`; and, for whoever writes such a folder again, of `max_seq_length`, `do_lower_case`,
        `prompts`, `default_prompt_name` and `include_prompt` those that it says.

    Raises:
        UserError: there is no such model, or it makes its vectors in a way that is not known here.
    """
    place = (source, revision, cache_dir)
    modules = _modules(*place)
    if source is None or not modules:
        return {}, {}
    paths = {_kind(each): each["path"] for each in reversed(modules)}  # the first of each kind
    said = None
    if "Pooling" in paths:
        said = _content(source, revision, cache_dir, f"{paths['Pooling']}/config.json")
    path = paths.get("Transformer", "")
    texts = _content(source, revision, cache_dir, f"{path}/{TEXTS}" if path else TEXTS) or {}
    options = _content(source, revision, cache_dir, OPTIONS) or {}
    kept = {
        **{name: texts.get(name) for name in ("max_seq_length", "do_lower_case")},
        **{name: options.get(name) for name in ("prompts", "default_prompt_name")},
        "include_prompt": (said or {}).get("include_prompt"),
    }
    way = _way(source, modules, said, given)
    return way, {name: value for name, value in kept.items() if value is not None}


def _way(
    source: str, modules: list[dict[str, Any]], said: dict[str, Any] | None, given: Pooling | None
) -> dict[str, Any]:
    """Reads how vectors are made, by its modules and by what the one that pools is told."""
    if unknown := [f"{each['path'] or each['name']} ({_kind(each)})" for each in modules if _kind(each) not in KNOWN]:
        if given is None:
            raise UserError(
                f"{source}: modules.json lists {', '.join(unknown)}, which lit_ft does not have, and without it the "
                "vectors differ: start from a folder without it, or set pooling "
                f"({', '.join(POOLINGS)}) to leave it out"
            )
        log.info(f"{source}: {', '.join(unknown)} of sentence-transformers is left out (pooling: {given})")
    found: dict[str, Any] = {"normalize": "Normalize" in map(_kind, modules)}
    if said is not None and given is None:
        modes = _modes(said)
        if len(modes) != 1 or modes[0] not in OURS:
            raise UserError(
                f"{source}: texts are pooled by {' and '.join(modes)}, which lit_ft does not do: set pooling to one of "
                f"{', '.join(POOLINGS)} to train with that instead"
            )
        found["pooling"] = OURS[modes[0]]
    return found


def unused(kept: Mapping[str, Any], options: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    """Returns what a folder says of its texts that a run does otherwise, for the log.

    Args:
        kept: what `read_folder` returns of texts.
        options: of the data module.
        description: with `length`, the tokens of a text that are read, and the run's `prompts`.
    """
    notes, made_for, used = [], kept.get("max_seq_length"), description.get("length")
    if options.get("max_seq_length") is None and None not in (made_for, used) and made_for != used:
        notes.append(f"made for {made_for} tokens of a text, {used} are read (data.max_seq_length)")
    names = [name for name, prompt in (kept.get("prompts") or {}).items() if prompt]
    if names and not description.get("prompts"):
        default = kept.get("default_prompt_name")
        by_itself = f"; {default!r} does not stand before texts by itself any more" if default in names else ""
        notes.append(
            f"has the prompts {names}, which are not used here, and go along into the exported folder{by_itself} "
            "(data.prompts sets those of training)"
        )
    return notes


def check_weights_place(source: str | None, revision: str = "main", cache_dir: str | None = None) -> None:
    """Says of a folder without a model whether it is an older one of sentence-transformers, with its model below it.

    Args:
        source: folder, `package://name/folder` or hub name; `None` = a model from scratch.
        revision: branch, tag or commit on the hub.
        cache_dir: where downloads are kept.

    Raises:
        UserError: it is; with the folder where the model is.
    """
    try:
        modules = _modules(source, revision, cache_dir)
    except UserError:  # there is no such folder, as whoever asks knows already
        return
    path = next((each["path"] for each in modules if _kind(each) == "Transformer"), "")
    if path:
        raise UserError(
            f"model_name_or_path {source!r} is of sentence-transformers' older layout, its model is in {path}: set "
            f"model_name_or_path to that folder ({source}/{path}, downloaded if need be), and pooling and normalize "
            "as in the folders beside it"
        )


def write_pooling(
    folder: Path, size: int, way: dict[str, Any], longest: int | None, prompts: dict[str, str], kept: dict[str, Any]
) -> None:
    """Writes the files by which sentence-transformers opens a folder.

    Args:
        folder: of the model.
        size: of a vector.
        way: `pooling`, and whether to `normalize` to length 1.
        longest: tokens that are read of a text.
        prompts: what stood before a text in training, by name; where there are any, those of `kept` are not written.
        kept: what `read_folder` found of texts in the folder that training began with.
    """
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [("2_Normalize", "Normalize")] if way["normalize"] else []
    listed = [
        {"idx": at, "name": str(at), "path": path, "type": f"{HOME}.{kind}"} for at, (path, kind) in enumerate(modules)
    ]
    for path, _ in modules:
        (folder / path).mkdir(exist_ok=True)
    own = {"prompts": prompts} if prompts else kept  # prompts of ours are pooled like any other text
    modes = {mode: name == way["pooling"] for name, mode in MODES.items()}
    pooling = {"word_embedding_dimension": size, **modes, "include_prompt": own.get("include_prompt", True)}
    _write(folder / "modules.json", listed)
    _write(folder / "1_Pooling" / "config.json", pooling)
    _write(folder / TEXTS, {"max_seq_length": longest, "do_lower_case": kept.get("do_lower_case", False)})
    # no default prompt: training put none before texts, and the folder gives the vectors of training
    options = {"prompts": own.get("prompts", {}), "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write(folder / OPTIONS, options)


def _kind(module: dict[str, Any]) -> str:
    return str(module["type"]).rpartition(".")[2]


def _modules(source: str | None, revision: str, cache_dir: str | None) -> list[dict[str, Any]]:
    """What a folder of sentence-transformers is made of; nothing where it is none."""
    return [] if source is None else _content(source, revision, cache_dir, "modules.json") or []


def _modes(said: dict[str, Any]) -> list[str]:
    """The newer names of how texts are pooled; `mean` where nothing is said, as in sentence-transformers."""
    newer = said.get("pooling_mode")
    if newer is not None:
        return [newer] if isinstance(newer, str) else [*newer]
    start = "pooling_mode_"
    older = [name.removeprefix(start) for name, on in said.items() if name.startswith(start) and on]
    return [name.removesuffix("_tokens").removesuffix("_token") for name in older] or ["mean"]


def _content(source: str, revision: str, cache_dir: str | None, file: str) -> Any:
    path = file_beside(source, file, revision, cache_dir)
    return None if path is None else json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
