"""What a vocabulary leaves unknown: shares of the words of a split, for one least count and for others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfalign_cli.data.text.vocab import SPECIAL_WORDS, kept_words

if TYPE_CHECKING:
    from selfalign_cli.data.text.wordpiece import WordPieceTokenizer

MIN_COUNTS = (1, 2, 3, 5, 10)
"""Least counts that are compared with the chosen one."""


@dataclass(frozen=True)
class Unknown:
    """Shares of the words of captions, from 0 to 1.

    Attributes:
        occurrences: of all words, as often as they occur.
        words: of the different words.
    """

    occurrences: float
    words: float


@dataclass(frozen=True)
class Choice:
    """A least count, and what comes of it.

    Attributes:
        min_count: how often a word has to occur.
        size: words of the vocabulary, special ones included.
        unknown: what it leaves unknown.
    """

    min_count: int
    size: int
    unknown: Unknown


def unknown_in(captions: Mapping[str, int], known: Collection[str]) -> Unknown:
    """Shares of the words of captions, given with their counts, that are not known."""
    missing = [count for word, count in captions.items() if word not in known]
    return Unknown(sum(missing) / max(1, sum(captions.values())), len(missing) / max(1, len(captions)))


def choices(counts: Mapping[str, int], captions: Mapping[str, int], min_count: int) -> list[Choice]:
    """What the chosen least count leaves unknown and what others would, those that keep no word left out.

    Args:
        counts: words that the vocabulary is made of, and how often each occurs.
        captions: words that it will meet, likewise.
        min_count: the chosen one.
    """
    found = []
    for least in sorted({*MIN_COUNTS, min_count}):
        known = frozenset(kept_words(counts, least))
        if known:
            found.append(Choice(least, len(SPECIAL_WORDS) + len(known), unknown_in(captions, known)))
    return found


def pieces_of(tokenizer: WordPieceTokenizer, captions: Counter[str]) -> tuple[Unknown, float]:
    """What no pieces make of the words of captions, and the mean number of pieces of an occurrence."""
    ids = {word: tokenizer.encode(word)[1:-1] for word in captions}
    known = {word for word, found in ids.items() if tokenizer.unknown not in found}
    pieces = sum(count * len(ids[word]) for word, count in captions.items())
    return unknown_in(captions, known), pieces / max(1, captions.total())
