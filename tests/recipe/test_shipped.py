"""The recipes of the demo are found, and differ in what the comparison is about."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from selfalign_cli.errors import RecipeError
from selfalign_cli.recipe import shipped
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.recipe.shipped import shipped_recipe

CHECKOUT = Path(__file__).parents[2]


def keys(tree, path=""):
    """Flatten nested sections to `section.key` names."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from keys(value, f"{path}{name}.")
        else:
            yield path + name, value


def differing(one, two):
    first, second = (dict(keys(load_recipe(shipped_recipe(name)).model_dump())) for name in (one, two))
    return {key for key in first | second if first.get(key, ...) != second.get(key, ...)}


@pytest.mark.parametrize("name", ["vsrn_scenes.yaml", "vsrn_scenes"])
def test_a_shipped_recipe_is_a_file(name):
    assert shipped_recipe(name).is_file()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vsrn_scene", "did you mean vsrn_scenes?"),
        ("nothing.yaml", "selfalign recipes lists them"),
        ("../recipes/vsrn_scenes", "did you mean vsrn_scenes?"),
    ],
)
def test_an_unknown_one_is_named(name, hint):
    with pytest.raises(RecipeError, match="no shipped recipe") as caught:
        shipped_recipe(name)
    assert caught.value.hint == hint


def test_a_damaged_installation_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDERS", (tmp_path,))
    with pytest.raises(RecipeError, match="no recipes in") as caught:
        shipped_recipe("vsrn_scenes")
    assert caught.value.hint == "install selfalign again"


@pytest.mark.parametrize("model", ["vsrn", "camera"])
def test_the_baseline_of_equal_time_differs_in_its_schedule_only(model):
    found = differing(f"{model}_scenes_baseline.yaml", f"{model}_scenes_baseline_equal_time.yaml")
    schedule = {"optim.epochs", "optim.decay_every", "loss.ranking.warmup_epochs"}
    assert {"run.dir", "optim.epochs"} <= found <= {"run.dir", *schedule}


def test_every_folder_of_code_is_installed():
    """The list in pyproject.toml is written by hand, since it maps `recipes` into the package."""
    found = re.search(
        r"^packages = (\[.*?\])$", (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S
    )
    assert found is not None
    listed = ast.literal_eval(found[1])
    folders = {file.parent.relative_to(CHECKOUT) for file in (CHECKOUT / "selfalign_cli").rglob("*.py")}
    assert sorted(listed) == sorted({".".join(folder.parts) for folder in folders} | {"selfalign_cli.shipped"})
