"""Schedules as fractions of the epochs, and widths left to the features: what they become, and what is refused."""

from __future__ import annotations

import pytest

from selfalign_cli.errors import RecipeError
from selfalign_cli.recipe.hashes import recipe_hash
from selfalign_cli.recipe.json_schema import recipe_json_schema
from selfalign_cli.recipe.load import dump_recipe, parse_recipe, with_widths
from selfalign_cli.recipe.relative import EPOCH_KEYS, width_for

BASE = "run: {dir: r}\ndata: {features: f, vocab: v}\nmodel: {name: vsrn}\n"
CAMERA = (
    "run: {dir: r}\ndata: {features: f, max_words: 32}\nmodel: {name: camera, bert: b, embed_dim: null, heads: 48}\n"
)
SHAPE = ("optim.decay_every=0.75", "loss.ranking.warmup_epochs=.5", "loss.concept.frozen_epochs=1e-1")


def recipe_of(*overrides, base=BASE):
    return parse_recipe(base, overrides, "r.yaml")


def schedule(*overrides):
    loss, optim = (recipe := recipe_of(*SHAPE, *overrides)).loss, recipe.optim
    return optim.decay_every, loss.ranking.warmup_epochs, loss.concept.frozen_epochs


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(20, (15, 10, 2)), (8, (6, 4, 1)), (10, (8, 5, 1)), (3, (2, 2, 1)), (1, (1, 1, 1))],
)
def test_a_schedule_keeps_its_shape(epochs, expected):
    """0.75, 0.5 and 0.1 of the epochs; halves go up (7.5 → 8), and nothing becomes 0."""
    assert schedule(f"optim.epochs={epochs}") == expected
    assert all(type(value) is int for value in expected)


def test_without_epochs_it_is_a_fraction_of_the_default():
    assert schedule() == (23, 15, 3)


def test_a_recipe_with_fractions_is_that_with_their_numbers():
    stated = recipe_of("optim.decay_every=15", "optim.epochs=20")
    assert recipe_of("optim.decay_every=0.75", "optim.epochs=20") == stated
    assert recipe_hash(recipe_of("optim.decay_every=0.75", "optim.epochs=20")) == recipe_hash(stated)
    assert "decay_every: 15\n" in dump_recipe(stated)


@pytest.mark.parametrize("value", ["1.5", "0.0", "-0.5", "1.0", "half", "true"])
@pytest.mark.parametrize("key", EPOCH_KEYS)
def test_both_forms_are_named_where_neither_was_given(key, value):
    with pytest.raises(RecipeError, match="expected a whole number or a fraction of optim.epochs below 1, got"):
        recipe_of(f"{key}={value}")


def test_a_fault_of_the_epochs_is_the_only_one():
    with pytest.raises(RecipeError) as caught:
        recipe_of("optim.epochs=many", "optim.decay_every=0.5")
    assert caught.value.message.splitlines()[1:] == [
        "  --set optim.epochs=many: expected a whole number, got text 'many'"
    ]


def test_editors_know_which_keys_may_be_fractions():
    sections = recipe_json_schema()["$defs"]
    found = {key for name in sections for key, value in sections[name]["properties"].items() if takes_fractions(value)}
    assert found == {path.rpartition(".")[2] for path in EPOCH_KEYS}


def takes_fractions(value):
    return any("exclusiveMaximum" in choice for choice in value.get("anyOf", []))


@pytest.mark.parametrize(
    ("features", "width"), [(384, 256), (2048, 256), (256, 256), (255, 192), (128, 128), (100, 64), (24, 64), (1, 64)]
)
def test_the_width_for_features(features, width):
    assert width_for(features) == width


def test_widths_that_follow_the_features_become_numbers():
    loose = recipe_of("model.embed_dim=null", "loss.captioning={hidden_dim: null}")
    filled, notes = with_widths(loose, 200)
    assert (filled.model.embed_dim, filled.loss.captioning.hidden_dim) == (192, 192)
    assert notes == [
        "model.embed_dim: 192, for features of width 200",
        "loss.captioning.hidden_dim: 192, as model.embed_dim",
    ]
    assert filled == recipe_of("model.embed_dim=192", "loss.captioning={hidden_dim: 192}")
    assert with_widths(filled, 999) == (filled, [])


def test_the_generator_alone_may_follow():
    filled, notes = with_widths(recipe_of("model.embed_dim=96", "loss.captioning={hidden_dim: null}"), 384)
    assert filled.loss.captioning.hidden_dim == 96
    assert len(notes) == 1


def test_a_width_that_does_not_fit_the_heads_is_refused_once_it_is_known():
    assert recipe_of(base=CAMERA).model.embed_dim is None
    with pytest.raises(RecipeError, match="model.heads: expected a divisor of the 128 of model.embed_dim, got 48"):
        with_widths(recipe_of(base=CAMERA), 128)
    assert with_widths(recipe_of(base=CAMERA), 192)[0].model.heads == 48


@pytest.mark.parametrize("text", ["2e-3", "+2e-3", "2E-3", "0.002", ".2e-2", "2.e-3"])
def test_numbers_as_people_write_them(text):
    assert recipe_of(f"optim.learning_rate={text}").optim.learning_rate == 0.002
    assert recipe_of(base=f"{BASE}optim: {{learning_rate: {text}}}").optim.learning_rate == 0.002
    assert recipe_of(f"loss={{ranking: {{margin: {text}}}}}").loss.ranking.margin == 0.002


@pytest.mark.parametrize(("text", "value"), [("1e5", 1e5), ("1E-3", 1e-3), (".5e-1", 0.05), ("-0e0", 0.0)])
def test_more_of_them(text, value):
    assert recipe_of(f"loss.ranking.margin={text}").loss.ranking.margin == value


@pytest.mark.parametrize("text", ["1.2.3", "2e-3a", "1e5-1e6", "e5", "v2e-3", "2014-05-01", "1_000", "12e", "0x1G"])
def test_what_only_resembles_a_number_stays_text(text):
    assert recipe_of(f"data.train_split={text}").data.train_split == text
    assert recipe_of(base=BASE.replace("features: f", f"features: {text}")).data.features == text


@pytest.mark.parametrize("text", ["12e5", "2017", "0x1F"])
def test_a_number_where_text_is_wanted_is_quoted_or_refused(text):
    """An id that reads as a number would lose its spelling: nothing else than it may be meant."""
    with pytest.raises(RecipeError, match=r"data\.train_split=.* \(quote it\)"):
        recipe_of(f"data.train_split={text}")
    assert recipe_of(f"data.train_split='{text}'").data.train_split == text
