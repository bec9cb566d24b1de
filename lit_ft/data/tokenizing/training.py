"""A tokenizer trained on one's own rows: byte-level BPE, as GPT-2's for causal models, as RoBERTa's for masked ones."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import lit_ft
from lit_ft.data.caching.cache import once
from lit_ft.errors import UserError, did_you_mean

log = logging.getLogger("lit_ft")

Texts = Iterable[Sequence[str]]

DEFAULTS = {"vocab_size": 8000, "min_frequency": 2}
"""What can be chosen: the most tokens there may be, and how often a pair must occur to become one."""

CAUSAL = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}
"""One token begins and ends texts, as GPT-2's; padding is another one, so that what hides it never hides an end."""

MASKED = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
"""RoBERTa's, in its order, so that its configuration's default ids are right."""


def training_options(options: dict[str, Any], masked: bool) -> dict[str, int]:
    """Returns all options of the training, checked.

    Args:
        options: those that are given.
        masked: as for `train_tokenizer`.

    Raises:
        UserError: an unknown name, or a value that cannot be.
    """
    least = {"vocab_size": len(pre_tokenizers.ByteLevel.alphabet()) + len(_specials(masked)), "min_frequency": 1}
    for name, value in options.items():
        if name not in DEFAULTS:
            known = ", ".join(DEFAULTS)
            raise UserError(f"train_tokenizer has no option {name!r}{did_you_mean(name, DEFAULTS)} (it has: {known})")
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"train_tokenizer: {name} is {value!r}, but must be a whole number")
        if value < least[name]:
            why = " (256 bytes and the special tokens)" if name == "vocab_size" else ""
            raise UserError(f"train_tokenizer: {name} is {value}, but must be at least {least[name]}{why}")
    return DEFAULTS | options


def train_tokenizer(texts: Texts, options: dict[str, Any], masked: bool) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer; the same texts, in any order, always give the same one.

    It encodes any text, and decoding gives the text back. Memory grows with the number of different words only.

    Args:
        texts: batches of texts.
        options: `vocab_size` (default 8,000, special tokens included) and `min_frequency` (default 2).
        masked: with the special tokens of RoBERTa (`<s> text </s>`), for masked models; else those of GPT-2.

    Raises:
        UserError: an option that cannot be, or no text.
    """
    chosen, specials = training_options(options, masked), _specials(masked)
    mask = AddedToken(MASKED["mask_token"], lstrip=True, special=True)  # it is a word with its space
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=chosen["vocab_size"],
        min_frequency=chosen["min_frequency"],
        special_tokens=[mask if token == mask.content else token for token in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_with_text(texts), trainer)
    if tokenizer.get_vocab_size() < chosen["vocab_size"]:
        log.info(
            f"train_tokenizer: the texts give {tokenizer.get_vocab_size():,} tokens, not {chosen['vocab_size']:,}: no "
            f"other pair occurs {chosen['min_frequency']} times (min_frequency)"
        )
    names: dict[str, Any] = dict(MASKED if masked else CAUSAL)
    if masked:
        ids = {token: number for number, token in enumerate(specials)}
        sep, cls = names["sep_token"], names["cls_token"]
        tokenizer.post_processor = processors.RobertaProcessing(
            (sep, ids[sep]), (cls, ids[cls]), add_prefix_space=False
        )
        names["mask_token"] = mask
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **names,
    )


def trained_folder(
    options: dict[str, Any],
    masked: bool,
    fingerprint: Any,
    root: Path,
    texts: Callable[[], Texts],
) -> Path:
    """Returns the folder of a tokenizer trained on these rows, which is trained only where no run did so before.

    Processes that start together train it once; `AutoTokenizer` loads the folder.

    Args:
        options: as for `train_tokenizer`.
        masked: as for `train_tokenizer`.
        fingerprint: of the rows and of all that decides which texts they give, as plain values.
        root: where prepared folders lie.
        texts: gives the texts; called only when there is work to do.

    Raises:
        UserError: an option that cannot be, no text, or the folder cannot be written.
    """
    key = {
        "trained_tokenizer": training_options(options, masked),
        "masked": masked,
        "rows": fingerprint,
        "lit_ft": lit_ft.__version__,
        "versions": {name: version(name) for name in ("tokenizers", "transformers")},
    }

    def build(folder: Path) -> None:
        count = 0

        def counted() -> Iterator[Sequence[str]]:
            nonlocal count
            for batch in texts():
                count += len(batch)
                yield batch

        train_tokenizer(counted(), options, masked).save_pretrained(folder)
        content = {"rows": {"train": {"": count}}}
        (folder / "content.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    return once(key, build, root)


def _specials(masked: bool) -> list[str]:
    """Returns the special tokens once each; their places are their ids."""
    return list(dict.fromkeys((MASKED if masked else CAUSAL).values()))


def _with_text(texts: Texts) -> Iterator[list[str]]:
    found = False
    for batch in texts:
        found = found or any(text.strip() for text in batch)
        yield list(batch)
    if not found:
        raise UserError("train_tokenizer: the training rows hold no text to train a tokenizer on")
