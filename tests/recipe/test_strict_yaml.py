"""YAML text to plain values: what is accepted, what is refused, and that hostile text ends quickly."""

from __future__ import annotations

import pytest

from selfalign_cli.recipe.strict_yaml import Unclear, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("12", 12),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("2.0e-4", 2e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("2e-4", "2e-4"),
        ("'no'", "no"),
        ("no way", "no way"),
        ("data/a b[1].h5", "data/a b[1].h5"),
        ("'2024-01-02'", "2024-01-02"),
        ("!!str 12", "12"),
        ("été", "été"),
        ("[1, [2]]", [1, [2]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("=", "="),
    ],
)
def test_plain_values(text, value):
    assert read_yaml(text) == (value, [])


@pytest.mark.parametrize(
    ("text", "reading", "number"),
    [
        ("no", "false", None),
        ("Yes", "true", None),
        ("ON", "true", None),
        ("010", "the octal number 8", "8 or 10"),
        ("-0x1f", "the hexadecimal number -31", "-31"),
        ("0b11", "the binary number 3", "3"),
        ("1_000.5", "the number 1000.5", "1000.5"),
        ("1:30", "a base-60 number", "90"),
        ("1:30.5", "a base-60 number", "90.5"),
        ("2024-01-02", "a date", None),
    ],
)
def test_words_that_readers_disagree_about_stay_unclear(text, reading, number):
    assert read_yaml(text) == (Unclear(text, reading, number), [])


@pytest.mark.parametrize("text", ["!!int abc", "!!float 1e", "!!int 1:x", "!!float " + "9" * 400])
def test_forced_numbers_that_are_none_stay_unclear(text):
    assert isinstance(read_yaml(text)[0], Unclear)


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("a: 1\nb: {c: 1,\n c: 2}", "b.c", "stands twice, in line 2 and in line 3 (keep one)"),
        ("a:\n\tb: 1", "line 2, column 1", "a tab where only blanks may stand"),
        ("a: 1\n---\nb: 1", "line 2, column 1", "a second document starts here (a recipe is one)"),
        ("a: 1\n1: 2", "line 2", "expected a key, got '1' (a key is a word)"),
        ("a: {on: 2}", "line 1", "expected a key of a, got 'on' (a key is a word)"),
        ("? [a]\n: 2", "line 1", "expected a key, got a section or list (a key is a word)"),
        ("a: !!python/name:os.system ''", "line 1", "tag '!!python/name:os.system' is not allowed in a recipe"),
        ("a: !mine {b: 1}", "line 1", "tag '!mine' is not allowed in a recipe"),
        ("a: !!set {b}", "line 1", "tag '!!set' is not allowed in a recipe"),
        ("a: !!int '3'", "line 1", "tag '!!int' is not allowed in a recipe"),
        ("<<: 3", "line 1", "expected a section (or a list of sections) after '<<'"),
        ("a: \x07", "text", "character number 3 is one that YAML does not allow (U+0007)"),
        ('a: "\\UFFFFFFFF"', "text", "an escape or number that stands for no character"),
    ],
)
def test_faults_with_their_place(text, label, message):
    _, found = read_yaml(text)
    assert [(fault.label, fault.message) for fault in found] == [(label, message)]


@pytest.mark.parametrize("text", ["[" * 20_000, "{a: " * 20_000, "\n".join(" " * n + f"k{n}:" for n in range(60))])
def test_deep_nesting_is_a_fault(text):
    _, found = read_yaml(text)
    assert [fault.message for fault in found] == ["nested more than 20 levels deep"]


def test_anchors_and_merge_keys():
    """Own keys win over merged ones, and of several merged sections the first wins."""
    text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc: {<<: [*a, *b], y: 3}\nd: *a"
    value, faults = read_yaml(text)
    assert faults == []
    assert value["c"] == {"x": 1, "y": 3, "z": 2}
    assert value["d"] == {"x": 1, "y": 1}


def test_a_billion_laughs_are_one_fault():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    _, faults = read_yaml("\n".join(lines))
    assert [fault.message[:17] for fault in faults] == ["nested too deeply"]


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}", "a: &a\n  <<: *a"])
def test_an_alias_inside_itself_is_a_fault(text):
    _, faults = read_yaml(text)
    assert "nested too deeply" in faults[0].message
