"""Overrides and writing of recipes; and that no text whatever gives anything but a recipe or a RecipeError."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign_cli.errors import RecipeError
from selfalign_cli.recipe.load import dump_recipe, load_recipe, parse_recipe, recipe_from_dict, with_compat
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.recipe.wording import sections

BASE = "run: {dir: r}\ndata: {features: f, vocab: v}\nmodel: {name: vsrn}\nloss: {captioning: {weight: 2.0}}\n"
CAMERA = "run: {dir: r}\ndata: {features: f, max_words: 32}\nmodel: {name: camera, bert: b}\n"


def recipe_of(*overrides, base=BASE):
    return parse_recipe(base, overrides, "r.yaml")


def test_overrides_replace_and_add_keys():
    recipe = recipe_of("optim.epochs=3", "data.batch_size=7", "run.dir=a b")
    assert (recipe.optim.epochs, recipe.data.batch_size, recipe.run.dir) == (3, 7, "a b")


def test_an_override_may_hold_an_equals_sign_and_a_section():
    recipe = recipe_of("run.dir=runs/lr=1", "loss.ranking={margin: 0.3, warmup_epochs: 2}")
    assert recipe.run.dir == "runs/lr=1"
    assert (recipe.loss.ranking.margin, recipe.loss.ranking.warmup_epochs) == (0.3, 2)


def test_of_two_overrides_of_one_key_the_last_wins():
    assert recipe_of("optim.epochs=3", "optim.epochs=4").optim.epochs == 4


def test_null_takes_a_section_away_and_a_key_brings_it_back():
    assert recipe_of("loss.captioning=null").loss.captioning is None
    recipe = recipe_of("loss.captioning=null", "loss.captioning.max_len=9")
    assert recipe.loss.captioning.max_len == 9
    assert recipe.loss.captioning.weight == 1.0


def test_whole_numbers_serve_as_numbers():
    assert recipe_of("optim.learning_rate=1").optim.learning_rate == 1.0


def test_numbers_may_be_written_as_people_write_them():
    assert recipe_of("optim.learning_rate=2e-3").optim.learning_rate == 0.002
    assert recipe_of(base=BASE + "optim: {learning_rate: 2e-4}").optim.learning_rate == 0.0002


def test_a_recipe_that_caches_can_be_scored_as_published():
    assert not with_compat(recipe_of("data.cache_words=true", base=CAMERA), "published").data.cache_words


def test_a_stored_recipe_comes_back():
    recipe = recipe_of("compat=published", "padding.masked_means=true")
    assert recipe_from_dict(recipe.model_dump(), "x.ckpt") == recipe


@given(name=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1), rate=st.floats(1e-12, 1e12))
@settings(max_examples=60)
def test_a_written_recipe_is_read_back(name, rate):
    tree = recipe_of().model_dump()
    tree["run"]["dir"], tree["optim"]["learning_rate"] = name, rate
    recipe = recipe_from_dict(tree, "test")
    assert parse_recipe(dump_recipe(recipe), [], "again") == recipe


NAMES = st.sampled_from(sorted({key for keys in sections().values() for key in keys} | {"lr", "x", "<<", ""}))
WORDS = ["yes", "010", "1:30", "2e-4", "vsrn", "camera", "published", "\ud800", "\0", "2024-01-01"]
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(WORDS))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=20,
)
RECIPES = st.dictionaries(st.sampled_from(sorted(Recipe.model_fields)), st.dictionaries(NAMES, TREES, max_size=6))
YAML_CHARACTERS = st.text(st.sampled_from("ab:- \n\t{}[],&*!|>'\"%@`#?<=~\\x0U.1e_é\x85\ufeff"), max_size=40)


def recipe_or_refusal(read, *arguments):
    """Call a reader; anything but a recipe or a readable RecipeError fails the test."""
    try:
        result = read(*arguments)
    except RecipeError as error:
        result = error
    if isinstance(result, RecipeError):
        assert all(line.isprintable() for line in result.message.split("\n"))
        assert len(result.message) < 20_000
    else:
        assert isinstance(result, Recipe)


@given(st.one_of(st.binary(max_size=60), YAML_CHARACTERS.map(str.encode)))
@settings(max_examples=300)
def test_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    recipe_or_refusal(load_recipe, path)


@given(RECIPES)
@settings(max_examples=80)
def test_any_values_under_known_keys(tree):
    recipe_or_refusal(recipe_from_dict, tree, "x.ckpt")


@given(RECIPES.map(lambda tree: yaml.dump(tree, allow_unicode=False)))
@settings(max_examples=60)
def test_any_written_tree(text):
    recipe_or_refusal(parse_recipe, text, [], "r.yaml")


@given(
    st.tuples(NAMES, NAMES, st.one_of(YAML_CHARACTERS, LEAVES.map(str))).map(lambda parts: "{}.{}={}".format(*parts))
)
@settings(max_examples=200)
def test_any_override(override):
    recipe_or_refusal(parse_recipe, BASE, [override], "r.yaml")
