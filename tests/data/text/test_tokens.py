"""Splitting captions into words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer
from support.golden import golden_root, settings

from selfalign_cli.data.text import tokens
from selfalign_cli.data.text.tokens import tokenize
from selfalign_cli.errors import DataError

CASES = settings(golden_root() / "legacy" / "expected" / "tokenisation_cases.json")["cases"]
SPLITS = settings(golden_root() / "legacy" / "expected" / "vsrn_captions.json")["splits"]


@pytest.mark.parametrize("case", [case for case in CASES if case["same_in_recent_nltk"]], ids=lambda case: case["raw"])
def test_golden_cases(case):
    assert tokenize(case["raw"], "treebank-line", "ascii") == case["tokens"]


@pytest.mark.parametrize("split", SPLITS)
def test_golden_captions(split):
    for caption in SPLITS[split]:
        assert tokenize(caption["raw"], "treebank-line", "ascii") == caption["tokens"]


@pytest.mark.parametrize("split", SPLITS)
def test_golden_captions_of_one_sentence_need_no_sentence_step(split):
    for caption in SPLITS[split]:
        assert tokenize(caption["raw"], "treebank", "ascii") == caption["tokens"]


def test_treebank_parts_sentences_and_a_line_does_not():
    text = "A man on a ladder. He waves."
    assert tokenize(text, "treebank") == "a man on a ladder . he waves .".split()
    assert tokenize(text, "treebank-line") == "a man on a ladder. he waves .".split()


@pytest.mark.parametrize("text", ["mr. smith walks", "the u.s. flag", "at 5 p.m. a dog", "dr. jones vs. mrs. jones"])
def test_an_abbreviation_ends_no_sentence(text):
    assert tokenize(text, "treebank") == text.split()


def test_question_and_exclamation_marks():
    assert tokenize("Is it a bird? Yes! Look.") == "is it a bird ? yes ! look .".split()


def test_lower_case_of_every_letter_or_of_ascii_only():
    assert tokenize("Élan VITAL", lowercase="unicode") == ["élan", "vital"]
    assert tokenize("Élan VITAL", lowercase="ascii") == ["Élan", "vital"]


def test_blanks_at_the_ends_and_inside_do_not_matter():
    assert tokenize(" \t a   dog\u00a0runs \r\n") == ["a", "dog", "runs"]


@pytest.mark.parametrize("text", ["", "  \t"])
@pytest.mark.parametrize("tokenizer", ["treebank", "treebank-line"])
def test_nothing_has_no_words(text, tokenizer):
    assert tokenize(text, tokenizer) == []


def test_an_unknown_tokenizer():
    with pytest.raises(DataError, match="no tokenizer 'moses'; expected one of treebank, treebank-line, nltk-punkt"):
        tokenize("a", "moses")


def test_punkt_without_its_data_names_the_command(monkeypatch, tmp_path):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    with pytest.raises(DataError, match="nltk-punkt needs NLTK's Punkt data") as caught:
        tokenize("One. Two.", "nltk-punkt")
    assert "python -m nltk.downloader punkt_tab" in caught.value.hint


# What makes the short cuts around NLTK's rules go wrong, if anything does.
PIECES = st.sampled_from(
    ["a", "man", "x-ray", "3", "000", "cannot", "can", "not", "gonna", "gon", "na", "wanna", "lemme", "got", "ta", "d"]
    + [
        "'s",
        "mr",
        "e.g",
        "u.s",
        " ",
        " ",
        " ",
        "  ",
        ",",
        ", ",
        " , ",
        "-",
        "--",
        ".",
        ". ",
        " .",
        "..",
        "?",
        '"',
        "É",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_the_short_cut_for_plain_captions_agrees_with_the_rules(text):
    assert tokenize(text, "treebank-line") == NLTKWordTokenizer().tokenize(text.strip().lower())


@given(st.lists(PIECES, max_size=12).map("".join))
def test_the_short_cut_for_one_sentence_agrees_with_punkt(text):
    sentences = tokens._sentence_rules().tokenize(text.strip().lower())
    assert tokenize(text) == [word for part in sentences for word in NLTKWordTokenizer().tokenize(part)]


@given(st.text())
def test_any_text_is_split_without_complaint(text):
    for tokenizer in ("treebank", "treebank-line"):
        assert all(word and word == word.strip() for word in tokenize(text, tokenizer))
