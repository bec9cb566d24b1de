"""Languages of a multilingual tokenizer: its codes, the two that are set, and what decoders begin with."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from transformers import PreTrainedTokenizerBase

from lit_ft.errors import UserError

CODE = re.compile(r"_*([a-z]{2,3}([_-][A-Za-z]{2,4})?)_*")
"""What a language's token looks like: `en_XX`, `__en__`, `eng_Latn`."""
NEAR = 5
"""Known codes that a message names."""


def language_codes(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Returns the codes of a multilingual tokenizer with the ids of their tokens; empty for any other tokenizer."""
    if not hasattr(tokenizer, "src_lang"):
        return {}
    if hasattr(tokenizer, "lang_code_to_token"):  # M2M100: `en` is `__en__`
        return {code: tokenizer.get_lang_id(code) for code in tokenizer.lang_code_to_token}
    known = getattr(tokenizer, "lang_code_to_id", None)
    if known:
        return dict(known)
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items()}
    return {token: number for token, number in added.items() if CODE.fullmatch(token)}


def set_languages(
    tokenizer: PreTrainedTokenizerBase,
    source: str | None,
    target: str | None,
    options: tuple[str, str] = ("source_lang", "target_lang"),
    keep: bool = False,
) -> None:
    """Makes a multilingual tokenizer translate between two languages, also after it was saved; leaves others alone.

    Args:
        tokenizer: any.
        source: code of the language of sources.
        target: code of the language of targets.
        options: what users call the two.
        keep: a language that is not given is that which the tokenizer was saved with.

    Raises:
        UserError: a code is missing or unknown; the near ones are said.
    """
    codes = language_codes(tokenizer)
    if not codes:
        return
    if keep:
        source, target = (
            given or tokenizer.init_kwargs.get(name) for given, name in ((source, "src_lang"), (target, "tgt_lang"))
        )
    for option, code in zip(options, (source, target), strict=True):
        if code is None:
            raise UserError(
                f"the tokenizer is multilingual: set {option}, one of its {len(codes)} codes{_near('', codes)}"
            )
        if code not in codes:
            raise UserError(f"{option}: the tokenizer knows no language {code!r}{_near(code, codes)}")
    tokenizer.src_lang, tokenizer.tgt_lang = source, target
    tokenizer.init_kwargs |= {"src_lang": source, "tgt_lang": target}


def token_of(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Returns the id of a token or a language code that a decoder is to begin with.

    Raises:
        UserError: the tokenizer has neither.
    """
    codes, words = language_codes(tokenizer), tokenizer.get_vocab()
    if token in codes:
        return codes[token]
    if token not in words:
        raise UserError(f"forced_bos_token: the tokenizer has no token {token!r}{_near(token, codes or words)}")
    return int(words[token])


def decoder_begin(tokenizer: PreTrainedTokenizerBase, forced: str | None) -> dict[str, int]:
    """Returns how a decoder is told the target's language, by where the tokenizer puts its code around targets.

    Args:
        tokenizer: its languages are set.
        forced: token or language code that generated text begins with, whatever the target's language.

    Returns:
        `forced_bos_token_id` where targets begin with it (mBART-50, M2M100, NLLB), `decoder_start_token_id` where they
        end with it and are wrapped around (mBART); nothing for other tokenizers.

    Raises:
        UserError: the tokenizer has no token `forced`.
    """
    begin = _begin_of_language(tokenizer)
    return begin if forced is None else {**begin, "forced_bos_token_id": token_of(tokenizer, forced)}


def _begin_of_language(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    code = language_codes(tokenizer).get(str(tokenizer.init_kwargs.get("tgt_lang")))
    if code is None:
        return {}
    with as_target(tokenizer):
        ids = tokenizer("").input_ids
    if ids and ids[0] == code:
        return {"forced_bos_token_id": code}
    return {"decoder_start_token_id": code} if ids and ids[-1] == code else {}


@contextmanager
def as_target(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Within it the tokenizer encodes targets: with the target's language, and with Marian's other vocabulary."""
    switched: Any = getattr(tokenizer, "_switch_to_target_mode", None)
    if switched is None:
        yield
        return
    tokenizer._in_target_context_manager = True  # else every call would switch back
    switched()
    try:
        yield
    finally:
        tokenizer._in_target_context_manager = False
        tokenizer._switch_to_input_mode()


def _near(code: str, known: Any) -> str:
    """Names the codes that a wrong one may have meant: those of the same language first, then those alike."""
    short = re.split(r"[_-]", code.strip("_").lower())[0]
    same = [each for each in known if short and each.strip("_").lower().startswith(short[:2])]
    alike = get_close_matches(code, list(known), n=NEAR, cutoff=0.3)
    near = list(dict.fromkeys([*sorted(same, key=len), *alike]))[:NEAR] or sorted(known)[:NEAR]
    return f"; it has {', '.join(near)}, ..." if near else ""
