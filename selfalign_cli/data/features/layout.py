"""Open a feature file of unknown origin, and report exactly what is wrong with it.

Nothing here trusts the file: every array is checked against the size of the file (`stored.py`) and against the others
before a single region is read. `file.py` describes the layout.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.array_in_file import Extent, Identity, identity
from selfalign_cli.data.features.origin import Origin
from selfalign_cli.data.features.stored import (
    array,
    dataset,
    expect_texts,
    extent,
    faulty,
    number_attribute,
    numbers_of_regions,
    one_text,
    opened,
    text_attribute,
)
from selfalign_cli.errors import reason_of

if TYPE_CHECKING:
    import h5py

FORMAT = "selfalign-features"
VERSION = 1
TEXTS_AT_ONCE = 65536
FEATURE_TYPES = ("float32", "float16")


@dataclass(frozen=True)
class Facts:
    """Everything about a feature file but its regions and its texts.

    Attributes:
        features: extent of the (sum n, F) region features.
        boxes: extent of the (sum n, 4) boxes, or None.
        offsets: (N + 1,) int64 first region of each picture.
        caption_image: (M,) int64 image row of each caption; M is 0 where pictures have none.
        scores: extent of the (sum n, 1) scores of regions, or None.
        labels: extent of the (sum n, 1) classes of regions, or None.
        image_size: (N, 2) float32 width and height, or None.
        splits: image rows of each split, in file order.
        origin: what made the regions, or None where the file does not say.
        has_file_names: whether `file_name` is there.
        has_caption_ids: whether `captions/id` is there.
        content_hash: SHA-256 (hex) of what was converted.
        source: what the file was made from.
        created_by: program and version.
        identity: size, time of change and inode, to notice a file that is replaced while in use.
    """

    features: Extent
    boxes: Extent | None
    scores: Extent | None
    labels: Extent | None
    offsets: npt.NDArray[np.int64]
    caption_image: npt.NDArray[np.int64]
    image_size: npt.NDArray[np.float32] | None
    splits: dict[str, range]
    origin: Origin | None
    has_file_names: bool
    has_caption_ids: bool
    content_hash: str
    source: str
    created_by: str
    identity: Identity


def read_facts(path: Path) -> Facts:
    """Read and check everything about a feature file but its regions and its texts.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing, damaged, not a feature file, or contradicts itself.
    """
    with opened(path) as file:
        _check_header(file, path)
        features = extent(file, "features", path, FEATURE_TYPES)
        if number_attribute(file, "feature_dim") != features.shape[1]:
            raise faulty(path, f"holds {features.shape} features; expected the width of the attribute feature_dim")
        offsets = _offsets(file, path, features.shape[0])
        count = len(offsets) - 1
        boxes = extent(file, "boxes", path, ("float32",)) if "boxes" in file else None
        if boxes is not None and boxes.shape != (features.shape[0], 4):
            raise faulty(path, f"boxes are {boxes.shape}; expected {(features.shape[0], 4)}")
        caption_image = _caption_image(file, path, count)
        expect_texts(file, "image_id", path, count)
        return Facts(
            features=features,
            boxes=boxes,
            scores=numbers_of_regions(file, "scores", path, features.shape[0], "float32"),
            labels=numbers_of_regions(file, "labels", path, features.shape[0], "int32"),
            offsets=offsets,
            caption_image=caption_image,
            image_size=_image_size(file, path, count) if "image_size" in file else None,
            splits=_splits(file, path, count),
            origin=_origin(file, path),
            has_file_names="file_name" in file and expect_texts(file, "file_name", path, count),
            has_caption_ids="captions/id" in file and expect_texts(file, "captions/id", path, len(caption_image)),
            content_hash=_content_hash(file, path),
            source=text_attribute(file, "source"),
            created_by=text_attribute(file, "created_by"),
            identity=identity(path),
        )


def read_texts(path: Path, name: str) -> list[str]:
    """Read one data set of UTF-8 texts.

    Raises:
        DataError: the file is damaged, or a text is not UTF-8 (its row is named).
    """
    with opened(path) as file:
        found = dataset(file, name, path)
        texts: list[str] = []
        for start in range(0, len(found), TEXTS_AT_ONCE):
            for value in found[start : start + TEXTS_AT_ONCE].tolist():
                try:
                    texts.append(value.decode("utf-8"))
                except UnicodeDecodeError as fault:
                    raise faulty(path, f"{name} row {len(texts)} is not UTF-8 text: {value[:40]!r}") from fault
        return texts


def _check_header(file: h5py.File, path: Path) -> None:
    found = text_attribute(file, "format")
    if found != FORMAT:
        raise faulty(path, f"is HDF5 but no feature file: attribute format is {found!r}, expected {FORMAT!r}")
    version = number_attribute(file, "version")
    if version != VERSION:
        raise faulty(path, f"is a feature file of version {version!r}; this program reads version {VERSION}")


def _origin(file: h5py.File, path: Path) -> Origin | None:
    """What made the regions, if the file says it."""
    if "extractor" not in file:
        return None
    try:
        extractor = json.loads(one_text(file, "extractor", path))
    except (ValueError, RecursionError) as fault:
        raise faulty(path, f"names an extractor that is no JSON: {reason_of(fault)}") from fault
    if not isinstance(extractor, dict):
        raise faulty(path, f"names the extractor {str(extractor)[:80]!r}; expected its settings by name")
    names = [bytes(name).decode("utf-8", "replace") for name in _label_names(file, path)]
    return Origin(extractor, tuple(names), one_text(file, "pictures", path) if "pictures" in file else "")


def _label_names(file: h5py.File, path: Path) -> list[bytes]:
    if "label_names" not in file:
        return []
    found = dataset(file, "label_names", path)
    if found.dtype.kind != "S" or found.ndim != 1:
        raise faulty(path, f"has label_names of type {found.dtype}; expected texts")
    names: list[bytes] = found[...].tolist()
    return names


def _offsets(file: h5py.File, path: Path, regions: int) -> npt.NDArray[np.int64]:
    offsets = array(file, "offsets", path, "int64", 1)
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != regions or (np.diff(offsets) < 1).any():
        raise faulty(path, f"has faulty offsets; expected a rise from 0 to {regions}, each picture with a region")
    return offsets


def _caption_image(file: h5py.File, path: Path, count: int) -> npt.NDArray[np.int64]:
    caption_image = array(file, "captions/image", path, "int64", 1)
    expect_texts(file, "captions/text", path, len(caption_image))
    if len(caption_image) == 0:
        return caption_image
    if caption_image.min() < 0 or caption_image.max() >= count:
        raise faulty(path, f"has captions of pictures that do not exist; expected rows 0 to {count - 1}")
    bare = np.flatnonzero(np.bincount(caption_image, minlength=count) == 0)
    if len(bare):
        raise faulty(path, f"has {len(bare)} pictures without a caption, the first in row {bare[0]}")
    return caption_image


def _image_size(file: h5py.File, path: Path, count: int) -> npt.NDArray[np.float32]:
    size = array(file, "image_size", path, "float32", 2)
    if size.shape != (count, 2) or not (np.isfinite(size) & (size > 0)).all():
        raise faulty(path, f"has faulty image_size {size.shape}; expected {(count, 2)} positive numbers")
    return size


def _splits(file: h5py.File, path: Path, count: int) -> dict[str, range]:
    import h5py

    group = file.get("splits")
    if not isinstance(group, h5py.Group) or len(group) == 0:
        raise faulty(path, "names no splits")
    found = {}
    for name in group:
        bounds = array(file, f"splits/{name}", path, "int64", 1)
        if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= count:
            raise faulty(path, f"has split {name!r} at rows {bounds[:4].tolist()}; expected a part of 0 to {count}")
        found[str(name)] = range(int(bounds[0]), int(bounds[1]))
    ordered = dict(sorted(found.items(), key=lambda item: item[1].start))
    end = 0
    for name, rows in ordered.items():
        if rows.start != end:
            raise faulty(path, f"has split {name!r} from row {rows.start}; expected it to start at row {end}")
        end = rows.stop
    if end != count:
        raise faulty(path, f"has pictures from row {end} on that belong to no split")
    return ordered


def _content_hash(file: h5py.File, path: Path) -> str:
    found = text_attribute(file, "content_hash")
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise faulty(path, f"has the content_hash {found[:80]!r}; expected 64 hexadecimal digits")
    return found
