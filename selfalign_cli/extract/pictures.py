"""Find the pictures that a user names, and decode each to plain pixels, whatever its file holds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from selfalign_cli.data.formats.picture_names import SUFFIXES
from selfalign_cli.errors import DataError

UNSUPPORTED = {".heic": "HEIC", ".heif": "HEIF", ".avif": "AVIF"}
"""Pictures by their suffix that Pillow alone does not decode: named, so that nobody wonders where they went."""
LIST_SUFFIX = ".txt"
DECODED_PIXELS = 1 << 20
"""What models of `transformers` use of a picture at most: JPEGs are decoded no larger than four times this."""
MOST_PIXELS = 150_000_000
"""Larger pictures are refused from their header: 450 MB of pixels, and more than any camera makes."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PictureFile:
    """A picture that was found.

    Attributes:
        image_id: path below the folder that was named, with `/` and suffix; for a file that was named, its name.
        path: where it lies.
    """

    image_id: str
    path: Path


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: (h, w, 3) RGB. A large JPEG may be decoded at half, a quarter or an eighth of its size.
        size: width and height in pixels of the upright picture in the file.
    """

    pixels: Pixels
    size: tuple[int, int]


class UnreadableError(Exception):
    """A file that is no picture, or a picture that cannot be decoded or described; the text says why."""


def find_pictures(sources: Sequence[Path]) -> list[PictureFile]:
    """List pictures in the order in which they will be extracted.

    Args:
        sources: folders, which are searched through; picture files; `.txt` files with a path on each line, relative to
            the list's folder. Names that begin with a dot are passed over, as are files of other suffixes in folders.

    Returns:
        The pictures, sorted by id within each source; folders that cannot be read stand among them, so that they are
        named as what cannot be decoded.

    Raises:
        DataError: a source does not exist, there are no pictures, or two pictures have one id.
    """
    found = [picture for source in sources for picture in _pictures_of(source)]
    if not found:
        raise DataError(
            f"there are no pictures in {', '.join(map(str, sources))}", f"expected files {' '.join(SUFFIXES)}"
        )
    first: dict[str, Path] = {}
    for picture in found:
        other = first.setdefault(picture.image_id, picture.path)
        if other != picture.path:
            raise DataError(
                f"{other} and {picture.path} would both have the id {picture.image_id}",
                "name the folder above both, so that their ids differ",
            )
    return [PictureFile(image_id, path) for image_id, path in first.items()]


def decode(path: Path, *, pixels_wanted: int | None = None) -> Picture:
    """Decode a picture: upright, RGB, transparency on white, the first frame of an animation.

    Args:
        path: the file.
        pixels_wanted: how many pixels will be used; a JPEG with more than four times as many is decoded smaller.

    Raises:
        UnreadableError: with the reason, which does not repeat the path.
    """
    if os.path.isdir(path):
        raise UnreadableError("this folder cannot be read")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise UnreadableError("it is not a regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about odd metadata and large pictures; limits are ours
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise UnreadableError(f"{width} x {height} pixels are more than the {MOST_PIXELS:,} allowed")
                _decode_smaller(image, pixels_wanted)
                image.load()
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # EXIF orientation: sides are swapped
                upright = ImageOps.exif_transpose(image)
                pixels = _as_rgb(upright)
    except UnreadableError:
        raise
    except Image.DecompressionBombError as fault:
        raise UnreadableError("it has far too many pixels") from fault
    except (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, OverflowError,
            RuntimeError, MemoryError, ArithmeticError) as fault:  # fmt: skip
        raise UnreadableError(_reason(path, fault)) from fault
    return Picture(pixels, (height, width) if turned else (width, height))


def _pictures_of(source: Path) -> Iterator[PictureFile]:
    if source.is_dir():
        yield from sorted(_in_folder(source), key=lambda picture: picture.image_id)
    elif not source.exists():
        raise DataError(f"there is no {source}", "name folders, picture files or a .txt list of them")
    elif source.suffix.lower() == LIST_SUFFIX:
        yield from _in_list(source)
    else:
        yield PictureFile(source.name, source)


def _in_folder(folder: Path) -> Iterator[PictureFile]:
    closed: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            suffix = Path(name).suffix.lower()
            if not name.startswith(".") and (suffix in SUFFIXES or suffix in UNSUPPORTED):
                path = Path(place) / name
                yield PictureFile(path.relative_to(folder).as_posix(), path)
    for path in (Path(fault.filename) for fault in closed):
        yield PictureFile(path.relative_to(folder).as_posix(), path)


def _in_list(source: Path) -> Iterator[PictureFile]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"cannot read {source} as a list of pictures: {fault}") from fault
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path = source.parent / line.strip()
        if not path.is_file():
            raise DataError(f"{source}, line {number}: there is no picture {path}")
        yield PictureFile(Path(line.strip()).as_posix().lstrip("/"), path)


def _decode_smaller(image: Image.Image, pixels_wanted: int | None) -> None:
    """Let the JPEG decoder halve the sides while at least twice the wanted sides remain."""
    if pixels_wanted is None or image.format != "JPEG":
        return
    factor = (image.width * image.height / pixels_wanted) ** 0.5 / 2
    if factor >= 2:
        image.draft(None, (int(image.width / factor), int(image.height / factor)))


def _as_rgb(image: Image.Image) -> Pixels:
    """(h, w, 3) of any mode."""
    if image.mode.startswith("I") or image.mode == "F":
        return _grey(np.asarray(image).astype(np.float64))
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        image = Image.alpha_composite(white, layered)
    return np.ascontiguousarray(image.convert("RGB"))


def _grey(values: npt.NDArray[np.float64]) -> Pixels:
    """Grey values of more than eight bits: of the full 16-bit range, of 0 to 1, or stretched from least to most."""
    least, most = float(values.min()), float(values.max())
    if not np.isfinite([least, most]).all():
        raise UnreadableError("its grey values are not finite")
    if 0 <= least and most <= 1:
        scaled = values * 255
    elif 0 <= least and most <= 255:
        scaled = values
    elif 0 <= least and most <= 65535:
        scaled = values / 257
    else:
        scaled = (values - least) * (255 / (most - least))
    grey = np.rint(scaled).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _reason(path: Path, fault: Exception) -> str:
    kind = UNSUPPORTED.get(path.suffix.lower())
    if kind is not None:
        return f"{kind} pictures are not decoded; convert them to JPEG or PNG"
    try:
        if path.stat().st_size == 0:
            return "it is empty"
    except OSError:
        pass
    if isinstance(fault, UnidentifiedImageError):
        return "it is not a picture of a known format"
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return (str(fault) or type(fault).__name__).splitlines()[0]
