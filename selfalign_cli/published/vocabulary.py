"""Vocabularies of other programs: SCAN's JSON, and the pickled `Vocabulary` of VSE++, VSRN and SelfAlign.

Both hold `word2idx`, `idx2word` and `idx`, the next free id. They are imported, never rebuilt: the order of their ids
is the hash order of a Python 2 process, and a checkpoint's word table depends on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfalign_cli.data.restricted_pickle import load_restricted
from selfalign_cli.data.text.captions import read_bytes
from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.errors import DataError

PICKLE_MARK = b"\x80"  # first byte of every pickle of protocol 2 and later
DEFAULT_TOKENIZER = "treebank"  # the nearest to nltk.word_tokenize with Punkt that needs no download
DEFAULT_LOWERCASE = "ascii"  # D2
_JSON_START = re.compile(rb'(\xef\xbb\xbf)?\s*\{\s*"(word2idx|idx2word|idx)"\s*:')


def is_foreign_vocabulary(path: Path) -> bool:
    """Whether a file starts like a vocabulary of another program: a pickle, or JSON with its keys."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(1024)
    except (OSError, ValueError):
        return False
    return start.startswith(PICKLE_MARK) or _JSON_START.match(start) is not None


def read_foreign_vocabulary(
    path: Path, *, tokenizer: str = DEFAULT_TOKENIZER, lowercase: str = DEFAULT_LOWERCASE
) -> Vocabulary:
    """Read a vocabulary of another program, its ids kept.

    Args:
        path: JSON with string ids, or a pickle of protocol 2 or later by Python 2 or 3.
        tokenizer: how captions are split (`tokens.tokenize`), which the file does not record.
        lowercase: how captions are lower-cased, which it does not record either.

    Raises:
        DataError: the file is missing, damaged, refers to another class, or its ids have gaps, occur twice or
            contradict each other.
    """
    content = read_bytes(path)
    pickled = content.startswith(PICKLE_MARK)
    fields = _unpickled(content, path) if pickled else _from_json(content, path)
    try:
        words = _words_in_order(fields, text_ids=not pickled)
        return Vocabulary(words, tokenizer, lowercase, source=path.name)
    except DataError as fault:
        raise DataError(f"{path}: {fault.message}", fault.hint) from fault


def read_vocabulary(path: Path, *, tokenizer: str | None = None, lowercase: str | None = None) -> Vocabulary:
    """Read a vocabulary of this program or of another one.

    Args:
        path: the file.
        tokenizer: how captions are split; None for what the file records, or the default for foreign files.
        lowercase: how captions are lower-cased; None likewise.

    Raises:
        DataError: the file is missing, damaged or no vocabulary.
    """
    if is_foreign_vocabulary(path):
        return read_foreign_vocabulary(
            path, tokenizer=tokenizer or DEFAULT_TOKENIZER, lowercase=lowercase or DEFAULT_LOWERCASE
        )
    own = Vocabulary.load(path)
    return replace(own, tokenizer=tokenizer or own.tokenizer, lowercase=lowercase or own.lowercase)


class _PickledVocabulary:
    """Stands in for class `Vocabulary`: keeps the fields, and does nothing."""

    __slots__ = ("fields",)

    def __setstate__(self, state: object) -> None:
        self.fields = state


def _unpickled(content: bytes, path: Path) -> Mapping[str, Any]:
    # The class was pickled from a module of its own, or from the script that was run.
    names = ("vocab.Vocabulary", "__main__.Vocabulary")
    found = load_restricted(content, dict.fromkeys(names, _PickledVocabulary), what=str(path))
    fields = getattr(found, "fields", None) if isinstance(found, _PickledVocabulary) else found
    if not isinstance(fields, dict):
        raise DataError(f"{path} holds a {type(found).__name__}; expected an object of class Vocabulary")
    return fields


def _from_json(content: bytes, path: Path) -> Mapping[str, Any]:
    try:
        fields = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path} is neither JSON nor a pickle: {fault}; expected a vocabulary") from fault
    if not isinstance(fields, dict):
        raise DataError(f"{path} holds a {type(fields).__name__}; expected an object with word2idx and idx2word")
    return fields


def _words_in_order(fields: Mapping[str, Any], *, text_ids: bool) -> tuple[str, ...]:
    """Words by id; both tables must agree, and leave no id out."""
    ids, words = fields.get("word2idx"), fields.get("idx2word")
    if not isinstance(ids, dict) or not isinstance(words, dict):
        has = ", ".join(str(name) for name in list(fields)[:10]) or "nothing"
        raise DataError(f"expected the tables word2idx and idx2word, found {has}")
    by_id = {_id(number, text_ids): word for number, word in words.items()}
    _check_words(ids, by_id)
    gap = next((number for number in range(len(by_id)) if number not in by_id), None)
    if gap is not None:
        raise DataError(f"no word has the id {gap}, and others have ids up to {max(by_id)}; expected no gap")
    count = fields.get("idx", len(by_id))
    if count != len(by_id):
        raise DataError(f"idx says {count!r} words, and there are {len(by_id)}; the file looks cut or edited")
    return tuple(by_id[number] for number in range(len(by_id)))


def _check_words(ids: dict[Any, Any], by_id: dict[int, Any]) -> None:
    """Refuse tables that are not each other's inverse."""
    word_of: dict[int, str] = {}
    for word, number in ids.items():
        _check_text(word)
        if type(number) is not int:
            raise DataError(f"word2idx gives {word!r} the id {number!r}; expected a whole number")
        if number in word_of:
            raise DataError(f"the words {word_of[number]!r} and {word!r} both have the id {number}")
        word_of[number] = word
    for number, word in by_id.items():
        _check_text(word)
        if word_of.get(number) != word:
            raise DataError(f"idx2word gives the id {number} to {word!r}, word2idx to {word_of.get(number)!r}")
    extra = next((number for number in word_of if number not in by_id), None)
    if extra is not None:
        raise DataError(f"word2idx gives {word_of[extra]!r} the id {extra}, which idx2word lacks")


def _check_text(word: object) -> None:
    if not isinstance(word, str) or any("\ud800" <= character <= "\udfff" for character in word):
        raise DataError(f"{word!r} stands where a word should; expected text")


def _id(key: object, text_ids: bool) -> int:
    """An id used as key: a number in a pickle, its digits in JSON."""
    if text_ids and isinstance(key, str) and re.fullmatch(r"0|[1-9][0-9]{0,9}", key):
        return int(key)
    if type(key) is not int or text_ids:
        raise DataError(f"idx2word has the key {key!r}; expected an id")
    return key
