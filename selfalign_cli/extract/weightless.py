"""A backbone without weights: colours and gradients of each patch. For tests, drawn scenes and a first look.

It tells colours, brightness and simple shapes apart, and knows nothing of what is shown; results with it say nothing
about results with a trained model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from selfalign_cli.extract.backbone import PatchMap, resized, target_size
from selfalign_cli.extract.pictures import Pixels

PATCH = 8
WIDTH = 128
SEED = 20260
VERSION = 1


class WeightlessBackbone:
    """Patches of 8 × 8 pixels through one random layer and a ReLU, like the region features of `make-scenes`.

    Args:
        side: side of a square with the area that pictures are resized to, in pixels.
    """

    def __init__(self, *, side: int) -> None:
        self.side = side
        random = np.random.default_rng(SEED)
        scale = 1 / np.sqrt(PATCH * PATCH * 3)
        self.projection = torch.from_numpy((random.standard_normal((PATCH * PATCH * 3, WIDTH)) * scale).astype("f4"))

    def identity(self) -> dict[str, Any]:
        """Its version, sizes and seed."""
        return {"name": "weightless", "version": VERSION, "patch": PATCH, "width": WIDTH, "area": self.side}

    def encode(self, pixels: Pixels) -> PatchMap:
        """Look at a picture, (H, W, 3) RGB, once."""
        width, height = target_size(pixels.shape[1], pixels.shape[0], side=self.side, patch=PATCH)
        values = torch.from_numpy(resized(pixels, width, height).astype(np.float32) / 127.5 - 1)
        rows, columns = height // PATCH, width // PATCH
        tiles = values.reshape(rows, PATCH, columns, PATCH, 3).permute(0, 2, 1, 3, 4).reshape(rows, columns, -1)
        patches = (tiles @ self.projection).relu()
        return PatchMap(patches, patches.mean(dim=(0, 1)))
