"""What a model was made with: classes of module and data, and how rows were read; kept beside what is exported."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

import lit_ft
from lit_ft.errors import UserError
from lit_ft.objects import OURS, import_name, option_defaults
from lit_ft.ops.building.files_beside import file_beside
from lit_ft.runs import CONFIG

FILE = "lit_ft.json"
OF_ROWS = {
    "dataset_name", "dataset_config_name", "dataset_revision", "train_file", "validation_file", "test_file",
    "predict_file", "sources", "streaming", "max_train_samples", "max_eval_samples", "max_predict_samples",
    "validation_split_name", "test_split_name", "predict_split_name", "train_split_name", "preparation_dir",
    "validation_split_percentage", "sample_head",
}  # fmt: skip
"""Options that say which rows a run had, and not how they were read."""
OF_TOKENIZER = {
    "model_name_or_path", "model_revision", "tokenizer_name", "use_fast_tokenizer", "tokenizer_kwargs",
    "trust_remote_code", "gguf_file", "cache_dir", "add_tokens", "train_tokenizer",
}  # fmt: skip
"""Options that say where the tokenizer is, which travels with the model."""

MadeWith = dict[str, Any]
"""`module` and `data`: class paths; `options`: those of the data that say how rows are read, where not the defaults."""


def of_run(run: Path | None, trusted: bool = False) -> MadeWith:
    """Returns with what a run read its rows; empty where its configuration is not there.

    Args:
        run: its folder.
        trusted: somebody vouches for the classes that it names.
    """
    if run is None or not (run / CONFIG).is_file():
        return {}
    data = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8")).get("data") or {}
    path = data.get("class_path", "")
    return {"data": path, "options": _options(_at_hand(path, trusted), data.get("init_args") or {})}


def of_module(class_path: str, data: Any, run: Path | None) -> MadeWith:
    """Returns what is to be kept of a module.

    Args:
        class_path: of the module.
        data: its data module, if there is one.
        run: the folder of its run, if there is one.
    """
    found = of_run(run, trusted=not class_path.startswith(OURS))  # who vouches for the one vouches for the other
    if not found and hasattr(data, "loading_options"):
        path = f"{type(data).__module__}.{type(data).__qualname__}"
        found = {"data": path, "options": _options(type(data), dict(data.hparams))}
    return {"lit_ft": lit_ft.__version__, "module": class_path, **found}


def write(folder: Path, made: MadeWith) -> None:
    """Writes the file into an exported folder."""
    (folder / FILE).write_text(json.dumps(made, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def read(name: str, revision: str = "main", cache_dir: str | None = None) -> MadeWith:
    """Reads the file of an exported folder, on disk or on the hub; empty where there is none.

    Whoever made the folder may have written anything: of the options only those count that say how rows are read.

    Args:
        name: of the folder or of the repository.
        revision: branch, tag or commit on the hub.
        cache_dir: where downloads are kept.

    Raises:
        UserError: it is no JSON of ours, or there is neither.
    """
    path = file_beside(name, FILE, revision, cache_dir)
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        options = {key: value for key, value in found.get("options", {}).items() if key not in OF_ROWS | OF_TOKENIZER}
        return {"module": str(found["module"]), "data": str(found.get("data", "")), "options": options}
    except (ValueError, KeyError, AttributeError):
        raise UserError(f"{name}: {FILE} is not as lit_ft writes it: mend it, or set task") from None


def _options(kind: type | None, given: dict[str, Any]) -> dict[str, Any]:
    left_out = OF_ROWS | OF_TOKENIZER
    if kind is None:  # nobody knows what are defaults
        return {name: value for name, value in given.items() if name not in left_out and value is not None}
    defaults, left_out = option_defaults(kind), left_out | getattr(kind, "loading_options", frozenset())
    named = {name: value for name, value in given.items() if name in defaults and name not in left_out}
    return {name: value for name, value in named.items() if value != defaults[name]}


def _at_hand(class_path: str, trusted: bool) -> Any:
    """Returns a class of ours, or one that was imported already: a file alone makes nobody import another."""
    home, _, name = class_path.rpartition(".")
    if trusted or class_path.startswith(OURS):
        try:
            return import_name(class_path)
        except (ImportError, AttributeError, ValueError):
            return None
    return getattr(sys.modules.get(home), name, None)
