"""The regions of a picture: boxes, then features under them, in the order that is part of the extractor.

Here the whole picture is the last region, and the others stand before it in order of rising score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from selfalign_cli.extract.backbone import Backbone, PatchMap
from selfalign_cli.extract.detector import Detector
from selfalign_cli.extract.grouping import Proposals, group_patches, widened
from selfalign_cli.extract.pictures import DECODED_PIXELS, Picture
from selfalign_cli.extract.pooling import pool_boxes
from selfalign_cli.extract.select import OVERLAP, best_boxes, quarters

Floats = npt.NDArray[np.float64]
ORDER = "rising score, whole picture last"
NO_LABEL = -1
VERSION = 3
"""Of what this folder computes: another number is another extractor."""


@dataclass(frozen=True)
class PictureRegions:
    """What is stored of a picture.

    Attributes:
        features: (n, F) float32, n of at least two.
        boxes: (n, 4) float32 x1, y1, x2, y2 in pixels of the upright picture.
        scores: (n,) float32, 0 for the whole picture.
        labels: (n,) int32 classes, -1 where there is none.
    """

    features: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]


class Extractor(Protocol):
    """What turns pictures into regions.

    Attributes:
        label_names: names of the classes; none where regions have no labels.
        pixels_wanted: how many pixels of a picture it uses; None for all that there are.
    """

    label_names: list[str]
    pixels_wanted: int | None

    def identity(self) -> dict[str, Any]:
        """All that decides the numbers, in JSON types."""

    def regions(self, picture: Picture) -> PictureRegions:
        """Look at a picture once.

        Raises:
            UnreadableError: it cannot be described, e.g. because it is too thin.
        """


class GroupingExtractor:
    """Boxes by grouping a backbone's patch vectors; features by pooling the same map.

    Args:
        backbone: gives the map.
        count: most boxes of a picture beside the whole picture.
    """

    def __init__(self, backbone: Backbone, *, count: int) -> None:
        self.backbone, self.count = backbone, count
        self.label_names: list[str] = []
        self.pixels_wanted: int | None = DECODED_PIXELS

    def identity(self) -> dict[str, Any]:
        """Backbone, rule and number of the boxes, order and pooling."""
        return _identity("grouping", self.count, backbone=self.backbone.identity())

    def regions(self, picture: Picture) -> PictureRegions:
        """Look at a picture once."""
        found = self.backbone.encode(picture.pixels)
        proposals = group_patches(found.patches.cpu().numpy())
        rows, columns = found.patches.shape[:2]
        scale = np.array([picture.size[0] / columns, picture.size[1] / rows] * 2)
        boxes = widened(proposals.boxes, rows, columns) * scale
        boxes, scores, _ = _chosen(Proposals(boxes, proposals.scores), picture.size, self.count)
        return _pooled(found, boxes, scores, np.full(len(boxes), NO_LABEL), picture.size)


class DetectorExtractor:
    """Boxes of a detector; features of its queries, or pooled from a backbone's map.

    Args:
        detector: finds the boxes.
        backbone: gives the map that is pooled; None for the states of the detector's queries.
        count: most boxes of a picture beside the whole picture.
    """

    def __init__(self, detector: Detector, backbone: Backbone | None, *, count: int) -> None:
        self.detector, self.backbone, self.count = detector, backbone, count
        self.label_names, self.pixels_wanted = detector.label_names, detector.pixels_wanted

    def identity(self) -> dict[str, Any]:
        """Detector, backbone, number of the boxes, order and pooling."""
        backbone = {} if self.backbone is None else {"backbone": self.backbone.identity()}
        return _identity("detector", self.count, detector=self.detector.identity(), **backbone)

    def regions(self, picture: Picture) -> PictureRegions:
        """Look at a picture once, with each of the models."""
        found = self.detector.detect(picture.pixels)
        boxes = found.boxes * np.array([*picture.size, *picture.size])
        chosen, scores, rows = _chosen(Proposals(boxes, found.scores), picture.size, self.count)
        labels = np.full(len(chosen), NO_LABEL)
        labels[: len(rows)] = found.labels[rows]
        if self.backbone is not None:
            return _pooled(self.backbone.encode(picture.pixels), chosen, scores, labels, picture.size)
        mean = found.states.mean(dim=0, keepdim=True)
        own = found.states[torch.from_numpy(rows)] if len(rows) else mean.expand(len(chosen), -1)
        return _region_arrays(torch.cat([own, mean]), chosen, scores, labels, picture.size)


def _identity(kind: str, count: int, **models: dict[str, Any]) -> dict[str, Any]:
    pooling = {"pooling": "mean, exact cover"} if "backbone" in models else {"pooling": "query states"}
    rule = {"regions": count, "overlap": OVERLAP, "order": ORDER, **pooling, "version": VERSION}
    return {"kind": kind, **models, **rule}


def _chosen(proposals: Proposals, size: tuple[int, int], count: int) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """The best boxes, weakest first, their scores, and their rows among the proposals.

    Where a picture makes no proposal with an area, its quarters stand in, with score 0 and no row, so that it never
    has the whole picture alone: single regions become ±1 once places are normalised over regions.
    """
    sides = proposals.boxes[:, 2:] - proposals.boxes[:, :2]
    real = np.flatnonzero((sides > 0).all(axis=1))
    kept = best_boxes(proposals.boxes[real], proposals.scores[real], count)[::-1]
    rows = real[kept]
    if not len(rows):
        return quarters(*size), np.zeros(4), rows
    return proposals.boxes[rows], proposals.scores[rows], rows


def _pooled(
    found: PatchMap, boxes: Floats, scores: Floats, labels: npt.NDArray[np.int64], size: tuple[int, int]
) -> PictureRegions:
    """Boxes with the means of the map under them, and the whole picture."""
    pooled = pool_boxes(found.patches, torch.from_numpy(boxes).to(found.patches.device), size)
    features = torch.cat([pooled, found.whole.unsqueeze(0)])
    return _region_arrays(features, boxes, scores, labels, size)


def _region_arrays(
    features: torch.Tensor, boxes: Floats, scores: Floats, labels: npt.NDArray[np.int64], size: tuple[int, int]
) -> PictureRegions:
    whole = np.array([[0.0, 0.0, *size]])
    return PictureRegions(
        features=np.ascontiguousarray(features.float().cpu().numpy()),
        boxes=np.concatenate([boxes, whole]).astype(np.float32),
        scores=np.append(scores, 0.0).astype(np.float32),
        labels=np.append(labels, NO_LABEL).astype(np.int32),
    )
