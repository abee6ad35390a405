"""`selfalign recipes`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from selfalign_cli.cli.console import show_json, show_message, show_table, write
from selfalign_cli.cli.options import JsonOpt, OverwriteOpt
from selfalign_cli.errors import RecipeError

NameArg = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="Recipe to print; default: list them all.", show_default=False),
]
SchemaOpt = Annotated[
    bool, typer.Option("--schema", help="Print the JSON schema of recipes, for editors that complete and check YAML.")
]
OutOpt = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the recipe or the schema to a file.")
]


def recipes(
    name: NameArg = None,
    schema: SchemaOpt = False,
    out: OutOpt = None,
    as_json: JsonOpt = False,
    overwrite: OverwriteOpt = False,
) -> None:
    """List the shipped recipes, print one, or print the JSON schema of recipes.

    A recipe whose first line is "# yaml-language-server: $schema=recipe.schema.json" is checked against that schema
    by editors that speak to the YAML language server.

    Example: selfalign recipes vsrn_scenes --out my.yaml
    """
    from selfalign_cli.recipe.shipped import shipped_recipe, shipped_recipes, summary_of

    if schema and name is not None:
        raise RecipeError("--schema is of all recipes", "leave NAME out")
    if as_json and (schema or name is not None):
        raise RecipeError("--json is for the list of recipes", "leave it out")
    if schema:
        from selfalign_cli.recipe.json_schema import recipe_json_schema

        _print_or_write(json.dumps(recipe_json_schema(), indent=2) + "\n", out, overwrite)
    elif name is not None:
        _print_or_write(shipped_recipe(name).read_text(encoding="utf-8"), out, overwrite)
    elif out is not None:
        raise RecipeError("--out needs NAME or --schema beside it")
    else:
        listed = {name: summary_of(path) for name, path in shipped_recipes().items()}
        if as_json:
            show_json([{"name": name, "summary": summary} for name, summary in listed.items()])
        else:
            show_table(["recipe", ""], [[name, summary] for name, summary in listed.items()])


def _print_or_write(text: str, out: Path | None, overwrite: bool) -> None:
    if out is None:
        write(sys.stdout, text.rstrip("\n"))
        return
    from selfalign_cli.data.atomic import refuse_existing, replacing

    refuse_existing(out, overwrite)
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    show_message(f"wrote {out}")
