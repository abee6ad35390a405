"""YAML 1.2 text to plain values: what is accepted, what is refused, and that hostile text ends quickly."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from selfalign_cli.recipe.yaml12 import read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("null", None),
        ("~", None),
        ("{a: }", {"a": None}),
        ("12", 12),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("2.0e-4", 2e-4),
        ("2e-4", 2e-4),
        ("1E3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("'no'", "no"),
        ("no way", "no way"),
        ("data/a b[1].h5", "data/a b[1].h5"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!int '3'", 3),
        ("!!float 3", 3.0),
        ("été", "été"),
        ("[1, [2]]", [1, [2]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("{on: 1}", {"on": 1}),
    ],
)
def test_plain_values(text, value):
    found, faults = read_yaml(text)
    assert faults == []
    assert (found, type(found)) == (value, type(value))


def test_not_a_number():
    assert math.isnan(read_yaml(".nan")[0])


@pytest.mark.parametrize(
    "word",
    ["no", "Yes", "ON", "y", "tRUE", "0b11", "-0x1f", "0o8", "1_000", "1:30", "1:30.5", "2024-01-02", "=", "<<", ".",
     "1e", "e5", "+.nan", "9" * 41],
)  # fmt: skip
def test_words_that_are_text_in_yaml_1_2(word):
    assert read_yaml(word) == (word, [])


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("a: 1\nb: {c: 1,\n c: 2}", "b.c", "given twice, in line 2 and in line 3 (keep one)"),
        ("a:\n\tb: 1", "line 2, column 1", "a tab where only blanks may stand"),
        ("a: 1\n---\nb: 1", "line 2, column 1", "a second document starts here (a recipe is one)"),
        ("a: 1\n1: 2", "line 2", "expected a key, got '1' (a key is a word)"),
        ("a: {true: 2}", "line 1", "expected a key of a, got 'true' (a key is a word)"),
        ("? [a]\n: 2", "line 1", "expected a key, got a section or list (a key is a word)"),
        ("a: !!python/name:os.system ''", "line 1", "tag '!!python/name:os.system' is not allowed in a recipe"),
        ("a: !mine {b: 1}", "line 1", "tag '!mine' is not allowed in a recipe"),
        ("a: !!set {b}", "line 1", "tag '!!set' is not allowed in a recipe"),
        ("a: !!int abc", "line 1", "expected a value of type int, got 'abc'"),
        ("a: !!float 1e", "line 1", "expected a value of type float, got '1e'"),
        ("<<: 3", "line 1", "expected a section (or a list of sections) after '<<'"),
        ("a: \x07", "text", "character number 3 is one that YAML does not allow (U+0007)"),
        ('a: "\\UFFFFFFFF"', "text", "an escape that stands for no character"),
    ],
)
def test_faults_with_their_position(text, label, message):
    _, found = read_yaml(text)
    assert [(fault.label, fault.message) for fault in found] == [(label, message)]


@pytest.mark.parametrize("text", ["[" * 20_000, "{a: " * 20_000, "\n".join(" " * n + f"k{n}:" for n in range(60))])
def test_deep_nesting_is_a_fault(text):
    _, found = read_yaml(text)
    assert [fault.message[:32] for fault in found] == ["nested more than 20 levels deep,"]


@pytest.mark.parametrize("text", ["[" + "1, " * 11_000 + "]", "\n".join(f"k{number}: 1" for number in range(6000))])
def test_too_many_values_are_a_fault(text):
    _, found = read_yaml(text)
    assert ["more than 10,000 values" in fault.message for fault in found] == [True]


def test_faults_do_not_end_the_reading():
    value, found = read_yaml("a: 1\na: 2\nb: !mine 3\nc: 4\nc: 5")
    assert value == {"a": 1, "b": None, "c": 4}
    assert [fault.label for fault in found] == ["a", "line 3", "c"]


def test_anchors_and_merge_keys():
    """Own keys win over merged ones, and of several merged sections the first wins."""
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc: {<<: [*a, *b], y: 3}\nd: *a"
    value, faults = read_yaml(text)
    assert faults == []
    assert value["c"] == {"x": 1, "y": 3, "z": 2}
    assert value["d"] == {"x": 1, "y": 1}
    assert value["d"] is not value["a"]


def test_a_billion_laughs_are_one_fault():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    _, faults = read_yaml("\n".join(lines))
    assert ["more than 10,000 values" in fault.message for fault in faults] == [True]


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}", "a: &a\n  <<: *a"])
def test_an_alias_inside_itself_is_a_fault(text):
    _, faults = read_yaml(text)
    assert ["is an alias inside itself?" in fault.message for fault in faults] == [True]


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=9)
NUMBERS = st.one_of(st.floats(allow_nan=False), st.integers(-(10**30), 10**30))


@given(st.dictionaries(TEXTS, st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())))
def test_what_is_written_is_read_back_by_both_versions_of_yaml(tree):
    assert read_yaml(write_yaml(tree)) == (tree, [])
    assert yaml.safe_load(write_yaml(tree)) == tree


@pytest.mark.parametrize("word", ["2e-4", "0o7", "010", "no", "1:30", "null", "1e3", "2024-01-02", "<<", "", "~"])
def test_text_that_looks_like_something_else_is_written_in_quotes(word):
    assert write_yaml({"a": word}) == f"a: '{word}'\n"
