"""The preset table: complete, true to the schema, and weaker than what a recipe states."""

from __future__ import annotations

import pytest
from support.toy_host import toy_host_known

from selfalign_cli.errors import RecipeError
from selfalign_cli.recipe.compat import PRESET_KEYS, PRESETS, compat_label, rows_of
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.hosts import HOSTS
from selfalign_cli.recipe.load import parse_recipe, with_compat
from selfalign_cli.recipe.wording import listed

BASE = {
    "vsrn": "run: {dir: r}\ndata: {features: f, vocab: v}\nmodel: {name: vsrn}\nloss: {captioning: {}}\n",
    "camera": "run: {dir: r}\ndata: {features: f, max_words: 32}\nmodel: {name: camera, bert: b}\n",
    "vse_infty": "run: {dir: r}\ndata: {features: f, vocab: v}\nmodel: {name: vse_infty}\n",
    "vse_infty_bert": "run: {dir: r}\ndata: {features: f, max_words: 32}\nmodel: {name: vse_infty_bert, bert: b}\n",
}
CASES = [(host, row) for host in BASE for row in rows_of(host)]


def recipe_of(host, *overrides):
    return parse_recipe(BASE[host], overrides, host)


def value_at(recipe, path):
    for name in path.split("."):
        recipe = getattr(recipe, name)
    return recipe


def word(value):
    """A value as `--set` wants it."""
    return str(value) if type(value) is int else {True: "true", False: "false", None: "null"}.get(value, value)


def test_every_row_that_changes_numbers_is_there():
    assert {row.row for row in PRESET_KEYS} == {
        "M1",
        "M2",
        "M3",
        "M4",
        "M5",
        "M6",
        "M7",
        "M11",
        "G3",
        "O1",
        "D1",
        "D2",
        "D6",
    }
    assert len({row.path for row in PRESET_KEYS}) == len(PRESET_KEYS)
    assert all(row.corrected != row.published and row.sentence.endswith(".") for row in PRESET_KEYS)


@pytest.mark.parametrize(("host", "row"), CASES, ids=lambda part: getattr(part, "path", part))
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_what_the_recipe_leaves_out(host, row, preset):
    assert value_at(recipe_of(host, f"compat={preset}"), row.path) == row.value(preset)


@pytest.mark.parametrize(("host", "row"), CASES, ids=lambda part: getattr(part, "path", part))
@pytest.mark.parametrize("preset", PRESETS)
def test_a_stated_key_wins_and_is_named(host, row, preset):
    other = row.value("published" if preset == "corrected" else "corrected")
    recipe = recipe_of(host, f"compat={preset}", f"{row.path}={word(other)}")
    assert value_at(recipe, row.path) == other
    assert compat_label(recipe) == f"{preset}+{row.path.split('.')[-1]}"


@pytest.mark.parametrize("host", BASE)
def test_corrected_is_the_default(host):
    assert recipe_of(host) == recipe_of(host, "compat=corrected")
    assert compat_label(recipe_of(host)) == "corrected"


@pytest.mark.parametrize("host", BASE)
@pytest.mark.parametrize("preset", PRESETS)
def test_with_compat_replaces_stated_keys_too(host, preset):
    """But for the lower-casing, which the vocabulary of a checkpoint decides."""
    stated = recipe_of(host, "padding.masked_means=true", "loss.same_image_negatives=true")
    changed = with_compat(stated, preset)
    departs = host == "vsrn" and preset == "published"
    assert compat_label(changed) == preset + departs * "+lowercase"
    assert changed == recipe_of(host, f"compat={preset}", "data.lowercase=unicode")


def test_several_departures_are_named_in_the_order_of_the_table():
    recipe = recipe_of("vsrn", "compat=published", "validation.select_by=rsum", "padding.masked_means=true")
    assert compat_label(recipe) == "published+masked_means+select_by"


def test_rows_of_the_other_model_are_left_out():
    assert "model.guard_boxes" not in {row.path for row in rows_of("vsrn")}
    assert "optim.captioner_twice" not in {row.path for row in rows_of("camera")}


def test_a_host_that_left_the_table_is_unknown():
    with toy_host_known():
        assert recipe_of("vsrn").model.name == "vsrn"
    with pytest.raises(RecipeError, match=f"model.name=toy: expected {listed(list(HOSTS))}, got 'toy'"):
        recipe_of("vsrn", "model.name=toy")


def test_an_unknown_preset_is_one_fault_only():
    with pytest.raises(RecipeError, match="has 1 fault\n  --set compat=old: expected corrected or published"):
        recipe_of("vsrn", "padding.masked_means=true", "compat=old")


def test_the_preset_changes_the_hash_and_its_name_does_not():
    recipe = recipe_of("vsrn")
    assert recipe_hash(with_compat(recipe, "published")) != recipe_hash(recipe)
    assert recipe_hash(recipe.model_copy(update={"compat": "published"})) == recipe_hash(recipe)
