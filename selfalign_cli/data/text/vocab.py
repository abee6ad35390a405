"""Words and their ids: built from captions, kept as JSON together with the tokenizer that found the words."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from selfalign_cli.data.atomic import refuse_existing, replacing
from selfalign_cli.data.text.tokens import LOWERCASES, TOKENIZERS, tokenize
from selfalign_cli.errors import DataError

FORMAT = "selfalign-vocab"
VERSION = 1
PAD, START, END, UNKNOWN = range(4)
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")
MASK_WORD = "<mask>"
_MAKE_IT = "make one with: selfalign build-vocab CAPTIONS --out VOCAB.json"


@dataclass(frozen=True)
class Vocabulary:
    """The words a text encoder knows. Word i has id i; ids 0 to 3 are <pad>, <start>, <end>, <unk>.

    Attributes:
        words: all words, the four special ones first.
        tokenizer: name of the tokenizer that splits captions (see `tokens.tokenize`).
        lowercase: `unicode` or `ascii`.
        min_count: how often a word had to occur.
        source: what the words were counted in; only informs.

    Raises:
        DataError: special words are missing or a word occurs twice.
    """

    words: tuple[str, ...]
    tokenizer: str = "treebank"
    lowercase: str = "unicode"
    min_count: int = 1
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.words[:4] != SPECIAL_WORDS:
            raise DataError(f"the vocabulary begins with {list(self.words[:4])}; expected {list(SPECIAL_WORDS)}")
        if len(self._ids) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise DataError(f"the vocabulary holds {twice!r} twice; expected every word once")
        for name, value, known in (
            ("tokenizer", self.tokenizer, TOKENIZERS),
            ("lowercase", self.lowercase, LOWERCASES),
        ):
            if value not in known:
                raise DataError(f"the vocabulary has the {name} {value!r}; expected one of {', '.join(known)}")

    def __len__(self) -> int:
        """Number of words, special ones included."""
        return len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (hex) over everything that decides the ids of a caption."""
        decisive = json.dumps([self.words, self.tokenizer, self.lowercase])
        return hashlib.sha256(decisive.encode()).hexdigest()

    @property
    def unknown(self) -> int:
        """Id of every other word."""
        return UNKNOWN

    @property
    def mask(self) -> int | None:
        """Id of the word that masked ones become; None where there is none."""
        return self._ids.get(MASK_WORD)

    def with_mask(self) -> Vocabulary:
        """The same words and `<mask>`, which comes last unless it is there."""
        return self if self.mask is not None else replace(self, words=(*self.words, MASK_WORD))

    def encode(self, text: str) -> list[int]:
        """Ids of a caption, between <start> and <end>; unknown words are <unk>."""
        return self.encode_words(tokenize(text, self.tokenizer, self.lowercase))

    def word_numbers(self, text: str) -> list[int]:
        """For each id of `encode`, the number of its word: one each, marks too."""
        return list(range(len(self.encode(text))))

    def unknown_words(self, text: str) -> list[str]:
        """The words of a caption that are <unk>, as they are looked up, each once."""
        words = tokenize(text, self.tokenizer, self.lowercase)
        return list(dict.fromkeys(word for word in words if word not in self._ids))

    def word_spans(self, text: str) -> list[tuple[str, range]]:
        """The words of a caption as they are looked up, each with its positions among the ids of `encode`."""
        words = tokenize(text, self.tokenizer, self.lowercase)
        return [(word, range(place, place + 1)) for place, word in enumerate(words, start=1)]

    def encode_words(self, words: Iterable[str]) -> list[int]:
        """Ids of words, between <start> and <end>."""
        return [START, *(self._ids.get(word, UNKNOWN) for word in words), END]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "tokenizer": self.tokenizer,
            "lowercase": self.lowercase,
            "min_count": self.min_count,
            "source": self.source,
            "words": list(self.words),
        }

    @classmethod
    def from_dict(cls, content: object) -> Vocabulary:
        """Read the JSON form.

        Raises:
            DataError: it is not the JSON form of a vocabulary.
        """
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            kind = content.get("format") if isinstance(content, dict) else type(content).__name__
            raise DataError(f"this is no vocabulary: found the format {kind!r}, expected {FORMAT!r}", _MAKE_IT)
        if content.get("version") != VERSION:
            raise DataError(f"the vocabulary has version {content.get('version')!r}; this program reads {VERSION}")
        words, min_count, source = content.get("words"), content.get("min_count", 1), content.get("source", "")
        if not isinstance(words, list) or not all(map(_is_text, words)):
            raise DataError("the vocabulary has no list `words` of texts", _MAKE_IT)
        if not _is_text(source):
            raise DataError(f"the vocabulary has the source {source!r:.80}; expected a text")
        if type(min_count) is not int:
            raise DataError(f"the vocabulary has the min_count {min_count!r}; expected a whole number")
        return cls(
            words=tuple(words),
            tokenizer=str(content.get("tokenizer")),
            lowercase=str(content.get("lowercase")),
            min_count=min_count,
            source=source,
        )

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the JSON form; the file is replaced as a whole.

        Raises:
            DataError: the file exists and `overwrite` is false, or it cannot be written.
            RunError: the disk is full.
        """
        path = Path(path)
        refuse_existing(path, overwrite)
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=0)
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Vocabulary:
        """Read a vocabulary file.

        Raises:
            DataError: the file is missing, not JSON, or no vocabulary; the file is named.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_bytes().decode("utf-8")))
        except DataError as fault:
            raise DataError(f"{path}: {fault.message}", fault.hint) from fault
        except FileNotFoundError as fault:
            raise DataError(f"there is no vocabulary {path}", _MAKE_IT) from fault
        except OSError as fault:
            raise DataError(f"cannot read {path}: {fault.strerror}") from fault
        except (ValueError, RecursionError) as fault:
            raise DataError(f"{path} is not JSON: {fault}; expected a vocabulary", _MAKE_IT) from fault


def _is_text(value: object) -> bool:
    """Whether a value is a text that can be written down; half a surrogate pair cannot."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def build_vocabulary(
    captions: Iterable[str],
    *,
    min_count: int = 4,
    tokenizer: str = "treebank",
    lowercase: str = "unicode",
    source: str = "",
    on_caption: Callable[[int], None] | None = None,
) -> Vocabulary:
    """Collect the words that occur often enough, the most frequent first, equals by spelling.

    Args:
        captions: caption texts.
        min_count: least number of occurrences over all captions.
        tokenizer: see `tokens.tokenize`.
        lowercase: see `tokens.tokenize`.
        source: what the captions are, kept in the file.
        on_caption: called with 1 after each caption.

    Raises:
        DataError: there are no captions, or no word is frequent enough.
    """
    counts = count_words(captions, tokenizer=tokenizer, lowercase=lowercase, on_caption=on_caption)
    return vocabulary_of(counts, min_count=min_count, tokenizer=tokenizer, lowercase=lowercase, source=source)


def count_words(
    captions: Iterable[str],
    *,
    tokenizer: str = "treebank",
    lowercase: str = "unicode",
    on_caption: Callable[[int], None] | None = None,
) -> Counter[str]:
    """Count the words of captions; arguments as of `build_vocabulary`."""
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(tokenize(caption, tokenizer, lowercase))
        if on_caption is not None:
            on_caption(1)
    return counts


def kept_words(counts: Mapping[str, int], min_count: int) -> list[str]:
    """The words that occur often enough, in no order; special words of the vocabulary are none."""
    return [word for word, count in counts.items() if count >= min_count and word not in SPECIAL_WORDS]


def vocabulary_of(
    counts: Mapping[str, int], *, min_count: int, tokenizer: str, lowercase: str, source: str
) -> Vocabulary:
    """The vocabulary of counted words; arguments and errors as of `build_vocabulary`."""
    if not counts:
        raise DataError("there are no words to build a vocabulary from")
    kept = kept_words(counts, min_count)
    if not kept:
        most = max(counts.values())
        raise DataError(
            f"no word occurs {min_count} times; the most frequent occurs {most} times", "lower --min-count"
        )
    kept.sort(key=lambda word: (-counts[word], word))
    return Vocabulary((*SPECIAL_WORDS, *kept), tokenizer, lowercase, min_count, source)
