"""From many proposals to a few boxes: the best that overlap little."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

OVERLAP = 0.7
"""Boxes that share more of their union than this count as one; the better one stays."""
QUARTERS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5))


def overlap_with(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box (4,) with others (n, 4): (n,); 0 where neither has an area."""
    width = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    height = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    shared = width.clip(min=0) * height.clip(min=0)
    union = _area(box[np.newaxis])[0] + _area(boxes) - shared
    found: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def best_boxes(boxes: Floats, scores: Floats, count: int, *, overlap: float = OVERLAP) -> Rows:
    """Greedy non-maximum suppression.

    Args:
        boxes: (n, 4).
        scores: (n,); of equal ones the first counts as the better.
        count: most boxes to keep.
        overlap: intersection over union above which the worse of two boxes goes.

    Returns:
        Rows of the boxes that stay, best first.
    """
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(left) and len(kept) < count:
        kept.append(int(left[0]))
        left = left[1:][overlap_with(boxes[left[0]], boxes[left[1:]]) <= overlap]
    return np.array(kept, dtype=np.int64)


def quarters(width: float, height: float) -> Floats:
    """(4, 4) boxes of a picture's quarters: regions of a picture in which nothing stands out."""
    corner = np.array(QUARTERS) * [width, height]
    return np.concatenate([corner, corner + [width / 2, height / 2]], axis=1)


def _area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area
