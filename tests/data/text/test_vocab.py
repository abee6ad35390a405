"""Building vocabularies, and reading files of other kinds in their place."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.golden import golden_root, settings

from selfalign_cli.data.text.vocab import SPECIAL_WORDS, Vocabulary, build_vocabulary
from selfalign_cli.errors import DataError

CAPTIONS = ["a dog runs", "a cat and a dog", "the bird"]


def test_words_are_ordered_by_count_then_spelling():
    """a: 3, dog: 2; and, bird, cat, runs, the: 1"""
    found = build_vocabulary(CAPTIONS, min_count=1).words
    assert found == (*SPECIAL_WORDS, "a", "dog", "and", "bird", "cat", "runs", "the")


def test_rare_words_are_left_out():
    assert build_vocabulary(CAPTIONS, min_count=2).words == (*SPECIAL_WORDS, "a", "dog")


@given(st.permutations(CAPTIONS))
def test_the_order_of_captions_does_not_matter(captions):
    assert build_vocabulary(captions, min_count=1) == build_vocabulary(CAPTIONS, min_count=1)


def test_encoding_by_hand():
    """<start> a unknown-dog runs <end>"""
    vocabulary = Vocabulary((*SPECIAL_WORDS, "a", "runs"))
    assert vocabulary.encode("A dog runs") == [1, 4, 3, 5, 2]


def test_a_mark_written_in_a_caption_is_no_mark():
    vocabulary = build_vocabulary(["a <end> b"], min_count=1)
    assert vocabulary.encode("<end>")[1:-1] == [vocabulary.words.index(word) for word in ("<", "end", ">")]


def test_the_vocabulary_keeps_how_captions_are_split():
    vocabulary = build_vocabulary(["É a. b c"], min_count=1, tokenizer="treebank-line", lowercase="ascii")
    assert set(vocabulary.words[4:]) == {"É", "a.", "b", "c"}
    assert vocabulary.encode("é A. b") == [1, 3, vocabulary.words.index("a."), vocabulary.words.index("b"), 2]


def test_saved_and_loaded(tmp_path):
    vocabulary = build_vocabulary(["Über \u2028 den Hund"], min_count=1, lowercase="ascii", source="x.txt")
    vocabulary.save(tmp_path / "v.json")
    loaded = Vocabulary.load(tmp_path / "v.json")
    assert loaded == vocabulary
    assert (loaded.source, loaded.content_hash) == ("x.txt", vocabulary.content_hash)


def test_the_same_captions_give_the_same_file(tmp_path):
    for name, captions in (("a.json", CAPTIONS), ("b.json", CAPTIONS[::-1])):
        build_vocabulary(captions, min_count=1).save(tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_vocabulary_is_replaced_only_on_demand(tmp_path):
    path = tmp_path / "v.json"
    build_vocabulary(CAPTIONS, min_count=1).save(path)
    with pytest.raises(DataError, match="exists already"):
        build_vocabulary(CAPTIONS, min_count=2).save(path)
    build_vocabulary(CAPTIONS, min_count=2).save(path, overwrite=True)
    assert len(Vocabulary.load(path)) == 6


@pytest.mark.parametrize(
    "change", [{"words": (*SPECIAL_WORDS, "b")}, {"tokenizer": "treebank-line"}, {"lowercase": "ascii"}]
)
def test_the_hash_changes_with_what_changes_ids(change):
    settings = {"words": (*SPECIAL_WORDS, "a"), "tokenizer": "treebank", "lowercase": "unicode"}
    assert Vocabulary(**settings).content_hash != Vocabulary(**{**settings, **change}).content_hash


def test_the_hash_does_not_change_with_the_source():
    first, second = (Vocabulary(SPECIAL_WORDS, source=name) for name in "ab")
    assert first.content_hash == second.content_hash


@pytest.mark.parametrize("captions", [[], ["  "]])
def test_no_words_at_all(captions):
    with pytest.raises(DataError, match="no words"):
        build_vocabulary(captions)


def test_no_word_is_frequent_enough():
    with pytest.raises(DataError, match="no word occurs 4 times; the most frequent occurs 3 times"):
        build_vocabulary(CAPTIONS)


def good() -> dict[str, object]:
    return Vocabulary((*SPECIAL_WORDS, "a", "b")).to_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**good(), "format": "other"}, "found the format 'other', expected 'selfalign-vocab'"),
        ({"word2idx": {"<pad>": 0}}, "found the format None"),
        ([1, 2], "found the format 'list'"),
        ({**good(), "version": 2}, "version 2; this program reads 1"),
        ({**good(), "words": None}, "no list `words`"),
        ({**good(), "words": [*SPECIAL_WORDS, 5]}, "no list `words` of texts"),
        ({**good(), "words": ["a", "b"]}, "begins with"),
        ({**good(), "words": []}, "begins with"),
        ({**good(), "words": [*SPECIAL_WORDS, "a", "b", "a"]}, "holds 'a' twice"),
        ({**good(), "tokenizer": "moses"}, "tokenizer 'moses'; expected one of treebank"),
        ({**good(), "lowercase": None}, "lowercase 'None'; expected one of unicode, ascii"),
        ({**good(), "min_count": "4"}, "min_count '4'; expected a whole number"),
    ],
)
def test_a_file_that_is_no_vocabulary_of_ours(tmp_path, content, message):
    path = tmp_path / "v.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        Vocabulary.load(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x02cvocab\n", b"\xff\xfe{}", b"[" * 100_000])
def test_a_file_that_is_not_json(tmp_path, content):
    path = tmp_path / "v.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not JSON"):
        Vocabulary.load(path)


def test_there_is_no_vocabulary(tmp_path):
    with pytest.raises(DataError, match="there is no vocabulary") as caught:
        Vocabulary.load(tmp_path / "v.json")
    assert "build-vocab" in caught.value.hint
    with pytest.raises(DataError, match="cannot read"):
        Vocabulary.load(tmp_path)


LEGACY = golden_root() / "legacy"
EXPECTED = settings(LEGACY / "expected" / "vsrn_captions.json")["splits"]


def golden_vocabulary() -> Vocabulary:
    file = next(path for path in sorted((LEGACY / "vocab").iterdir()) if path.suffix == ".json")
    ids = json.loads(file.read_text(encoding="utf-8"))["word2idx"]
    return Vocabulary(tuple(sorted(ids, key=ids.__getitem__)), "treebank-line", "ascii")


@pytest.mark.parametrize("split", EXPECTED)
def test_golden_ids(split):
    vocabulary = golden_vocabulary()
    for caption in EXPECTED[split]:
        assert vocabulary.encode(caption["raw"]) == caption["ids"]


def test_golden_words_are_those_we_would_build():
    """Train and dev captions, four times or more; only the order, a Python 2 hash order, cannot be had again."""
    captions = [caption["raw"] for split in ("train", "dev") for caption in EXPECTED[split]]
    built = build_vocabulary(captions, min_count=4, tokenizer="treebank-line", lowercase="ascii")
    assert Counter(built.words) == Counter(golden_vocabulary().words)
