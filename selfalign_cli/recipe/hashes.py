"""The hash of a recipe, which every signature carries: of each key that can move a number, and of nothing else.

Hashes that were printed once stay what they are. A key that is added to the schema later gets a row in `LATER_KEYS`,
or else the hash of every recipe changes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath
from typing import Any

from selfalign_cli.recipe.schema import Recipe

NOT_HASHED = (
    "compat",  # its rows are hashed as the keys they set
    "run.dir",
    "run.log_every",
    "run.save_every",
    "run.tensorboard",
    "run.gradient_shares",
    "data.features",
    "data.vocab",
    "data.workers",
    "data.cache_words",
)
"""Keys that move no number: folders, files, logging and reading ahead."""

LATER_KEYS: dict[str, Any] = {
    "optim.chunk_size": None,
    "optim.weight_decay": 0.0,
    "data.drop_last": False,
    "data.drop_regions": 0.0,
    "data.alter_words": 0.0,
    "loss.ranking.kind": "hinge",
    "loss.ranking.weight": 1.0,
    "loss.ranking.temperature": None,
    "loss.ranking.learn_temperature": True,
    "loss.ranking.bias": None,
    "loss.ranking.warmup_mode": "mean",
}
"""Keys (or whole sections) that came after the first hashes were printed, each with the value that means what a recipe
without the key meant. At that value the key is left out."""

FIRST_NAMES = {
    "model.finetune": "model.finetune_bert",
}
"""Keys that were renamed, and the name under which they are hashed."""

LAST_PART_HASHED = ("model.bert",)
"""Folders of which only the last part of the name is hashed, not where they are."""


def recipe_hash(recipe: Recipe) -> str:
    """Eight hexadecimal digits that change when, and only when, a key changes that can move a number."""
    canonical = json.dumps(hashed_tree(recipe), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def hashed_tree(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that is hashed, as nested dictionaries."""
    tree = recipe.model_dump()
    for path in NOT_HASHED:
        section, key = _holder(tree, path)
        section.pop(key, None)
    for path, default in LATER_KEYS.items():
        section, key = _holder(tree, path)
        if key in section and section[key] == default:
            del section[key]
    for path in LAST_PART_HASHED:
        section, key = _holder(tree, path)
        if key in section:
            section[key] = PurePath(section[key]).name
    for path, first_name in FIRST_NAMES.items():
        section, key = _holder(tree, path)
        if key in section:
            section[first_name.rpartition(".")[2]] = section.pop(key)
    return tree


def _holder(tree: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The section that holds a key, and the key's own name; an empty section where the recipe has none."""
    *sections, key = path.split(".")
    for name in sections:
        tree = tree.get(name) or {}
    return tree, key
