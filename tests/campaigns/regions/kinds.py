"""Kinds of regions of one picture, all from one pass of one backbone: what differs is the boxes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from campaigns.regions.collages import Collage, Floats

from selfalign_cli.extract.backbone import Backbone, PatchMap
from selfalign_cli.extract.detector import Detector
from selfalign_cli.extract.pictures import Picture, Pixels
from selfalign_cli.extract.pooling import pool_boxes
from selfalign_cli.extract.regions import DetectorExtractor, GroupingExtractor
from selfalign_cli.extract.select import overlap_with

GRIDS = (1, 2, 3, 4)
"""Rows and columns: 1 + 4 + 9 + 16 boxes."""
MOST = 35
"""Boxes that are proposed where proposals are ranked."""
REGIONS = 20
"""Boxes that features are made of, where they are ranked: what `extract` takes by default."""
WHOLE, GRID, GROUPING, DETECTOR, KNOWN = "whole picture", "grid", "grouping", "detector", "known boxes"
FOUND = 0.5
"""Intersection over union from which an object counts as found."""


@dataclass(frozen=True)
class Regions:
    """Boxes of a picture, the best last, and features of the last of them and of the whole picture.

    Attributes:
        boxes: (n, 4) in pixels, without the whole picture.
        features: (r, F) float32, the whole picture last.
    """

    boxes: Floats
    features: Floats


Kind = Callable[[Collage, PatchMap], Regions]


class Seen:
    """A backbone whose one pass serves all kinds.

    Args:
        backbone: looks at pictures.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.pixels: Pixels | None = None
        self.found: PatchMap | None = None

    def encode(self, pixels: Pixels) -> PatchMap:
        """The map of the picture that was seen last, or of another one."""
        if self.found is None or pixels is not self.pixels:
            self.pixels, self.found = pixels, self.backbone.encode(pixels)
        return self.found

    def identity(self) -> dict[str, Any]:
        """That of the backbone."""
        return self.backbone.identity()


def kinds_of(backbone: Seen, detector: Detector | None) -> dict[str, Kind]:
    """All kinds, by name; the detector's only with one."""
    ranked: dict[str, GroupingExtractor | DetectorExtractor] = {GROUPING: GroupingExtractor(backbone, count=MOST)}
    if detector is not None:
        ranked[DETECTOR] = DetectorExtractor(detector, backbone, count=MOST)

    def of_extractor(extractor: GroupingExtractor | DetectorExtractor) -> Kind:
        def regions(collage: Collage, seen: PatchMap) -> Regions:
            found = extractor.regions(collage.picture)
            return Regions(found.boxes[:-1].astype(np.float64), found.features[-REGIONS - 1 :])

        return regions

    return {
        WHOLE: lambda collage, seen: _pooled(np.empty((0, 4)), collage.picture, seen),
        GRID: lambda collage, seen: _pooled(grid(*collage.picture.size), collage.picture, seen),
        **{name: of_extractor(extractor) for name, extractor in ranked.items()},
        KNOWN: lambda collage, seen: _pooled(collage.boxes, collage.picture, seen),
    }


def grid(width: float, height: float) -> Floats:
    """(30, 4) boxes of all grids, the finest first."""
    cells = [
        (column / n, row / n, (column + 1) / n, (row + 1) / n)
        for n in reversed(GRIDS)
        for row in range(n)
        for column in range(n)
    ]
    return np.array(cells) * [width, height, width, height]


def whole_grids(count: int) -> int:
    """Boxes of the coarsest grids that together have at most so many."""
    sums = np.cumsum([n * n for n in GRIDS])
    return int(sums[sums <= count].max())


def _pooled(boxes: Floats, picture: Picture, seen: PatchMap) -> Regions:
    own = pool_boxes(seen.patches, torch.from_numpy(boxes), picture.size) if len(boxes) else seen.patches[:0, 0]
    return Regions(boxes, torch.cat([own, seen.whole.unsqueeze(0)]).numpy())


@dataclass
class Tally:
    """Objects of some pictures, how many of them a kind found, and its time.

    Attributes:
        pictures: that were looked at.
        objects: in all of them.
        found: among the best n boxes, by n.
        seconds: of the processor, without the pass of the backbone.
    """

    pictures: int = 0
    objects: int = 0
    found: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def share(self, boxes: int) -> float:
        """Objects found among the best n boxes."""
        return self.found.get(boxes, 0) / self.objects

    def add(self, objects: Floats, boxes: Floats, counts: Sequence[int], taken: Callable[[int], int]) -> None:
        """Count the objects of a picture.

        Args:
            objects: (m, 4) their boxes.
            boxes: (n, 4) those that were proposed, the best last.
            counts: how many of the best may be looked at; beyond n, all are.
            taken: how many of a count are.
        """
        self.pictures += 1
        self.objects += len(objects)
        overlaps = np.array([overlap_with(thing, boxes) for thing in objects])  # (objects, boxes), the best last
        for count in counts:
            best = overlaps[:, -taken(count) :].max(axis=1, initial=0.0)
            self.found[count] = self.found.get(count, 0) + int((best >= FOUND).sum())


def look_at(
    splits: dict[str, list[Collage]],
    backbone: Seen,
    kinds: dict[str, Kind],
    counts: Sequence[int],
) -> tuple[dict[str, dict[str, list[Floats]]], dict[str, Tally]]:
    """Look at all pictures once.

    Returns:
        Features of each kind, split and picture; and what each kind found in the dev and test pictures.
    """
    features: dict[str, dict[str, list[Floats]]] = {name: {split: [] for split in splits} for name in kinds}
    tallies = {name: Tally() for name in kinds}
    for split, collages in splits.items():
        for collage in collages:
            seen = backbone.encode(collage.picture.pixels)
            for name, kind in kinds.items():
                began = time.process_time()
                found = kind(collage, seen)
                taken = time.process_time() - began
                features[name][split].append(found.features)
                if split != "train":
                    tallies[name].seconds += taken
                    tallies[name].add(collage.boxes, found.boxes, counts, whole_grids if name == GRID else int)
    return features, tallies
