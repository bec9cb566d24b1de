"""Words and sentences of a text by fixed rules, without data of any language to download."""

import re
import unicodedata

import regex

from lit_ft.errors import UserError

_ASCII = re.compile(r"[a-z0-9]+")
_NO_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORDS = regex.compile(rf"(?V1)[[{_NO_SPACES}]&&[\p{{L}}\p{{N}}]]\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--[{_NO_SPACES}]]+")

_END = re.compile(r"[.!?…]+[\"'”’»)\]]*\s+|[。！？]+[」』”’）]*\s*")  # noqa: RUF001
_ABBREVIATIONS = {
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "gen", "col", "lt", "sgt", "capt", "rev", "hon", "sen", "rep",
    "gov", "vs", "etc", "e.g", "i.e", "cf", "no", "nr", "fig", "inc", "ltd", "co", "corp", "approx", "z.b", "bzw", "ca",
}  # fmt: skip


def ascii_words(text: str) -> list[str]:
    """Returns runs of a-z and 0-9 in lower case, as ROUGE's original tokenizer does; letters beyond are gaps."""
    return _ASCII.findall(text.lower())


def unicode_words(text: str) -> list[str]:
    """Returns runs of letters, marks and digits of any script, without case and differences of width.

    Where a script has no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character is one.
    """
    return list(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


class StemmedWords:
    """`ascii_words` with each word of four letters or more cut to its stem, by nltk's Porter stemmer.

    Raises:
        UserError: nltk is not installed.
    """

    def __init__(self) -> None:
        try:
            from nltk.stem.porter import PorterStemmer
        except ImportError as error:
            message = f"rouge: use_stemmer needs the package nltk: pip install 'lit-ft[stemmer]' ({error})"
            raise UserError(message) from error
        self._stem = PorterStemmer().stem
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> list[str]:
        """Returns the stems of a text's words."""
        return [stem for word in ascii_words(text) if (stem := word if len(word) < 4 else self._stem_of(word))]

    def _stem_of(self, word: str) -> str:
        if word not in self._known:
            self._known[word] = self._stem(word)
        return self._known[word]


def lines(text: str) -> list[str]:
    """Returns the lines of a text."""
    return [line for line in text.split("\n") if line]


def sentences(text: str) -> list[str]:
    """Returns the lines of a text where there are several, else its sentences.

    A sentence ends at `.`, `!`, `?` or `…` where a space follows and no small letter, not behind an initial or a common
    abbreviation, and at `。` and its kin in any place.
    """
    text = text.strip()
    if "\n" in text:
        return lines(text)
    found, start = [], 0
    for end in _END.finditer(text):
        if text[end.end() : end.end() + 1].islower():
            continue
        if end.group().startswith(".") and not end.group().startswith(".."):
            before = text[start : end.start()].rpartition(" ")[2].lstrip("\"'“‘«([").lower()  # noqa: RUF001
            if before in _ABBREVIATIONS or (len(before) == 1 and before.isalpha()):
                continue
        found.append(text[start : end.end()].rstrip())
        start = end.end()
    return [*found, text[start:]] if text[start:] else found
