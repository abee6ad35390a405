"""Pictures of known objects: some of them pasted on a noisy ground, with their boxes and with captions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from campaigns.regions.sprites import Sprites, Vendors
from PIL import Image

from selfalign_cli.extract.pictures import Picture
from selfalign_cli.extract.select import overlap_with

Floats = npt.NDArray[np.float64]
SIZES = ((256, 256), (288, 224), (224, 288))
"""Width and height of a picture in pixels; about the area that DINOv2 looks at."""
OBJECTS = (2, 5)
SIDES = (0.2, 0.45)
"""Longer side of an object, of the shorter one of the picture."""
TURN = 15.0
"""Degrees that objects are turned at most, either way."""
OVERLAP = 0.05
"""Intersection over union that two objects may have."""
TRIES = 60
NOISE = 12.0
"""Standard deviation of a pixel, of 255."""
CAPTIONS = 3


@dataclass(frozen=True)
class Collage:
    """A picture of known objects.

    Attributes:
        name: unique within its split.
        picture: its pixels.
        boxes: (n, 4) x1, y1, x2, y2 of the objects, in pixels.
        captions: `CAPTIONS` of them.
    """

    name: str
    picture: Picture
    boxes: Floats
    captions: list[str]


def make_collages(vendors: Vendors, counts: dict[str, int], seed: int) -> dict[str, list[Collage]]:
    """Compose the pictures of each split; dev and test show objects of a vendor that training never shows.

    Args:
        vendors: the objects.
        counts: pictures of train, dev and test.
        seed: of all draws.
    """
    return {
        split: [
            _collage(f"{split}_{number}", _vendor(vendors, split, number), random.Random(f"{seed} {split} {number}"))
            for number in range(count)
        ]
        for split, count in counts.items()
    }


def _vendor(vendors: Vendors, split: str, number: int) -> Sprites:
    return vendors.training[number % len(vendors.training)] if split == "train" else vendors.unseen


def _collage(name: str, sprites: Sprites, draw: random.Random) -> Collage:
    width, height = draw.choice(SIZES)
    canvas = _ground(width, height, draw)
    names, boxes = [], np.empty((0, 4))
    for word in draw.sample(sorted(sprites), draw.randint(*OBJECTS)):
        sprite = _varied(sprites[word], min(width, height), draw)
        box = _free_place(sprite.size, (width, height), boxes, draw)
        if box is not None:
            canvas.paste(sprite, (int(box[0]), int(box[1])), sprite)
            names.append(word)
            boxes = np.vstack([boxes, box])
    noise = np.random.default_rng(draw.getrandbits(64)).normal(0, NOISE, (height, width, 3))
    pixels = np.clip(np.asarray(canvas, dtype=np.float64) + noise, 0, 255).astype(np.uint8)
    return Collage(name, Picture(pixels, (width, height)), boxes, _captions(names, boxes, draw))


def _ground(width: int, height: int, draw: random.Random) -> Image.Image:
    """A smooth ground of up to four colours."""
    corners = np.array([[draw.randint(90, 230) for _ in range(3)] for _ in range(4)], dtype=np.uint8)
    return Image.fromarray(corners.reshape(2, 2, 3)).resize((width, height), Image.Resampling.BICUBIC)


def _varied(sprite: Image.Image, side: int, draw: random.Random) -> Image.Image:
    """Resized, turned and perhaps mirrored; cut to what is seen of it."""
    if draw.random() < 0.5:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = sprite.rotate(draw.uniform(-TURN, TURN), Image.Resampling.BICUBIC, expand=True)
    turned = turned.crop(turned.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox())
    scale = draw.uniform(*SIDES) * side / max(turned.size)
    width, height = (max(8, round(length * scale)) for length in turned.size)
    return turned.resize((width, height), Image.Resampling.BICUBIC)


def _free_place(size: tuple[int, int], canvas: tuple[int, int], taken: Floats, draw: random.Random) -> Floats | None:
    """A place where an object hides hardly anything; None where there is no room."""
    for _ in range(TRIES):
        left, top = (draw.randint(0, whole - part) for whole, part in zip(canvas, size, strict=True))
        box = np.array([left, top, left + size[0], top + size[1]], dtype=np.float64)
        if not len(taken) or overlap_with(box, taken).max() <= OVERLAP:
            return box
    return None


def _captions(names: Sequence[str], boxes: Floats, draw: random.Random) -> list[str]:
    """All objects; where one lies beside another; two of them."""
    shuffled = draw.sample(list(names), len(names))
    first, second = draw.sample(range(len(names)), 2)
    others = draw.sample(list(names), 2)
    return [
        f"a picture of {_listed(shuffled)}",
        f"{_some(names[first])} {_side(boxes[first], boxes[second])} {_some(names[second])}",
        f"there is {_some(others[0])} and {_some(others[1])}",
    ]


def _side(box: Floats, other: Floats) -> str:
    across, down = ((box[:2] + box[2:]) - (other[:2] + other[2:])).tolist()
    if abs(across) > abs(down):
        return "to the left of" if across < 0 else "to the right of"
    return "above" if down < 0 else "below"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(map(_some, names[:-1]))} and {_some(names[-1])}"


def _some(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
