"""Pictures for pages: decoded as `extract` decodes them, scaled, and packed as JPEG or PNG."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from selfalign_cli.extract.pictures import UnreadableError, decode

QUALITY = 85
LARGEST_PNG = 256
"""Side up to which a picture is packed as PNG, without loss: drawings and icons."""


@dataclass(frozen=True)
class Packed:
    """A picture as a page holds it.

    Attributes:
        content: the bytes of the file.
        kind: its media type.
        size: width and height in pixels of the original, upright.
    """

    content: bytes
    kind: str
    size: tuple[int, int]

    @property
    def uri(self) -> str:
        """The picture in an address, for pages that fetch nothing."""
        return f"data:{self.kind};base64,{base64.b64encode(self.content).decode('ascii')}"


def pack(path: Path, *, side: int) -> Packed:
    """Read a picture and make it fit into a square.

    Args:
        path: the file.
        side: of the square in pixels; smaller pictures keep their size.

    Raises:
        UnreadableError: it is no picture, or a damaged one.
    """
    picture = decode(path, pixels_wanted=side * side)
    image = Image.fromarray(picture.pixels)
    image.thumbnail((side, side))
    packed = BytesIO()
    if max(image.size) <= LARGEST_PNG and max(picture.size) <= LARGEST_PNG:
        image.save(packed, "PNG")
        return Packed(packed.getvalue(), "image/png", picture.size)
    image.save(packed, "JPEG", quality=QUALITY)
    return Packed(packed.getvalue(), "image/jpeg", picture.size)


def pack_or_none(path: Path | None, *, side: int) -> Packed | None:
    """The same; None where there is no file or none that can be shown."""
    if path is None:
        return None
    try:
        return pack(path, side=side)
    except UnreadableError:
        return None
