"""A picture as the detector wants it: B, G, R, resized with its aspect kept, mean taken off."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from selfalign_cli.errors import DataError
from selfalign_cli.extract.frcnn.config import FrcnnConfig

Array = NDArray[Any]
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


class Prepared(NamedTuple):
    """A picture ready for the backbone.

    Attributes:
        pixels: (1, 3, H, W) float32; B, G, R.
        sizes: (2,) int64, resized height and width.
        scales_yx: (2,) float32, raw height / resized height and likewise widths.
    """

    pixels: Tensor
    sizes: Tensor
    scales_yx: Tensor


def rgb_array(picture: Array | Image.Image) -> Array:
    """A picture as uint8 (height, width, 3) in R, G, B order, as OpenCV reads files (F1).

    An orientation in an image's EXIF data is obeyed, grey becomes three equal channels, alpha is dropped without being
    applied, 16 bits are cut to the upper 8.

    Args:
        picture: an image of PIL, or a uint8 array (height, width), (height, width, 1), (height, width, 3) in R, G, B
            order, or (height, width, 4) with alpha last.

    Raises:
        DataError: it is something else.
    """
    found = _array_of_image(picture) if isinstance(picture, Image.Image) else picture
    if found.dtype != np.uint8:
        raise DataError(f"a picture of {found.dtype} numbers; expected uint8, 0 to 255")
    if found.ndim == 2:
        found = found[:, :, None]
    if found.ndim != 3 or found.shape[2] not in (1, 3, 4) or 0 in found.shape:
        expected = "(height, width), with 1, 3 (R, G, B) or 4 (alpha last) channels behind, no side 0"
        raise DataError(f"a picture of shape {found.shape}; expected {expected}")
    return found.repeat(3, axis=2) if found.shape[2] == 1 else found[:, :, :3]


def _array_of_image(image: Image.Image) -> Array:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in SIXTEEN_BIT:
        return (np.asarray(upright).astype(np.uint16) >> 8).astype(np.uint8)
    if upright.mode not in EIGHT_BIT:
        raise DataError(f"an image of mode {upright.mode}; expected 8 or 16 bits a channel", "save it as PNG or JPEG")
    return np.asarray(upright.convert("RGB"))


def resized_size(height: int, width: int, config: FrcnnConfig) -> tuple[int, int]:
    """Height and width after resizing.

    Raises:
        DataError: the picture is so long and thin that nothing of its shorter side would be left.
    """
    scale = config.min_size / min(height, width)
    sides = [float(config.min_size) if side == min(height, width) else scale * side for side in (height, width)]
    if max(sides) > config.max_size:
        scale = config.max_size / max(sides)
        sides = [scale * side for side in sides]
    new_height, new_width = (int(side + 0.5) for side in sides)
    least = 3 if config.max_pool else 1  # what the stem's pooling needs
    if min(new_height, new_width) < least:
        raise DataError(
            f"a picture of {width}×{height} pixels becomes {new_width}×{new_height}, as its longer side must not "
            f"exceed {config.max_size}; the detector needs {least} pixels a side",
            "cut the picture, or leave it out",
        )
    return new_height, new_width


def prepare(picture: Array, config: FrcnnConfig) -> Prepared:
    """Resize and normalise a picture, on the CPU and in single precision.

    Args:
        picture: uint8 (height, width, 3), R, G, B.
        config: the detector's.

    Raises:
        DataError: see `resized_size`.
    """
    height, width = picture.shape[:2]
    size = resized_size(height, width, config)
    # F1: the net wants B, G, R, whatever input.format says. F2: numbers are floats before they are resized, nothing is
    # antialiased or rounded. F15: and no random number is drawn. F18: channels last in memory, as the published code
    # has them, since the last digits depend on it.
    bgr = torch.from_numpy(picture[:, :, ::-1].copy()).float().permute(2, 0, 1)[None]
    resized = functional.interpolate(bgr, size=size, mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.pixel_mean, config.pixel_std))
    sizes = torch.tensor(size)
    return Prepared((resized - mean) / std, sizes, torch.tensor((height, width)) / sizes)
