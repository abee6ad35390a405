"""Pictures with regions and captions, made up, for feature files of a few kilobytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file

WIDTH = 5


def make_record(number: int = 0, regions: int = 3, **changes: Any) -> ImageRecord:
    """One picture of 40 x 30 pixels with two captions; everything optional is there."""
    noise = np.random.default_rng(number)
    corners = noise.uniform(0, 10, (regions, 2))
    parts: dict[str, Any] = {
        "image_id": f"im{number}",
        "features": noise.standard_normal((regions, WIDTH)).astype(np.float32),
        "split": "train",
        "captions": [f"a dog number {number}.", "É un chat"],
        "caption_ids": [f"{number}a", f"{number}b"],
        "boxes": np.concatenate([corners, corners + noise.uniform(1, 20, (regions, 2))], axis=1).astype(np.float32),
        "size": (40.0, 30.0),
        "file_name": f"{number}.jpg",
    }
    return ImageRecord(**{**parts, **changes})


def make_records(train: int = 4, dev: int = 3, regions: Sequence[int] = (3, 1, 4)) -> list[ImageRecord]:
    """Pictures of two splits whose region counts go round."""
    splits = ["train"] * train + ["dev"] * dev
    return [make_record(row, regions[row % len(regions)], split=split) for row, split in enumerate(splits)]


def write_records(path: Path, records: Sequence[ImageRecord], **options: Any) -> Path:
    """Write a feature file of records, with the totals that they have."""
    totals = {
        "total_images": len(records),
        "total_regions": sum(len(record.features) for record in records),
        "feature_dim": records[0].features.shape[1],
    }
    write_feature_file(path, iter(records), **{**totals, **options})
    return path
