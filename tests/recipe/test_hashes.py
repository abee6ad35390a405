"""Hashes of recipes stand still: of the shipped recipes, of those the documents print, and of older recipes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from selfalign_cli.demo.arms import ABLATIONS, ARMS, arm_recipe
from selfalign_cli.recipe import hashes
from selfalign_cli.recipe.hashes import FIRST_NAMES, LAST_PART_HASHED, LATER_KEYS, NOT_HASHED, hashed_tree, recipe_hash
from selfalign_cli.recipe.load import load_recipe, parse_recipe, with_widths
from selfalign_cli.recipe.shipped import shipped_recipe

CHECKOUT = Path(__file__).parents[2]
BASE = "run: {dir: r}\ndata: {features: f, vocab: v}\nmodel: {name: vsrn}\nloss: {captioning: {weight: 2.0}}\n"
CAMERA = "run: {dir: r}\ndata: {features: f, max_words: 32}\nmodel: {name: camera, bert: b}\n"

# Never to be edited: results were published under these hashes.
SHIPPED = {
    # name: under compat: corrected, under compat: published
    "camera_coco": ("a45afcf3", "8bd5aa5f"),
    "camera_f30k": ("b0d7aa42", "58e2dff5"),
    "camera_own": ("75106744", "80fd248e"),
    "camera_own_baseline": ("18157677", "0db9f0eb"),
    "camera_scenes": ("0aa0227b", "22758d97"),
    "camera_scenes_baseline": ("3b814cd9", "ebbcbdcf"),
    "camera_scenes_baseline_equal_time": ("cdfe6e32", "e1678846"),
    "vse_infty_coco": ("a037bf8b", "68f85233"),
    "vse_infty_coco_bert": ("ce15784f", "d8ab985f"),
    "vse_infty_f30k": ("a037bf8b", "68f85233"),
    "vse_infty_f30k_bert": ("ce15784f", "d8ab985f"),
    "vse_infty_own": ("8d823c6a", "7516f5db"),
    "vse_infty_own_baseline": ("5a3bc854", "f2a76d10"),
    "vse_infty_scenes": ("483e9f9c", "fee579fc"),
    "vse_infty_scenes_baseline": ("6d82c1b8", "5bacbed8"),
    "vse_infty_scenes_baseline_equal_time": ("a45fec25", "ab7eb56a"),
    "vsrn_coco": ("fdde10e4", "44317269"),
    "vsrn_f30k": ("c3146bc8", "7c735cd2"),
    "vsrn_own": ("924a0953", "53653d18"),
    "vsrn_own_baseline": ("1cd413cf", "919204a6"),
    "vsrn_scenes": ("778bab8d", "d9ddaf12"),
    "vsrn_scenes_baseline": ("aa523d98", "c55ea7db"),
    "vsrn_scenes_baseline_equal_time": ("e24009b1", "cf9547a6"),
}
FOLLOWING = {
    # name, width of the features: recipes whose widths follow them, once they are known
    ("vsrn_own", 384): "0c18a46b",
    ("vsrn_own_baseline", 384): "d75804a1",
}
ARM_HASHES = {
    ("vsrn", "baseline"): "aa523d98",
    ("vsrn", "selfalign"): "778bab8d",
    ("vsrn", "baseline_equal_time"): "e24009b1",
    ("vsrn", "context_embedding_alone"): "c96fa708",
    ("vsrn", "no_concept_loss"): "4496257b",
    ("vsrn", "no_context_loss"): "8c40a679",
    ("vsrn", "no_context_embedding"): "2af55f1e",
    ("camera", "baseline"): "3b814cd9",
    ("camera", "selfalign"): "0aa0227b",
    ("camera", "baseline_equal_time"): "cdfe6e32",
    ("camera", "context_embedding_alone"): "179842fe",
    ("camera", "no_concept_loss"): "64f3e956",
    ("camera", "no_context_loss"): "052710ae",
    ("camera", "no_context_embedding"): "03042185",
}
HASHED_KEYS = {
    "data": "batch_size dev_limit dev_split lowercase max_words pad_to_max_words tokenizer train_split",
    "loss": "captioning diversity same_image_negatives",
    "loss.captioning": "dropout hidden_dim max_len weight word_dim",
    "loss.concept": "enabled frozen_epochs image_gradient prototypes sinkhorn_epsilon sinkhorn_iterations temperature "
    "weight",
    "loss.context": "enabled exclude_own image_temperature negatives text_temperature weight",
    "loss.diversity": "reduction weight",
    "loss.ranking": "hardest_negative margin reduction similarity warmup_epochs",
    "model": "absolute attention_layers bert bert_eval_mode bounded_norm dropout embed_dim equal_start "
    "final_batchnorm finetune_bert graph_layers guard_boxes heads name normalize_image normalize_over "
    "normalize_regions views word_dim",
    "optim": "bert_learning_rate captioner_twice decay_every decay_factor epochs grad_clip_norm learning_rate",
    "padding": "masked_attention masked_batchnorm masked_means",
    "run": "seed",
    "selfalign": "context_embedding enabled image_context_weight relu",
    "validation": "batch_size every select_by",
}


def recipe_of(*overrides, base=BASE):
    return parse_recipe(base, overrides, "r.yaml")


def paths(tree, section=""):
    """Every `section.key` of nested dictionaries that holds no section."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from paths(value, f"{section}{name}.")
        else:
            yield section + name


def value_at(recipe, path):
    for name in path.split("."):
        recipe = getattr(recipe, name)
    return recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_hashes_of_shipped_recipes(name):
    found = tuple(
        recipe_hash(load_recipe(shipped_recipe(f"{name}.yaml"), [f"compat={preset}", *others]))
        for preset, others in (("corrected", ()), ("published", ["data.cache_words=false"]))
    )
    assert found == SHIPPED[name]


@pytest.mark.parametrize(("name", "width"), FOLLOWING)
def test_hashes_of_recipes_that_follow_the_features(name, width):
    recipe, _ = with_widths(load_recipe(shipped_recipe(name)), width)
    assert recipe_hash(recipe) == FOLLOWING[name, width]


def test_every_shipped_recipe_has_its_hash_here():
    assert {path.stem for path in (CHECKOUT / "recipes").glob("*.yaml")} == set(SHIPPED)


@pytest.mark.parametrize("model", ["vsrn", "camera"])
@pytest.mark.parametrize("arm", [*ARMS, *ABLATIONS], ids=lambda arm: arm.name)
def test_hashes_of_the_arms_of_the_demo(model, arm, tmp_path):
    text = tmp_path / ("scenes_vocab.json" if model == "vsrn" else "scenes_bert")
    recipe = arm_recipe(arm, model, seed=1024, folder=tmp_path / "run", features=tmp_path / "f.h5", text=text)
    assert recipe_hash(recipe) == ARM_HASHES[model, arm.name]


def test_hashes_that_the_documents_print():
    """They come from shipped recipes and from the demo."""
    documents = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
    printed = {
        found
        for path in documents
        for signature in re.findall(r"\|recipe:([0-9a-f+]+)", path.read_text(encoding="utf-8"))
        for found in signature.split("+")
    }
    known = {*ARM_HASHES.values(), *FOLLOWING.values(), *(found for pair in SHIPPED.values() for found in pair)}
    assert {"aa523d98", "778bab8d", "e24009b1"} <= printed
    assert printed <= known


def test_no_hash_moves_by_a_new_key():
    """A key with a default stands in every recipe, and so in every hash, unless `LATER_KEYS` says otherwise."""
    expected = {f"{section}.{key}" for section, keys in HASHED_KEYS.items() for key in keys.split()}
    expected -= {"loss.captioning", "loss.diversity"}  # sections where they are given, null where they are not
    found = set()
    for base in (BASE, CAMERA + "loss: {diversity: {}}"):
        found.update(paths(hashed_tree(recipe_of(base=base))))
    found -= {"loss.captioning", "loss.diversity"}
    assert found - expected == set(), (
        f"{sorted(found - expected)}: new in the schema, and changes the hash of every recipe. "
        f"Add it to LATER_KEYS in {hashes.__name__}, with the value that means what recipes without the key meant."
    )
    assert expected - found == set(), (
        f"{sorted(expected - found)}: no longer hashed, which changes the hash of every recipe. "
        f"If the key was renamed, add it to FIRST_NAMES in {hashes.__name__}."
    )


@pytest.mark.parametrize("path", LATER_KEYS)
@pytest.mark.parametrize("base", [BASE, CAMERA], ids=["vsrn", "camera"])
def test_a_later_key_at_its_default_is_not_hashed(path, base, monkeypatch):
    recipe = recipe_of(base=base)
    assert value_at(recipe, path) == LATER_KEYS[path], f"the schema's default of {path} is not the one in LATER_KEYS"
    assert path not in set(paths(hashed_tree(recipe)))
    hash_without = recipe_hash(recipe)
    monkeypatch.delitem(LATER_KEYS, path)
    assert path in set(paths(hashed_tree(recipe)))
    assert recipe_hash(recipe) != hash_without


def test_a_later_key_that_is_set_is_hashed():
    assert recipe_hash(recipe_of("optim.chunk_size=32")) != recipe_hash(recipe_of())
    assert recipe_hash(load_recipe(shipped_recipe("vsrn_scenes.yaml"), ["optim.chunk_size=32"])) == "dac57aa9"


def test_the_tables_name_keys_of_recipes():
    known = {path for base in (BASE, CAMERA) for path in paths(recipe_of(base=base).model_dump())}
    assert {*NOT_HASHED, *LATER_KEYS, *FIRST_NAMES, *LAST_PART_HASHED} <= known


@pytest.mark.parametrize(
    "override",
    [
        "run.dir=x",
        "run.log_every=1",
        "run.save_every=1",
        "run.tensorboard=false",
        "data.workers=3",
        "data.features=g",
        "data.vocab=w",
    ],
)
def test_the_hash_ignores_what_moves_no_number(override):
    assert recipe_hash(recipe_of(override)) == recipe_hash(recipe_of())


def test_the_hash_ignores_whether_token_states_are_cached():
    assert recipe_hash(recipe_of("data.cache_words=true", base=CAMERA)) == recipe_hash(recipe_of(base=CAMERA))


@pytest.mark.parametrize("override", ["run.seed=1", "optim.epochs=4", "loss.captioning=null", "model.absolute=true"])
def test_the_hash_follows_what_moves_numbers(override):
    assert recipe_hash(recipe_of(override)) != recipe_hash(recipe_of())


@pytest.mark.parametrize("notation", ["2.0e-4", "2e-4", "0.0002"])
def test_the_hash_does_not_depend_on_notation(notation):
    assert recipe_hash(recipe_of(f"optim.learning_rate={notation}")) == recipe_hash(recipe_of())


def test_the_hash_takes_the_name_of_a_bert_folder_and_not_its_location():
    here, there, other = (recipe_of(f"model.bert={name}", base=CAMERA) for name in ("a/bert", "b/bert", "b/other"))
    assert recipe_hash(here) == recipe_hash(there) != recipe_hash(other)
