"""Hashes of what goes into prepared data beside the data itself: plain values, tokenizers, classes."""

import hashlib
import inspect
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it takes seconds to import, and `lit-ft cache` needs none of it
    from transformers import PreTrainedTokenizerBase

PASSING = {"is_local", "local_files_only", "name_or_path", "truncation_side", "padding_side"}
"""What a slow tokenizer's saved configuration says of its place or its last use."""

LIBRARIES = {"lit_ft", "lightning", "torch", "transformers", "builtins", "abc"}
"""Packages whose classes change with a version only."""


def digest(value: Any) -> str:
    """Hashes a plain JSON value; equal values give equal names whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:24]


def tokenizer_digest(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Hashes what a tokenizer does, and by which versions, not whence it came or its last use."""
    does = _fast(tokenizer) if tokenizer.is_fast else _slow(tokenizer)
    return digest(
        [class_digest(type(tokenizer)), {name: version(name) for name in ("tokenizers", "transformers")}, does]
    )


def class_digest(kind: type) -> str:
    """Hashes a class by name, a user's own class also by its source, so that no edit of it is missed."""
    sources = [f"{kind.__module__}.{kind.__qualname__}"]
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] not in LIBRARIES:
            try:
                sources.append(inspect.getsource(base))
            except (OSError, TypeError):  # typed into a notebook: there is no file
                functions = [value for value in vars(base).values() if isinstance(value, FunctionType)]
                sources += [str(_bytecode(function.__code__)) for function in functions]
    return digest(sources)


def _fast(tokenizer: "PreTrainedTokenizerBase") -> list[Any]:
    text = tokenizer.backend_tokenizer.to_str()
    # before them stand truncation and padding, which a call leaves switched on and which our encoder never applies
    _, _, does = text.partition('"added_tokens":')
    return [
        hashlib.sha256((does or text).encode()).hexdigest(),
        tokenizer.special_tokens_map,
        [str(token) for token in tokenizer.extra_special_tokens],
        tokenizer.model_input_names,
        tokenizer.model_max_length,
        tokenizer.split_special_tokens,
        tokenizer.chat_template,
    ]


def _slow(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    content: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in Path(folder).rglob("*"):
            if path.name == "tokenizer_config.json":
                saved = json.loads(path.read_text(encoding="utf-8"))
                content[path.name] = {name: saved[name] for name in saved if name not in PASSING}
            elif path.is_file():
                content[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return content


def _bytecode(code: CodeType) -> list[Any]:
    """Returns what a function does, without the addresses and the order that change from start to start."""
    return [code.co_name, code.co_code.hex(), code.co_names, [_constant(value) for value in code.co_consts]]


def _constant(value: Any) -> Any:
    if isinstance(value, CodeType):
        return _bytecode(value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)
