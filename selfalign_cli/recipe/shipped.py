"""The shipped recipes: `recipes/` of a checkout, and the same files inside an installed package."""

from __future__ import annotations

from pathlib import Path

from selfalign_cli.errors import RecipeError
from selfalign_cli.recipe.wording import closest

PACKAGE = Path(__file__).parents[1]
# One copy of each file: pyproject.toml installs the folder `recipes` under the first name.
FOLDERS = (PACKAGE / "shipped", PACKAGE.parent / "recipes")


def shipped_recipes() -> dict[str, Path]:
    """Every recipe that comes with this program, by its name without `.yaml`, in alphabetical order.

    Raises:
        RecipeError: there are none, as in a damaged installation.
    """
    for folder in FOLDERS:
        if found := sorted(folder.glob("*.yaml")):
            return {path.stem: path for path in found}
    raise RecipeError(f"no recipes in {' or '.join(map(str, FOLDERS))}", "install selfalign again")


def shipped_recipe(name: str) -> Path:
    """Find a recipe that comes with this program.

    Args:
        name: name of the file, with or without `.yaml`.

    Raises:
        RecipeError: there is no such recipe.
    """
    recipes = shipped_recipes()
    wanted = name.removesuffix(".yaml")
    if wanted not in recipes:
        near = closest(wanted, recipes)
        hint = f"did you mean {' or '.join(near)}?" if near else "selfalign recipes lists them"
        raise RecipeError(f"there is no shipped recipe {wanted}", hint)
    return recipes[wanted]


def summary_of(path: Path) -> str:
    """One line about a recipe: the comment it starts with."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
