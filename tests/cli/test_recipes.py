"""`selfalign recipes`: the list, one recipe, the schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from selfalign_cli.cli.app import app
from selfalign_cli.recipe.json_schema import recipe_json_schema
from selfalign_cli.recipe.load import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def run(*arguments):
    return CliRunner().invoke(app, ["recipes", *map(str, arguments)])


def test_the_list_has_a_line_for_each():
    lines = run().stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["recipe", *NAMES]
    assert "vsrn_f30k  " in lines[NAMES.index("vsrn_f30k") + 1]
    assert "VSRN + SelfAlign on Flickr30K" in lines[NAMES.index("vsrn_f30k") + 1]
    assert all(len(line.split()) > 5 for line in lines[1:])


def test_the_list_as_json():
    listed = json.loads(run("--json").stdout)
    assert [entry["name"] for entry in listed] == NAMES
    assert all(entry["summary"] and not entry["summary"].startswith("#") for entry in listed)


@pytest.mark.parametrize("name", ["vsrn_scenes", "vsrn_scenes.yaml"])
def test_one_recipe_is_printed_as_it_is(name):
    result = run(name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (RECIPES / "vsrn_scenes.yaml").read_text(encoding="utf-8")


def test_one_recipe_is_written_and_loads(tmp_path):
    result = run("camera_f30k", "--out", tmp_path / "new" / "mine.yaml")
    assert (result.exit_code, result.stdout) == (0, "")
    assert load_recipe(tmp_path / "new" / "mine.yaml") == load_recipe(RECIPES / "camera_f30k.yaml")


def test_the_schema_is_printed_or_written(tmp_path):
    assert json.loads(run("--schema").stdout) == recipe_json_schema()
    assert run("--schema", "-o", tmp_path / "recipe.schema.json").stdout == ""
    assert json.loads((tmp_path / "recipe.schema.json").read_text()) == recipe_json_schema()


def test_nothing_is_replaced_unasked(tmp_path):
    (tmp_path / "mine.yaml").write_text("mine")
    refused = run("vsrn_scenes", "--out", tmp_path / "mine.yaml")
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    assert run("vsrn_scenes", "--out", tmp_path / "mine.yaml", "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vsrn_scene"], "error: there is no shipped recipe vsrn_scene\nhint: did you mean vsrn_scenes?\n"),
        (["zzz.yaml"], "error: there is no shipped recipe zzz\nhint: selfalign recipes lists them\n"),
        (["vsrn_scenes", "--schema"], "error: --schema is of all recipes\nhint: leave NAME out\n"),
        (["--schema", "--json"], "error: --json is for the list of recipes\nhint: leave it out\n"),
        (["vsrn_scenes", "--json"], "error: --json is for the list of recipes\nhint: leave it out\n"),
        (["--out", "x.yaml"], "error: --out needs NAME or --schema beside it\n"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, message):
    result = run(*arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", message)
