"""What `train` says about data of which much may be lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.world import World, changed_recipe

from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.inspection.features import inspect_feature_file
from selfalign_cli.recipe.load import load_recipe
from selfalign_cli.training.notes import notes_on_data
from selfalign_cli.training.train import open_training_data

WIDTH = 64


def write_features(path: Path, regions: list[int]) -> None:
    """A picture with that many regions for each number, the first ones in train, the last one in dev."""
    draw = np.random.default_rng(0)
    records = [
        ImageRecord(f"{row}", draw.random((count, WIDTH), dtype=np.float32), split, ["a red ball"])
        for row, (count, split) in enumerate(zip(regions, ["train"] * (len(regions) - 1) + ["dev"], strict=True))
    ]
    write_feature_file(path, records, total_images=len(regions), total_regions=sum(regions), feature_dim=WIDTH)


@pytest.mark.parametrize(
    ("regions", "over", "single"),
    [([1, 1, 1], "places", 3), ([2, 5, 1], "places", 1), ([2, 3, 4], "places", 0), ([1, 1, 1], "embedding", 0)],
)
def test_pictures_of_a_single_region(world: World, tmp_path: Path, regions: list[int], over: str, single: int) -> None:
    """Divided by the length over one region, every number is 1 or -1; over the embedding it is not."""
    write_features(tmp_path / "f.h5", regions)
    changed = {"data": {"features": str(tmp_path / "f.h5")}, "model": {"normalize_over": over}}
    recipe = load_recipe(changed_recipe(world, tmp_path / "r.yaml", **changed))
    notes = [note for note in notes_on_data(recipe, open_training_data(recipe)) if "single region" in note]
    assert len(notes) == (single > 0)
    assert all(f"{single} of the 3 pictures" in note and "normalize_over=embedding" in note for note in notes)


def test_inspect_counts_them(tmp_path: Path) -> None:
    write_features(tmp_path / "f.h5", [1, 2, 1])
    assert inspect_feature_file(tmp_path / "f.h5")["single_regions"] == 2
    write_features(tmp_path / "g.h5", [3, 2])
    assert inspect_feature_file(tmp_path / "g.h5")["single_regions"] is None
