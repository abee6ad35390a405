"""Keys that a recipe may leave to others: epochs as fractions of `optim.epochs`, widths that follow the features.

Both become whole numbers before anything is built, so checkpoints, hashes and resolved recipes know numbers only, and
a recipe that states the same numbers is the same recipe.
"""

from __future__ import annotations

import math
from typing import Any

from selfalign_cli.recipe.schema import OptimSection

EPOCH_KEYS = ("optim.decay_every", "loss.ranking.warmup_epochs", "loss.concept.frozen_epochs")
"""Keys that count epochs. A number between 0 and 1 is a fraction of `optim.epochs`."""

WIDTH_STEP, SMALLEST_WIDTH, LARGEST_WIDTH = 64, 64, 256


def fill_epochs(tree: dict[str, Any]) -> None:
    """Turn fractions into whole epochs, in a recipe that is still plain dictionaries: the nearest, at least one."""
    optim = tree.get("optim")
    epochs = optim.get("epochs") if isinstance(optim, dict) else None
    if type(epochs) is not int or epochs < 1:  # a fault, or left out
        epochs = OptimSection.model_fields["epochs"].default
    for path in EPOCH_KEYS:
        *sections, key = path.split(".")
        section: Any = tree
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        value = section.get(key) if isinstance(section, dict) else None
        if isinstance(value, float) and 0 < value < 1:
            section[key] = max(1, math.floor(value * epochs + 0.5))


def fill_widths(tree: dict[str, Any], feature_dim: int) -> list[str]:
    """Put a number where a recipe, as plain dictionaries that were checked, leaves a width to the features.

    Returns:
        A note about each key that was filled in.
    """
    model, generator = tree["model"], tree["loss"]["captioning"]
    notes = []
    if model["embed_dim"] is None:
        model["embed_dim"] = width_for(feature_dim)
        notes.append(f"model.embed_dim: {model['embed_dim']}, for features of width {feature_dim}")
    if generator is not None and generator["hidden_dim"] is None:
        generator["hidden_dim"] = model["embed_dim"]
        notes.append(f"loss.captioning.hidden_dim: {model['embed_dim']}, as model.embed_dim")
    return notes


def width_for(feature_dim: int) -> int:
    """The embedding width for features of a width: theirs, in steps of 64, from 64 to 256."""
    return min(max(feature_dim // WIDTH_STEP * WIDTH_STEP, SMALLEST_WIDTH), LARGEST_WIDTH)
