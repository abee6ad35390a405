"""The output of a detector: boxes, and features computed from the pixels inside them alone.

Boxes: every object once, one or two of them twice, two pairs of neighbours together, and random parts of the picture
for the rest; with loose, uneven margins, in order of falling contrast.

Features: a box is averaged to an 8 x 8 grid of colours, and a fixed random layer with a ReLU looks at it. Colour,
shape and size all affect the result, none of them a single number, as in the features of a real detector. No label is
used. All arithmetic is in integers and the last step divides by a power of two, so that there is no rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selfalign_cli.demo.scenes.draws import Draws
from selfalign_cli.demo.scenes.world import CANVAS, Scene, Thing, squared_distance

REGIONS = 10
GRID = 8
FEATURE_WIDTH = 64
MID_GREY = 128
SCALE = 1 << 12  # puts features at about 1
DETECTOR_SEED = 20230814  # of the weights; the same for every data set, as one detector is
Box = tuple[int, int, int, int]
Integers = NDArray[np.int64]


def propose_boxes(scene: Scene, draws: Draws) -> list[Box]:
    """Boxes of one picture, x1, y1, x2, y2 in whole pixels, x2 and y2 past the end; in random order."""
    boxes = [loose_box([thing], 2, 4, draws) for thing in scene.things]
    boxes += [loose_box([thing], 1, 5, draws) for thing in draws.shuffled(scene.things)[: draws.between(1, 2)]]
    for thing in draws.shuffled(scene.things)[:2]:
        boxes.append(loose_box([thing, nearest(thing, scene)], 1, 3, draws))
    while len(boxes) < REGIONS:
        width, height = draws.between(12, 40), draws.between(12, 40)
        left, top = draws.between(0, CANVAS - width), draws.between(0, CANVAS - height)
        boxes.append((left, top, left + width, top + height))
    return draws.shuffled(boxes)


def nearest(thing: Thing, scene: Scene) -> Thing:
    """The object whose centre is closest to this one's."""
    return min((t for t in scene.things if t is not thing), key=lambda t: squared_distance(thing.x, thing.y, t))


def loose_box(things: Sequence[Thing], tightest: int, loosest: int, draws: Draws) -> Box:
    """The box around some objects with a margin of its own on each side, cut at the picture's edge."""
    left, top, right, bottom = (draws.between(tightest, loosest) for _ in range(4))
    return (
        max(0, min(t.x - t.radius for t in things) - left),
        max(0, min(t.y - t.radius for t in things) - top),
        min(CANVAS, max(t.x + t.radius + 1 for t in things) + right),
        min(CANVAS, max(t.y + t.radius + 1 for t in things) + bottom),
    )


def detect(pixels: NDArray[np.uint8], boxes: Integers) -> tuple[Integers, NDArray[np.float32]]:
    """Put the boxes of each picture in order of falling contrast, and compute their features.

    Args:
        pixels: (N, 64, 64, 3) uint8.
        boxes: (N, R, 4) int64.

    Returns:
        Boxes (N, R, 4) int64 and features (N, R, F) float32 in that order; boxes of equal contrast keep theirs.
    """
    grids = box_grids(pixels, boxes)
    order = np.argsort(-contrast(grids).sum((2, 3)), axis=1, kind="stable")
    ordered = np.take_along_axis(boxes, order[..., None], axis=1)
    return ordered, grid_features(np.take_along_axis(grids, order[..., None, None, None], axis=1))


def grid_features(grids: Integers) -> NDArray[np.float32]:
    """(N, R, F) features of boxes from their (N, R, 8, 8, 3) grids."""
    seen = (grids.reshape(*grids.shape[:2], -1) - MID_GREY) @ weights(GRID * GRID * 3, FEATURE_WIDTH)
    # Whole numbers below 2**24 over a power of two: exact in float32.
    return np.asarray(np.maximum(seen, 0).astype(np.float32) / np.float32(SCALE))


def weights(inputs: int, outputs: int) -> Integers:
    """(inputs, outputs) of the detector's random weights, whole numbers from -7 to 7."""
    draws = Draws(DETECTOR_SEED, 1)
    return np.array([[draws.between(-7, 7) for _ in range(outputs)] for _ in range(inputs)], dtype=np.int64)


def contrast(grids: Integers) -> Integers:
    """(N, R, 8, 8) distance of each cell from the mean of the cells along the rim, summed over channels."""
    rim = np.ones((GRID, GRID), dtype=np.bool_)
    rim[1:-1, 1:-1] = False
    mean = grids[:, :, rim].sum(2) // rim.sum()
    return np.asarray(abs(grids - mean[:, :, None, None]).sum(-1))


def box_grids(pixels: NDArray[np.uint8], boxes: Integers) -> Integers:
    """Average the pixels of each box to a grid.

    The cells of a box of width w have their edges at multiples of w / 8. With every pixel counted as 8 x 8 equal
    parts, all sums are whole numbers; they come from the four corners of a cell in the table of running sums.

    Args:
        pixels: (N, 64, 64, 3) uint8.
        boxes: (N, R, 4) int64.

    Returns:
        (N, R, 8, 8, 3) int64, 0 to 255, rounded down.
    """
    count, side = len(pixels), CANVAS + 2
    sums = np.zeros((count, side, side, 3), dtype=np.int32)
    sums[:, 1:-1, 1:-1] = pixels.cumsum(1, dtype=np.int32).cumsum(2, dtype=np.int32)
    flat = sums.reshape(-1, 3)
    steps = np.arange(GRID + 1)
    x = boxes[..., 0, None] * GRID + steps * (boxes[..., 2] - boxes[..., 0])[..., None]  # (N, R, 9) eighths of a pixel
    y = boxes[..., 1, None] * GRID + steps * (boxes[..., 3] - boxes[..., 1])[..., None]
    row = y // GRID + np.arange(count)[:, None, None] * side
    start = row[..., :, None] * side + (x // GRID)[..., None, :]
    right, down = (x % GRID)[..., None, :, None], (y % GRID)[..., :, None, None]
    upper = flat[start] * (GRID - right) + flat[start + 1] * right
    lower = flat[start + side] * (GRID - right) + flat[start + side + 1] * right
    table = upper * (GRID - down) + lower * down
    cells = table[..., 1:, 1:, :] - table[..., :-1, 1:, :] - table[..., 1:, :-1, :] + table[..., :-1, :-1, :]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])  # of a cell, in 1/64 pixel
    return np.asarray(cells // area[..., None, None, None])
