"""Vocabularies of other programs keep their ids, and faulty ones are refused with the fault named."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from selfalign_cli.data.text.vocab import SPECIAL_WORDS, Vocabulary, build_vocabulary
from selfalign_cli.errors import DataError
from selfalign_cli.published.vocabulary import is_foreign_vocabulary, read_foreign_vocabulary, read_vocabulary

WORDS = [*SPECIAL_WORDS, "dog", "Ångström", "a"]


def short(text):
    raw = text.encode()
    return b"U" + bytes([len(raw)]) + raw


def python_2_pickle(words=WORDS, module="vocab", ids=None, idx=None):
    """as Python 2 wrote it: protocol 2, bytes where Python 3 has text"""
    ids = list(range(len(words))) if ids is None else ids
    to_word = b"".join(b"K" + bytes([number]) + short(word) for number, word in zip(ids, words, strict=True))
    to_id = b"".join(short(word) + b"K" + bytes([number]) for number, word in zip(ids, words, strict=True))
    count = len(words) if idx is None else idx
    state = short("word2idx") + b"}(" + to_id + b"u" + short("idx2word") + b"}(" + to_word + b"u"
    return (
        b"\x80\x02c"
        + module.encode()
        + b"\nVocabulary\n)\x81}("
        + state
        + short("idx")
        + b"K"
        + bytes([count])
        + b"ub."
    )


def json_tables(words=WORDS):
    return {
        "word2idx": {word: number for number, word in enumerate(words)},
        "idx2word": {str(number): word for number, word in enumerate(words)},
        "idx": len(words),
    }


def write(folder, content):
    path = folder / "old_vocab"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize("module", ["vocab", "__main__"])
def test_a_pickle_of_python_2(tmp_path, module):
    found = read_foreign_vocabulary(write(tmp_path, python_2_pickle(module=module)))
    assert list(found.words) == WORDS
    assert (found.tokenizer, found.lowercase) == ("treebank", "ascii")
    assert found.encode("A Ångström CAT") == [1, 6, 5, 3, 2]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_python_3(tmp_path, protocol):
    kind = type("Vocabulary", (), {"__module__": "__main__", "__qualname__": "Vocabulary"})
    vocabulary = kind()
    vocabulary.__dict__.update(word2idx={w: i for i, w in enumerate(WORDS)}, idx2word=dict(enumerate(WORDS)), idx=7)
    import __main__

    __main__.Vocabulary = kind
    try:
        content = pickle.dumps(vocabulary, protocol)
    finally:
        del __main__.Vocabulary
    assert list(read_foreign_vocabulary(write(tmp_path, content)).words) == WORDS


def test_json_with_text_ids(tmp_path):
    path = write(tmp_path, json_tables())
    found = read_foreign_vocabulary(path, tokenizer="treebank-line", lowercase="unicode")
    assert list(found.words) == WORDS
    assert (found.tokenizer, found.lowercase, found.source) == ("treebank-line", "unicode", path.name)


def test_golden_vocabularies_are_one(golden_dir: Path):
    found = [read_foreign_vocabulary(path) for path in sorted((golden_dir / "legacy" / "vocab").iterdir())]
    assert found
    assert len({vocabulary.content_hash for vocabulary in found}) == 1


def test_golden_ids_of_captions(golden_dir: Path):
    expected = json.loads((golden_dir / "legacy" / "expected" / "vsrn_captions.json").read_text())
    path = next(iter(sorted((golden_dir / "legacy" / "vocab").iterdir())))
    vocabulary = read_foreign_vocabulary(path, tokenizer="treebank-line")
    assert len(vocabulary) == expected["vocabulary_size"]
    checked = 0
    for split, captions in expected["splits"].items():
        lines = next(golden_dir.glob(f"legacy/data/*/{split}_caps.txt")).read_bytes().decode().split("\n")
        for line, caption in zip(lines, captions, strict=False):
            assert vocabulary.encode(line) == caption["ids"], line
            checked += 1
    assert checked


def test_what_looks_like_a_foreign_vocabulary(tmp_path):
    own = tmp_path / "own.json"
    build_vocabulary(["a dog"], min_count=1).save(own)
    captions = tmp_path / "coco.json"
    captions.write_text('{"images": [], "word2idx": {}}')
    assert is_foreign_vocabulary(write(tmp_path, python_2_pickle()))
    assert is_foreign_vocabulary(write(tmp_path, json_tables()))
    assert not is_foreign_vocabulary(own)
    assert not is_foreign_vocabulary(captions)
    assert not is_foreign_vocabulary(tmp_path)
    assert not is_foreign_vocabulary(tmp_path / "nowhere")


def test_reading_any_vocabulary(tmp_path):
    own = tmp_path / "own.json"
    built = build_vocabulary(["a dog"], min_count=1)
    built.save(own)
    assert read_vocabulary(own) == built
    assert read_vocabulary(own, tokenizer="treebank-line").tokenizer == "treebank-line"
    foreign = read_vocabulary(write(tmp_path, json_tables()))
    assert (foreign.tokenizer, foreign.lowercase) == ("treebank", "ascii")


def test_an_imported_vocabulary_is_saved_like_any_other(tmp_path):
    found = read_foreign_vocabulary(write(tmp_path, python_2_pickle()))
    found.save(tmp_path / "new.json")
    assert Vocabulary.load(tmp_path / "new.json") == found


def test_a_pickle_that_wants_to_run_something(tmp_path):
    class Command:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = write(tmp_path, pickle.dumps(Command(), 2))
    with pytest.raises(DataError, match=r"old_vocab asks for the Python object (posix|nt)\.mkdir"):
        read_foreign_vocabulary(path)
    assert not (tmp_path / "ran").exists()


def test_another_class_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"asks for the Python object torchtext\.vocab\.Vocabulary"):
        read_foreign_vocabulary(write(tmp_path, python_2_pickle(module="torchtext.vocab")))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (python_2_pickle(ids=[0, 1, 2, 3, 4, 5, 8]), "no word has the id 6, and others have ids up to 8"),
        (python_2_pickle(ids=[0, 1, 2, 3, 4, 5, 5]), "the words 'Ångström' and 'a' both have the id 5"),
        (python_2_pickle(idx=9), "idx says 9 words, and there are 7"),
        (python_2_pickle(["<start>", "<pad>", *WORDS[2:]]), "begins with ['<start>', '<pad>', '<end>', '<unk>']"),
        (python_2_pickle()[:-40], "not a whole pickle"),
        (b"\x80\x02]q\x00.", "holds a list; expected an object of class Vocabulary"),
        (b"\x80\x02cvocab\nVocabulary\n)\x81.", "expected an object of class Vocabulary"),
        (b"\x80\x02cvocab\nVocabulary\n.", "expected an object of class Vocabulary"),
        ({"idx": 3}, "expected the tables word2idx and idx2word, found idx"),
        ({**json_tables(), "idx2word": {"0": "<pad>"}}, "word2idx gives '<start>' the id 1, which idx2word lacks"),
        ({**json_tables(), "idx2word": {"-1": "<pad>"}}, "idx2word has the key '-1'; expected an id"),
        ({**json_tables(), "word2idx": {"<pad>": "0"}}, "word2idx gives '<pad>' the id '0'; expected a whole number"),
        ({"idx2word": {"0": 5}, "word2idx": {}}, "5 stands where a word should"),
        (json_tables([*SPECIAL_WORDS, "\ud800"]), "stands where a word should"),
        (
            {**json_tables(), "idx2word": {**json_tables()["idx2word"], "4": "cat"}},
            "idx2word gives the id 4 to 'cat', word2idx to 'dog'",
        ),
        (b'{"word2idx": {"a": ', "neither JSON nor a pickle"),
        (b'{"word2idx": [' + b"[" * 100_000, "neither JSON nor a pickle"),
        (b"", "neither JSON nor a pickle"),
        (b"[1]", "holds a list"),
    ],
)
def test_faults_name_the_file_and_the_fault(tmp_path, content, words):
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_foreign_vocabulary(path)
    assert str(path) in caught.value.message
    assert words in caught.value.message


def test_no_file(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_foreign_vocabulary(tmp_path / "nowhere.pkl")
