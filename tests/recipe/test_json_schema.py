"""The JSON schema of recipes: valid, complete, and in agreement with the loader about the shipped recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfalign_cli.recipe.json_schema import recipe_json_schema
from selfalign_cli.recipe.load import parse_recipe
from selfalign_cli.recipe.shipped import shipped_recipes
from selfalign_cli.recipe.wording import sections
from selfalign_cli.recipe.yaml12 import read_yaml

jsonschema = pytest.importorskip("jsonschema", reason="the extra `dev` brings it")
SCHEMA = json.loads(json.dumps(recipe_json_schema()))


def errors(tree):
    return [error.json_path for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(tree)]


def test_it_is_a_schema_of_draft_2020_12():
    assert SCHEMA["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_key_is_described():
    """But for sections, which their own schema describes, and the name of the host."""
    keys = {
        (name, key): value
        for name, section in {**SCHEMA["$defs"], "Recipe": SCHEMA}.items()
        for key, value in section["properties"].items()
    }
    assert {key for _, key in keys} == {key for keys in sections().values() for key in keys}
    assert all("description" in section for section in SCHEMA["$defs"].values())
    undescribed = {key for (_, key), value in keys.items() if "description" not in value and "$ref" not in value}
    assert undescribed == {"model", "name"}


@pytest.mark.parametrize("path", shipped_recipes().values(), ids=lambda path: path.stem)
def test_shipped_recipes_fit(path):
    assert errors(read_yaml(path.read_text(encoding="utf-8"))[0]) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("optim: {lr: 1}", "$.optim"),
        ("optim: {epochs: 0}", "$.optim.epochs"),
        ("run: {seed: 1}", "$.run"),
        ("compat: old", "$.compat"),
        ("model: {name: vsrm}", "$.model"),
    ],
)
def test_faults_are_found(text, path):
    base = {"run": {"dir": "r"}, "data": {"features": "f"}, "model": {"name": "vsrn"}}
    assert errors({**base, **read_yaml(text)[0]}) == [path]


def test_a_recipe_may_name_its_schema(tmp_path: Path):
    text = "# yaml-language-server: $schema=recipe.schema.json\nrun: {dir: r}\ndata: {features: f, vocab: v}\n"
    assert parse_recipe(text + "model: {name: vsrn}\n", [], "r.yaml").model.name == "vsrn"
