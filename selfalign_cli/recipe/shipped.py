"""Where the shipped recipes are: `recipes/` of a checkout, and the same files inside an installed package."""

from __future__ import annotations

from pathlib import Path

from selfalign_cli.errors import RecipeError

PACKAGE = Path(__file__).parents[1]
# One copy of each file: pyproject.toml installs the folder `recipes` under the first name.
FOLDERS = (PACKAGE / "shipped", PACKAGE.parent / "recipes")


def shipped_recipe(name: str) -> Path:
    """Find a recipe that comes with this program.

    Args:
        name: file name, e.g. `vsrn_scenes.yaml`.

    Raises:
        RecipeError: there is no such file, in a damaged installation for one.
    """
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder / name
    places = " or ".join(str(folder) for folder in FOLDERS)
    raise RecipeError(f"there is no shipped recipe {name} in {places}", "install selfalign again")
