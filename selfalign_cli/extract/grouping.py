"""Boxes of objects from a map of patch vectors alone: join the most alike neighbours, and keep what resisted.

Every patch is a region at first, and vectors have unit length. Joining regions of n and m patches costs

    |mean - mean'|² · √(n·m / (n + m)),

Ward's criterion, damped by the root: large regions stay apart longer than by their vectors alone, and noise within
one is joined early. The two neighbours that cost least are joined, until one region is left. A region that was
swallowed at cost c scores c · log n: what differs from all around it and is more than a patch. There are no
weights, no classes and no threshold. docs/results.md says how this was chosen, and what it finds.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MARGIN = 0.25
"""Of a patch: an object ends somewhere inside the patches around those that are counted as its own."""
NEIGHBOURS = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Steps (down, right) to half of a patch's eight neighbours; the other half are those patches' own."""


@dataclass(frozen=True)
class Proposals:
    """Boxes and how well they stand out.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2.
        scores: (n,) larger is better.
    """

    boxes: Floats
    scores: Floats


def group_patches(features: npt.NDArray[np.float32]) -> Proposals:
    """Propose boxes for a picture.

    Args:
        features: (h, w, C) patch vectors.

    Returns:
        2·h·w - 2 boxes in units of patches, from (0, 0) to (w, h), with their scores: every region on the way but the
        last, in the order in which they were made. One patch makes no proposal; single patches score 0.
    """
    rows, columns, width = features.shape
    count = rows * columns
    means = np.empty((2 * count - 1, width))
    means[:count] = _unit(features.reshape(count, width).astype(np.float64))
    sizes = np.ones(2 * count - 1)
    boxes = np.empty((2 * count - 1, 4))
    boxes[:count] = _cells(rows, columns)
    swallowed = np.zeros(2 * count - 1)
    beside = _neighbours(rows, columns)
    queue = _first_pairs(beside, means)
    alive = np.zeros(2 * count - 1, dtype=bool)
    alive[:count] = True
    for made in range(count, 2 * count - 1):
        cost, one, other = _next_pair(queue, alive)
        alive[[one, other, made]] = False, False, True
        swallowed[[one, other]] = cost
        sizes[made] = sizes[one] + sizes[other]
        means[made] = (sizes[one] * means[one] + sizes[other] * means[other]) / sizes[made]
        boxes[made, :2] = np.minimum(boxes[one, :2], boxes[other, :2])
        boxes[made, 2:] = np.maximum(boxes[one, 2:], boxes[other, 2:])
        around = sorted((beside.pop(one) | beside.pop(other)) - {one, other})
        for near in around:
            beside[near] -= {one, other}
            beside[near].add(made)
        beside[made] = set(around)
        if around:
            costs = _costs(means[around], means[made], sizes[around], sizes[made])
            for near, value in zip(around, costs.tolist(), strict=True):
                heapq.heappush(queue, (value, near, made))
    return Proposals(boxes[:-1], (swallowed * np.log(sizes))[:-1])


def widened(boxes: Floats, rows: int, columns: int) -> Floats:
    """Boxes (n, 4) in units of patches with `MARGIN` on every side, within a map of so many rows and columns."""
    found: Floats = (boxes + [-MARGIN, -MARGIN, MARGIN, MARGIN]).clip(0, [columns, rows, columns, rows])
    return found


def _next_pair(queue: list[tuple[float, int, int]], alive: npt.NDArray[np.bool_]) -> tuple[float, int, int]:
    """The neighbours of today that cost least; of equal pairs, the one that was made first."""
    while True:
        cost, one, other = heapq.heappop(queue)
        if alive[one] and alive[other]:
            return cost, one, other


def _costs(means: Floats, others: Floats, sizes: Floats, other_sizes: Floats | float) -> Floats:
    """Of joining regions with others, pair by pair, or all with one."""
    apart = means - others
    found: Floats = np.einsum("nc,nc->n", apart, apart) * np.sqrt(sizes * other_sizes / (sizes + other_sizes))
    return found


def _unit(vectors: Floats) -> Floats:
    found: Floats = vectors / np.maximum(np.sqrt(np.einsum("nc,nc->n", vectors, vectors)), 1e-12)[:, np.newaxis]
    return found


def _cells(rows: int, columns: int) -> Floats:
    """(rows · columns, 4) boxes of the patches, row by row."""
    down, right = np.divmod(np.arange(rows * columns), columns)
    return np.stack([right, down, right + 1, down + 1], axis=1).astype(np.float64)


def _neighbours(rows: int, columns: int) -> dict[int, set[int]]:
    beside: dict[int, set[int]] = {patch: set() for patch in range(rows * columns)}
    for patch in beside:
        row, column = divmod(patch, columns)
        for down, right in NEIGHBOURS:
            if row + down < rows and 0 <= column + right < columns:
                other = patch + down * columns + right
                beside[patch].add(other)
                beside[other].add(patch)
    return beside


def _first_pairs(beside: dict[int, set[int]], means: Floats) -> list[tuple[float, int, int]]:
    """A heap of (cost, patch, patch) over neighbouring patches."""
    pairs = np.array([(one, other) for one, near in beside.items() for other in near if one < other])
    if not len(pairs):
        return []
    first, second = pairs.T
    ones = np.ones(len(pairs))
    costs = _costs(means[first], means[second], ones, ones)
    queue = list(zip(costs.tolist(), first.tolist(), second.tolist(), strict=True))
    heapq.heapify(queue)
    return queue
