"""Every shipped recipe loads, under both presets, and has the settings its name promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfalign_cli.recipe.load import dump_recipe, load_recipe, parse_recipe, with_widths

RECIPES = Path(__file__).parents[2] / "recipes"
FOUND = sorted(RECIPES.rglob("*.y*ml"))
# What published programs do to BERT and padding leaves nothing to cache; the key moves no number.
UNDER = {"corrected": ["compat=corrected"], "published": ["compat=published", "data.cache_words=false"]}


def test_recipes_are_found():
    names = {path.stem for path in FOUND}
    assert {"vsrn_f30k", "vsrn_coco", "camera_f30k", "camera_coco", "vsrn_scenes", "vsrn_own", "camera_own"} <= names


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
@pytest.mark.parametrize("preset", ["corrected", "published"])
def test_loads_and_is_read_back_after_writing(path, preset):
    recipe = load_recipe(path, UNDER[preset])
    assert recipe.compat == preset
    assert parse_recipe(dump_recipe(recipe), [], "again") == recipe


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_opens_with_the_command_that_uses_it(path):
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(f"selfalign train recipes/{path.name}" in line for line in header)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_run_folder_has_the_name_of_the_recipe(path):
    assert load_recipe(path).run.dir == f"runs/{path.stem}"


@pytest.mark.parametrize(
    ("name", "epochs", "decay_every", "learning_rate"),
    [
        ("vsrn_f30k", 30, 10, 2e-4),
        ("vsrn_coco", 30, 15, 2e-4),
        ("camera_f30k", 30, 10, 1e-4),
        ("camera_coco", 40, 20, 1e-4),
    ],
)
def test_published_schedule(name, epochs, decay_every, learning_rate):
    optim = load_recipe(RECIPES / f"{name}.yaml").optim
    assert (optim.epochs, optim.decay_every, optim.learning_rate) == (epochs, decay_every, learning_rate)
    assert (optim.decay_factor, optim.grad_clip_norm) == (0.1, 2.0)


def test_flickr_and_coco_differ_in_two_model_keys():
    flickr, coco = (load_recipe(RECIPES / f"vsrn_{name}.yaml").model.model_dump() for name in ("f30k", "coco"))
    assert {key: (flickr[key], coco[key]) for key in flickr if flickr[key] != coco[key]} == {
        "normalize_regions": (False, True),
        "final_batchnorm": (True, False),
    }


@pytest.mark.parametrize("path", [path for path in FOUND if path.stem.endswith("_baseline")], ids=lambda p: p.stem)
def test_a_baseline_differs_in_selfalign_only(path):
    name = path.stem.removesuffix("_baseline")
    ours, baseline = (load_recipe(RECIPES / f"{stem}.yaml").model_dump() for stem in (name, path.stem))
    assert (ours["selfalign"].pop("enabled"), baseline["selfalign"].pop("enabled")) == (True, False)
    assert (ours["run"].pop("dir"), baseline["run"].pop("dir")) == (f"runs/{name}", f"runs/{path.stem}")
    assert ours == baseline


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*_own.yaml")), ids=lambda path: path.stem)
def test_a_recipe_for_own_pictures_needs_nothing_but_them(path):
    """Its widths follow the features and its schedule the epochs: features, and perhaps a vocabulary, are all."""
    recipe = load_recipe(path, ["data.features=F.h5", "optim.epochs=40"])
    assert recipe.model.embed_dim is None
    assert recipe.optim.decay_every == 30
    assert recipe.loss.ranking.warmup_epochs in (20, 30)
    assert (with_widths(recipe, 768)[0].embed_dim, with_widths(recipe, 100)[0].embed_dim) == (256, 64)
