"""Split a caption into words as its vocabulary was made. Nothing is ever downloaded."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from selfalign_cli.errors import DataError

Tokenizer = Literal["treebank", "treebank-line", "nltk-punkt"]
Lowercase = Literal["unicode", "ascii"]
TOKENIZERS: tuple[Tokenizer, ...] = ("treebank", "treebank-line", "nltk-punkt")
LOWERCASES: tuple[Lowercase, ...] = ("unicode", "ascii")

ASCII_SPACE = " \t\n\r\x0b\x0c"
# Words after which a full stop ends no sentence; what captions use, in lower case and without the last stop.
ABBREVIATIONS = (
    "mr mrs ms dr prof st jr sr vs etc e.g i.e a.m p.m u.s u.k u.s.a d.c approx no mt ft lt col gen sgt capt rev "
    "ave blvd rd inc co corp ltd"
).split()

# Captions of plain words, hyphens, commas and one full stop at the end, which is most of them. There the Treebank
# rules do nothing but split off commas and the full stop, unless there is a contraction, `--`, or `,` before a word.
_PLAIN = re.compile(r"[a-z0-9 ,-]*[a-z0-9] ?\.?")
_CONTRACTIONS = frozenset(["cannot", "gimme", "gonna", "gotta", "lemme", "wanna"])

_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def tokenize(text: str, tokenizer: str = "treebank", lowercase: str = "unicode") -> list[str]:
    """Split a caption into lower-case words and punctuation marks.

    Args:
        text: the caption; white space at both ends does not matter.
        tokenizer: `treebank` splits sentences with an untrained Punkt model and a short list of abbreviations, then
            words by the Treebank rules; `treebank-line` leaves the sentence step out, as the golden data do, so a
            full stop inside the line stays on its word; `nltk-punkt` is nltk.word_tokenize with its downloaded data,
            as the published programs call it.
        lowercase: `unicode` lowers every letter; `ascii` only A to Z, as the published programs do (D2).

    Returns:
        The words, without the marks for start and end.

    Raises:
        DataError: the tokenizer is unknown, or `nltk-punkt` lacks its data (the hint gives the command).
    """
    text = text.strip(ASCII_SPACE)
    text = text.translate(_ASCII_LOWER) if lowercase == "ascii" else text.lower()
    return _splitter(tokenizer)(text)


@cache
def _splitter(tokenizer: str) -> Callable[[str], list[str]]:
    if tokenizer == "treebank":
        return _split_sentences_and_words
    if tokenizer == "treebank-line":
        return _split_words
    if tokenizer == "nltk-punkt":
        return _split_as_nltk
    raise DataError(f"there is no tokenizer {tokenizer!r}; expected one of {', '.join(TOKENIZERS)}")


@cache
def _word_rules() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


@cache
def _sentence_rules() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types = set(ABBREVIATIONS)
    return PunktSentenceTokenizer(parameters)


def _split_words(text: str) -> list[str]:
    # The rules are some thirty regular expressions; over a large data set that is minutes at every start of a run.
    if _is_plain(text):
        words = text.removesuffix(".").replace(",", " ,").split()
        return [*words, "."] if text.endswith(".") else words
    return list(_word_rules().tokenize(text))


def _is_plain(text: str) -> bool:
    return (
        _PLAIN.fullmatch(text) is not None
        and "--" not in text
        and text.count(",") == text.count(", ")
        and _CONTRACTIONS.isdisjoint(text.replace("-", " ").replace(",", " ").removesuffix(".").split())
    )


def _split_sentences_and_words(text: str) -> list[str]:
    # Most captions are one sentence, and Punkt takes as long as the words: use it only where a sentence could end.
    if not any(mark in text[:-1] for mark in ".?!"):
        return _split_words(text)
    return [word for sentence in _sentence_rules().tokenize(text) for word in _split_words(sentence)]


def _split_as_nltk(text: str) -> list[str]:
    import nltk

    try:
        return list(nltk.word_tokenize(text))
    except LookupError as fault:
        raise DataError(
            "the tokenizer nltk-punkt needs NLTK's Punkt data, which are not on this machine",
            "fetch them with: python -m nltk.downloader punkt_tab   (or choose the tokenizer treebank)",
        ) from fault
