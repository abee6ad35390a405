"""Feature files that fit a model."""

from __future__ import annotations

from pathlib import Path

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.errors import DataError
from selfalign_cli.recipe.hosts import HOSTS
from selfalign_cli.recipe.schema import Recipe


def open_features(path: str | Path, *, feature_dim: int | None = None, boxes: bool = False) -> FeatureFile:
    """Open a feature file and check that it fits: see `expect_fit`."""
    file = FeatureFile(path)
    expect_fit(file, feature_dim=feature_dim, boxes=boxes)
    return file


def expect_fit(file: FeatureFile, *, feature_dim: int | None, boxes: bool) -> None:
    """Make sure that a model can read a feature file.

    Args:
        file: the file.
        feature_dim: width the model was built for; None for any.
        boxes: the model needs boxes and picture sizes.

    Raises:
        DataError: it has another width, or no boxes.
    """
    if feature_dim is not None and file.feature_dim != feature_dim:
        raise DataError(
            f"{file.path} has features of width {file.feature_dim}; the checkpoint was trained on width {feature_dim}",
            "convert features of the same detector",
        )
    needed = {"boxes": file.facts.boxes, "picture sizes": file.facts.image_size}
    if boxes and any(found is None for found in needed.values()):
        lacking = " and ".join(name for name, found in needed.items() if found is None)
        needing = " or ".join(host.name for host in HOSTS.values() if host.boxes)
        raise DataError(
            f"{file.path} has no {lacking}, which model {needing} needs",
            "selfalign convert-features SOURCE --out FILE.h5, from a source with boxes and picture sizes "
            "(SCAN folders: {split}_boxes.npy and {split}_img_sizes.npy)",
        )


def needs_boxes(recipe: Recipe) -> bool:
    """Whether the model of a recipe reads boxes and picture sizes."""
    return recipe.host.boxes
