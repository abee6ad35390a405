"""Pixels of a scene: 64 x 64 with at most 16 colours, hard edges and grain.

All geometry is integer, so that the pixels are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from selfalign_cli.demo.scenes.draws import Draws
from selfalign_cli.demo.scenes.world import CANVAS, Scene

GRAIN = 12  # levels of 255 by which blocks of 2 x 2 pixels are darker or lighter than their surface
TINT = 16  # largest change of a surface's colour, per channel
INK: dict[str, tuple[int, int, int]] = {
    "red": (206, 36, 40),
    "orange": (240, 134, 24),
    "yellow": (238, 216, 56),
    "green": (44, 150, 60),
    "cyan": (64, 204, 212),
    "blue": (40, 72, 200),
    "purple": (124, 44, 156),
    "pink": (240, 140, 190),
}
PAPER: dict[str, tuple[tuple[int, int, int], ...]] = {
    "dark": ((36, 38, 46),),
    "pale": ((214, 212, 204),),
    "striped": ((92, 94, 98), (148, 146, 140)),
}
# Corners on a circle of radius 1000, y down. The star's inner radius is 420.
STAR = (
    (0, -1000), (247, -340), (951, -309), (399, 130), (588, 809),
    (0, 420), (-588, 809), (-399, 130), (-951, -309), (-247, -340),
)  # fmt: skip
TRIANGLE = ((0, -1000), (980, 850), (-980, 850))


@dataclass(frozen=True)
class Picture:
    """A picture of at most 16 colours.

    Attributes:
        indices: (64, 64) uint8, row of each pixel's colour in the palette.
        palette: (n, 3) uint8 red, green, blue; n at most 16.
    """

    indices: NDArray[np.uint8]
    palette: NDArray[np.uint8]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """(64, 64, 3) uint8 red, green, blue."""
        return np.asarray(self.palette[self.indices])


@cache
def stamp(shape: str, radius: int) -> NDArray[np.bool_]:
    """(2r + 1, 2r + 1) bool, True where a shape of radius r covers the pixel."""
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    squared = dx * dx + dy * dy
    edge = radius * (radius + 1)
    if shape == "disc":
        covered = squared <= edge
    elif shape == "ring":
        covered = (squared <= edge) & (squared * 100 > edge * 36)
    elif shape == "square":
        covered = np.maximum(abs(dx), abs(dy)) * 8 <= radius * 7
    elif shape == "cross":
        covered = np.minimum(abs(dx), abs(dy)) * 10 <= radius * 3
    elif shape == "triangle":
        covered = inside_polygon(dx, dy, TRIANGLE, radius)
    elif shape == "star":
        covered = inside_polygon(dx, dy, STAR, radius)
    else:
        raise ValueError(f"no shape called {shape!r}")
    return np.asarray(covered, dtype=np.bool_)


def inside_polygon(
    dx: NDArray[np.int64], dy: NDArray[np.int64], corners: tuple[tuple[int, int], ...], radius: int
) -> NDArray[np.bool_]:
    """Even-odd rule for whole pixels against corners given in thousandths of the radius, a quarter pixel widened."""
    x, y = dx * 4000, dy * 4000
    scale = 4 * radius + 2
    inside = np.zeros(dx.shape, dtype=np.bool_)
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        ax, ay, bx, by = ax * scale, ay * scale, bx * scale, by * scale
        if ay == by:
            continue
        low, high = min(ay, by), max(ay, by)
        # The edge is right of the pixel: x < ax + (y - ay) (bx - ax) / (by - ay), without the division.
        right = (x - ax) * (by - ay) < (y - ay) * (bx - ax)
        inside ^= (low <= y) & (y < high) & (right if by > ay else ~right)
    return inside


def render(scene: Scene, draws: Draws) -> Picture:
    """Paint a scene: paper, then the objects in order, then grain.

    Args:
        scene: what to paint.
        draws: stream of this picture; decides tints, stripes and grain.
    """
    surfaces = [tinted(colour, draws) for colour in PAPER[scene.background]]
    painted = stripes(draws) if len(surfaces) == 2 else np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    for thing in scene.things:
        area = painted[
            thing.y - thing.radius : thing.y + thing.radius + 1, thing.x - thing.radius : thing.x + thing.radius + 1
        ]
        area[stamp(thing.kind.shape, thing.radius)] = len(surfaces)
        surfaces.append(tinted(INK[thing.kind.colour], draws))
    grain = draws.coin_grid(CANVAS // 2, CANVAS // 2).repeat(2, 0).repeat(2, 1)
    shades = np.array([[[v - GRAIN for v in s], [v + GRAIN for v in s]] for s in surfaces]).clip(0, 255)
    return Picture(painted * np.uint8(2) + grain, shades.reshape(-1, 3).astype(np.uint8))


def tinted(colour: tuple[int, int, int], draws: Draws) -> list[int]:
    """A colour with a random offset in each channel."""
    return [value + draws.between(-TINT, TINT) for value in colour]


def stripes(draws: Draws) -> NDArray[np.uint8]:
    """(64, 64) of 0 and 1 in bands three to six pixels wide: upright, level or slanted."""
    rows, columns = np.mgrid[0:CANVAS, 0:CANVAS]
    along = draws.one_of((rows, columns, rows + columns, rows - columns + CANVAS))
    width = draws.between(3, 6)
    return np.asarray((along + draws.below(width)) // width % 2, dtype=np.uint8)
