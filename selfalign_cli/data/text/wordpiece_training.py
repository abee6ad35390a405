"""Find the pieces of a WordPiece vocabulary in captions: the same captions give the same pieces, in any order.

The trainer of the `tokenizers` package breaks ties at random (huggingface/tokenizers#1794), hence this one.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tokenizers import pre_tokenizers

from selfalign_cli.data.text.wordpiece import SPECIAL_TOKENS, WordPieceTokenizer, bert_normalizer, bert_tokenizer
from selfalign_cli.errors import DataError

INSIDE = "##"  # marks a piece that does not begin a word

Pair = tuple[str, str]


def build_wordpieces(captions: Iterable[str], *, size: int = 8000, min_count: int = 2) -> WordPieceTokenizer:
    """Train an uncased WordPiece tokenizer.

    Args:
        captions: caption texts.
        size: largest number of pieces, special tokens included.
        min_count: least number of occurrences of a pair that is merged.

    Raises:
        DataError: there are no words in the captions, or `size` is too small for a single letter.
    """
    return bert_tokenizer(train_wordpieces(count_words(captions), size=size, min_count=min_count))


def count_words(captions: Iterable[str]) -> Counter[str]:
    """Count words of captions as the tokenizer will split them: lower case, without accents, punctuation separate."""
    # Cleaning and splitting work within blanks, so it is enough to do them once per distinct chunk.
    chunks = Counter(chunk for caption in captions for chunk in caption.split(" "))
    normalizer, splitter = bert_normalizer(lowercase=True, split_chinese=False), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(chunk)):
            words[word] += count
    return words


def train_wordpieces(counts: Mapping[str, int], *, size: int, min_count: int) -> list[str]:
    """Merge the most frequent pair of neighbouring pieces, again and again, starting from single characters.

    Pairs are chosen by count as in byte-pair encoding (and in the trainer of `tokenizers`), not by likelihood, which
    favours rare characters. Equal counts are decided by the text of the pair.

    Args:
        counts: words and how often each occurs.
        size: largest number of pieces.
        min_count: least count of a pair that is merged.

    Returns:
        Special tokens, then characters in their order (each as a beginning and as an inside piece), then merged
        pieces, the earliest merge first.

    Raises:
        DataError: no words, or `size` is too small for a character.
    """
    letters = _letters(counts, most=(size - len(SPECIAL_TOKENS)) // 2)
    pieces = dict.fromkeys([*SPECIAL_TOKENS, *letters, *(INSIDE + letter for letter in letters)])
    known = set(letters)
    spelled = {word: count for word, count in sorted(counts.items()) if known.issuperset(word)}
    for piece in _merges(spelled, min_count):
        if len(pieces) >= size:
            break
        pieces.setdefault(piece)
    return list(pieces)


def _letters(counts: Mapping[str, int], *, most: int) -> list[str]:
    """The characters of the words in their order; the most frequent ones when there are more than `most`."""
    frequency: Counter[str] = Counter()
    for word, count in counts.items():
        for letter in word:
            frequency[letter] += count
    if not frequency:
        raise DataError("there are no words to build WordPieces from")
    if most < 1:
        raise DataError("the vocabulary is too small for a single letter", "raise --size")
    return sorted(sorted(frequency, key=lambda letter: (-frequency[letter], letter))[:most])


def _merges(counts: Mapping[str, int], min_count: int) -> Iterator[str]:
    """Yield merged pieces, the most frequent pair first; each merge changes the counts of the next."""
    spellings = [
        [letter if not position else INSIDE + letter for position, letter in enumerate(word)] for word in counts
    ]
    weights = list(counts.values())
    frequency: Counter[Pair] = Counter()
    words_with: dict[Pair, set[int]] = {}
    for number, spelling in enumerate(spellings):
        for pair in zip(spelling, spelling[1:], strict=False):
            frequency[pair] += weights[number]
            words_with.setdefault(pair, set()).add(number)
    queue = [(-count, pair) for pair, count in frequency.items()]
    heapq.heapify(queue)
    while queue:
        negative, pair = heapq.heappop(queue)
        if frequency[pair] != -negative:
            continue  # outdated: the pair went in again with its new count
        if frequency[pair] < min_count:
            return
        merged = pair[0] + pair[1].removeprefix(INSIDE)
        yield merged
        changed: set[Pair] = set()
        for number in words_with.pop(pair):
            old, spellings[number] = spellings[number], _join(spellings[number], pair, merged)
            for sign, spelling in ((-1, old), (1, spellings[number])):
                for neighbours in zip(spelling, spelling[1:], strict=False):
                    frequency[neighbours] += sign * weights[number]
                    words_with.setdefault(neighbours, set()).add(number)
                    changed.add(neighbours)
        for neighbours in changed:
            if frequency[neighbours] > 0:
                heapq.heappush(queue, (-frequency[neighbours], neighbours))


def _join(spelling: list[str], pair: Pair, merged: str) -> list[str]:
    """Replace a pair in a spelling, from the left."""
    merged_pieces: list[str] = []
    for piece in spelling:
        if merged_pieces and (merged_pieces[-1], piece) == pair:
            merged_pieces[-1] = merged
        else:
            merged_pieces.append(piece)
    return merged_pieces
