"""YAML text and `--set` overrides → `Recipe`, or one `RecipeError` that lists every fault by key path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from selfalign_cli.errors import RecipeError
from selfalign_cli.recipe.compat import PRESETS, Preset, fill_preset
from selfalign_cli.recipe.disagreements import disagreements
from selfalign_cli.recipe.relative import fill_epochs, fill_widths
from selfalign_cli.recipe.schema import Recipe
from selfalign_cli.recipe.shipped import shipped_recipes
from selfalign_cli.recipe.wording import closest, explain, key_path, likeliest_host, shown
from selfalign_cli.recipe.yaml12 import Fault, read_yaml, readable, write_yaml

MAX_BYTES = 256 * 1024
ROUNDS = 8
KeyPath = tuple[str, ...]


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: the YAML file.
        overrides: `key.path=value` texts, applied in order; values are YAML.

    Returns:
        The checked recipe, its compat preset filled in.

    Raises:
        RecipeError: the file cannot be read, or has faults; all of them at once.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{path} is larger than {MAX_BYTES // 1024} KiB: not a recipe")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte 0x{content[error.start]:02x} at offset {error.start:,}"
        raise RecipeError(f"{path} is not UTF-8 text ({found}): not a recipe") from None
    return parse_recipe(text, overrides, str(path))


def parse_recipe(text: str, overrides: Sequence[str], source: str) -> Recipe:
    """Read a recipe from YAML text.

    Args:
        text: the YAML document.
        overrides: `key.path=value` texts, applied in order; values are YAML.
        source: name of the text for messages, usually its file.

    Returns:
        The checked recipe, its compat preset filled in.

    Raises:
        RecipeError: every fault of the text and of the overrides, by key path.
    """
    tree, faults = read_yaml(text)
    if not faults and tree is None:
        raise RecipeError(f"{source} is empty: a recipe has at least the sections run, data and model")
    if not faults and not isinstance(tree, dict):
        raise RecipeError(f"{source} holds {shown(tree)}: a recipe is sections of keys (run:, data:, model:, …)")
    if not isinstance(tree, dict):
        raise _refusal(source, faults)
    labels: dict[KeyPath, str] = {}
    for override in overrides:
        faults += _override(tree, override, labels)
    return _checked(tree, source, faults, labels)


def recipe_from_dict(tree: object, source: str) -> Recipe:
    """Check a recipe that was stored as plain data, e.g. in a checkpoint.

    Args:
        tree: what was stored; anything but a dictionary is refused.
        source: where it was stored, for messages.

    Returns:
        The recipe.

    Raises:
        RecipeError: every fault, by key path.
    """
    if not isinstance(tree, dict):
        raise RecipeError(f"{source} holds {shown(tree)} instead of a recipe")
    return _checked(deepcopy(tree), source, [], {})


def with_compat(recipe: Recipe, preset: Preset) -> Recipe:
    """Return a recipe with every row of a preset applied, also over keys that the recipe states.

    It is for encoding only, so `data.cache_words`, which concerns training and not every preset allows, is off.
    Captions stay lower-cased as when the vocabulary was built; `compat_label` names that.
    """
    tree = recipe.model_dump()
    tree["compat"], tree["data"]["cache_words"] = preset, False
    fill_preset(tree, preset, recipe.model.name, overwrite=True)
    tree["data"]["lowercase"] = recipe.data.lowercase
    return _checked(tree, f"the recipe under compat: {preset}", [], {})


def with_widths(recipe: Recipe, feature_dim: int) -> tuple[Recipe, list[str]]:
    """Return a recipe whose widths are numbers, and a note about each that was left to features of this width."""
    tree = recipe.model_dump()
    notes = fill_widths(tree, feature_dim)
    return _checked(tree, f"the recipe for features of width {feature_dim}", [], {}) if notes else recipe, notes


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML that `parse_recipe` reads back to an equal recipe."""
    return write_yaml(recipe.model_dump())


def _unreadable(path: Path, error: OSError | ValueError) -> RecipeError:
    if isinstance(error, FileNotFoundError):
        there = {file.name: file for folder in (Path("recipes"), path.parent) for file in folder.glob("*.y*ml")}
        near = closest(path.name, sorted(there))
        hint = f"did you mean {there[near[0]]}?" if near else "selfalign recipes lists the shipped ones"
        if not near and path.stem in shipped_recipes():  # an installed package has no folder of recipes at hand
            hint = f"selfalign recipes {path.stem} --out {path.stem}.yaml writes the shipped one"
        return RecipeError(f"recipe {path} does not exist", hint)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return RecipeError(f"recipe {path} cannot be read: {reason}")


def _refusal(source: str, faults: Sequence[Fault]) -> RecipeError:
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return RecipeError(
        "\n".join([f"{source} has {count}", *(f"  {fault.label}: {fault.message}" for fault in faults)])
    )


def _override(tree: dict[str, Any], override: str, labels: dict[KeyPath, str]) -> Iterator[Fault]:
    """Write one `key.path=value` into the tree, and note the label under which its faults are reported."""
    label = f"--set {readable(override)}"
    key, equals, text = override.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        yield Fault(label, "expected key.path=value, e.g. optim.epochs=10")
        return
    if not text.strip():
        yield Fault(label, "expected a value after '=' (write null for none)")
        return
    value, faults = read_yaml(text)
    if faults:
        yield Fault(label, f"not a YAML value: {faults[0].message} (quote it: {key}='\"…\"')")
        return
    section = tree
    for position, name in enumerate(path[:-1]):
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            yield Fault(label, f"{'.'.join(path[: position + 1])} is not a section")
            return
    section[path[-1]] = value
    labels[path] = label


def _checked(tree: dict[str, Any], source: str, faults: list[Fault], labels: dict[KeyPath, str]) -> Recipe:
    """Fill in the preset and validate; after faults, repair the tree and validate again, to report all at once."""
    seen: set[KeyPath] = set()
    for section in ("run", "data", "model"):
        tree.setdefault(section, {})
    stated = deepcopy(tree)
    recipe = None
    for _ in range(ROUNDS):
        attempt = _filled_in(stated)
        try:
            recipe = Recipe.model_validate(attempt)
            break
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                path = key_path(detail)
                if not _overlaps(path, seen):
                    faults.append(Fault(_label(path, labels), explain(detail)))
                seen.add(path)
                _repair(stated, path, detail["type"])
    if recipe is not None:
        for path_text, message, because in disagreements(recipe):
            path = tuple(path_text.split("."))
            if not any(_overlaps(tuple(key.split(".")), seen) for key in (path_text, *because)):
                faults.append(Fault(_label(path, labels), message))
    if faults or recipe is None:
        raise _refusal(source, faults)
    return recipe


def _filled_in(stated: dict[str, Any]) -> dict[str, Any]:
    """A recipe as it was written, with its preset, and with whole epochs in place of fractions."""
    tree = deepcopy(stated)
    preset, model = tree.get("compat", "corrected"), tree["model"]
    host = model.get("name") if isinstance(model, dict) else None
    if preset in PRESETS:
        fill_preset(tree, preset, host if isinstance(host, str) else "")
    fill_epochs(tree)
    return tree


def _overlaps(path: KeyPath, seen: set[KeyPath]) -> bool:
    """Whether a key, a section around it or a key inside it was already found at fault."""
    return any(path[: len(other)] == other or other[: len(path)] == path for other in seen)


def _label(path: KeyPath, labels: dict[KeyPath, str]) -> str:
    """Name a key path; one that `--set` wrote is named by the override."""
    for length in range(len(path), 0, -1):
        if path[:length] in labels:
            inside = ".".join(readable(part) for part in path[length:])
            return f"{labels[path[:length]]}: {inside}" if inside else labels[path[:length]]
    return ".".join(readable(part) for part in path)


def _repair(tree: dict[str, Any], path: KeyPath, kind: str) -> None:
    """Make a faulty key valid, so that the next round finds the faults behind it."""
    section: Any = tree
    for name in path[:-1]:
        section = section.setdefault(name, {})
    if path == ("model", "name"):
        section["name"] = likeliest_host(section)
    elif kind == "missing":
        section[path[-1]] = "unknown"
    elif path in (("run",), ("data",), ("model",)):
        section[path[-1]] = {}
    else:
        section.pop(path[-1], None)
