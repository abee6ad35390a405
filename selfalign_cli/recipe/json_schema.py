"""The JSON schema of recipes, with which editors complete and check them while they are written."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from selfalign_cli.recipe.schema import Recipe


def recipe_json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe: every section and key with its type, bounds, default and description.

    It knows each key alone. How keys go together, and what `compat` fills in, only `load_recipe` checks.
    """
    return {"$schema": GenerateJsonSchema.schema_dialect, **Recipe.model_json_schema()}
