"""Open a feature file of unknown origin, and report exactly what is wrong with it.

Nothing here trusts the file: every array is checked against the others and against the size of the file before a
single region is read. `file.py` describes the layout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.array_in_file import ArrayInFile, Extent, Identity, identity
from selfalign_cli.data.features.origin import Origin
from selfalign_cli.errors import DataError, blaming, reason_of

FORMAT = "selfalign-features"
VERSION = 1
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
TEXTS_AT_ONCE = 65536
FEATURE_TYPES = ("float32", "float16")
MAKE_IT = "make the file again with: selfalign convert-features SOURCE --out FILE.h5"


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


def starts_as_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 files do; False also when it cannot be read."""
    try:
        with open(path, "rb") as raw:
            return raw.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
    except (OSError, ValueError):
        return False


def read_facts(path: Path) -> Facts:
    """Read and check everything about a feature file but its regions and its texts.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing, damaged, not a feature file, or contradicts itself.
    """
    with opened(path) as file:
        _check_header(file, path)
        features = _extent(file, "features", path, FEATURE_TYPES)
        if _number_attribute(file, "feature_dim") != features.shape[1]:
            raise _fault(path, f"holds {features.shape} features; expected the width of the attribute feature_dim")
        offsets = _offsets(file, path, features.shape[0])
        count = len(offsets) - 1
        boxes = _extent(file, "boxes", path, ("float32",)) if "boxes" in file else None
        if boxes is not None and boxes.shape != (features.shape[0], 4):
            raise _fault(path, f"boxes are {boxes.shape}; expected {(features.shape[0], 4)}")
        caption_image = _caption_image(file, path, count)
        _expect_texts(file, "image_id", path, count)
        return Facts(
            features=features,
            boxes=boxes,
            scores=_numbers(file, "scores", path, features.shape[0], "float32"),
            labels=_numbers(file, "labels", path, features.shape[0], "int32"),
            offsets=offsets,
            caption_image=caption_image,
            image_size=_image_size(file, path, count) if "image_size" in file else None,
            splits=_splits(file, path, count),
            origin=_origin(file, path),
            has_file_names="file_name" in file and _expect_texts(file, "file_name", path, count),
            has_caption_ids="captions/id" in file and _expect_texts(file, "captions/id", path, len(caption_image)),
            content_hash=_content_hash(file, path),
            source=_text_attribute(file, "source"),
            created_by=_text_attribute(file, "created_by"),
            identity=identity(path),
        )


def read_texts(path: Path, name: str) -> list[str]:
    """Read one data set of UTF-8 texts.

    Raises:
        DataError: the file is damaged, or a text is not UTF-8 (its row is named).
    """
    with opened(path) as file:
        found = _dataset(file, name, path)
        texts: list[str] = []
        for start in range(0, len(found), TEXTS_AT_ONCE):
            for value in found[start : start + TEXTS_AT_ONCE].tolist():
                try:
                    texts.append(value.decode("utf-8"))
                except UnicodeDecodeError as fault:
                    raise _fault(path, f"{name} row {len(texts)} is not UTF-8 text: {value[:40]!r}") from fault
        return texts


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading and turn whatever the HDF5 library raises into a DataError."""
    _expect_hdf5(path)
    # Never locked: feature files are replaced as a whole, never changed, and locks fail on network disks.
    with blaming(f"{path} is damaged", MAKE_IT), h5py.File(path, "r", locking=False) as file:
        yield file


def _fault(path: Path, found: str) -> DataError:
    return DataError(f"{path} {found}", MAKE_IT)


def _expect_hdf5(path: Path) -> None:
    try:
        if path.is_dir():
            raise _fault(path, "is a folder; expected a feature file")
        with open(path, "rb") as raw:
            start = raw.read(len(HDF5_SIGNATURE))
    except FileNotFoundError as fault:
        raise DataError(f"there is no feature file {path}", MAKE_IT) from fault
    except (OSError, ValueError) as fault:
        raise DataError(f"cannot read {path}: {reason_of(fault)}") from fault
    if not start:
        raise _fault(path, "is empty; expected a feature file")
    if start != HDF5_SIGNATURE:
        raise _fault(path, f"is not an HDF5 file (it starts with {start!r}); expected a feature file")


def _check_header(file: h5py.File, path: Path) -> None:
    found = _text_attribute(file, "format")
    if found != FORMAT:
        raise _fault(path, f"is HDF5 but no feature file: attribute format is {found!r}, expected {FORMAT!r}")
    version = _number_attribute(file, "version")
    if version != VERSION:
        raise _fault(path, f"is a feature file of version {version!r}; this program reads version {VERSION}")


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """One of our own data sets: kept in this very file, in one piece, and no larger than the file."""
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:depth]), getlink=True)
        if link is None:
            raise _fault(path, f"lacks the data set {name}")
        if not isinstance(link, h5py.HardLink):
            raise _fault(path, f"has a link in place of {name}; expected the data themselves")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise _fault(path, f"has a group in place of the data set {name}")
    if found.shape is None:
        raise _fault(path, f"holds nothing in {name}")
    if found.chunks is not None or found.is_virtual or found.external:
        raise _fault(path, f"stores {name} in chunks or outside the file, as convert-features never does")
    if found.size * found.dtype.itemsize > path.stat().st_size:
        raise _fault(path, f"claims {found.shape} entries in {name}, more than fit in the file")
    return found


def _array(file: h5py.File, name: str, path: Path, dtype: str, dims: int) -> npt.NDArray[Any]:
    found = _dataset(file, name, path)
    if found.dtype != np.dtype(dtype) or found.ndim != dims:
        raise _fault(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected {dtype}, {dims} axes")
    return np.asarray(found[...])


def _extent(file: h5py.File, name: str, path: Path, types: tuple[str, ...]) -> Extent:
    """Locate a large array, and make sure that its rows are where the library reads them."""
    found = _dataset(file, name, path)
    if found.ndim != 2 or found.size == 0 or found.dtype not in [np.dtype(t) for t in types]:
        raise _fault(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected two axes of {types}")
    offset = found.id.get_offset()
    if offset is None:
        raise _fault(path, f"holds no data in {name}: it was never finished")
    extent = Extent(int(offset), (int(found.shape[0]), int(found.shape[1])), str(found.dtype))
    if extent.end > path.stat().st_size:
        raise _fault(path, f"is cut short: {name} should end at byte {extent.end:,}")
    stored = ArrayInFile(path, extent, identity(path))
    for row in (0, extent.shape[0] - 1):
        if stored.rows(row, row + 1).tobytes() != found[row].tobytes():
            raise _fault(path, f"stores {name} in a way that this program does not know")
    return extent


def _numbers(file: h5py.File, name: str, path: Path, regions: int, dtype: str) -> Extent | None:
    """Locate an array with a number for each region; None where there is none."""
    if name not in file:
        return None
    found = _dataset(file, name, path)
    if found.shape != (regions,) or found.dtype != np.dtype(dtype):
        raise _fault(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected {regions} of {dtype}")
    offset = found.id.get_offset()
    extent = Extent(int(offset or 0), (regions, 1), dtype)
    if offset is None or extent.end > path.stat().st_size:
        raise _fault(path, f"is cut short: {name} should end at byte {extent.end:,}")
    return extent


def _origin(file: h5py.File, path: Path) -> Origin | None:
    """What made the regions, if the file says it."""
    if "extractor" not in file:
        return None
    try:
        extractor = json.loads(_one_text(file, "extractor", path))
    except (ValueError, RecursionError) as fault:
        raise _fault(path, f"names an extractor that is no JSON: {reason_of(fault)}") from fault
    if not isinstance(extractor, dict):
        raise _fault(path, f"names the extractor {str(extractor)[:80]!r}; expected its settings by name")
    names = [bytes(name).decode("utf-8", "replace") for name in _label_names(file, path)]
    return Origin(extractor, tuple(names), _one_text(file, "pictures", path) if "pictures" in file else "")


def _label_names(file: h5py.File, path: Path) -> list[bytes]:
    if "label_names" not in file:
        return []
    found = _dataset(file, "label_names", path)
    if found.dtype.kind != "S" or found.ndim != 1:
        raise _fault(path, f"has label_names of type {found.dtype}; expected texts")
    names: list[bytes] = found[...].tolist()
    return names


def _one_text(file: h5py.File, name: str, path: Path) -> str:
    found = _dataset(file, name, path)
    if found.dtype.kind != "S" or found.shape != (1,):
        raise _fault(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected one text")
    return bytes(found[0]).decode("utf-8", "replace")


def _offsets(file: h5py.File, path: Path, regions: int) -> npt.NDArray[np.int64]:
    offsets = _array(file, "offsets", path, "int64", 1)
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != regions or (np.diff(offsets) < 1).any():
        raise _fault(path, f"has faulty offsets; expected a rise from 0 to {regions}, each picture with a region")
    return offsets


def _caption_image(file: h5py.File, path: Path, count: int) -> npt.NDArray[np.int64]:
    caption_image = _array(file, "captions/image", path, "int64", 1)
    _expect_texts(file, "captions/text", path, len(caption_image))
    if len(caption_image) == 0:
        return caption_image
    if caption_image.min() < 0 or caption_image.max() >= count:
        raise _fault(path, f"has captions of pictures that do not exist; expected rows 0 to {count - 1}")
    bare = np.flatnonzero(np.bincount(caption_image, minlength=count) == 0)
    if len(bare):
        raise _fault(path, f"has {len(bare)} pictures without a caption, the first in row {bare[0]}")
    return caption_image


def _image_size(file: h5py.File, path: Path, count: int) -> npt.NDArray[np.float32]:
    size = _array(file, "image_size", path, "float32", 2)
    if size.shape != (count, 2) or not (np.isfinite(size) & (size > 0)).all():
        raise _fault(path, f"has faulty image_size {size.shape}; expected {(count, 2)} positive numbers")
    return size


def _splits(file: h5py.File, path: Path, count: int) -> dict[str, range]:
    group = file.get("splits")
    if not isinstance(group, h5py.Group) or len(group) == 0:
        raise _fault(path, "names no splits")
    found = {}
    for name in group:
        bounds = _array(file, f"splits/{name}", path, "int64", 1)
        if len(bounds) != 2 or not 0 <= bounds[0] < bounds[1] <= count:
            raise _fault(path, f"has split {name!r} at rows {bounds[:4].tolist()}; expected a part of 0 to {count}")
        found[str(name)] = range(int(bounds[0]), int(bounds[1]))
    ordered = dict(sorted(found.items(), key=lambda item: item[1].start))
    end = 0
    for name, rows in ordered.items():
        if rows.start != end:
            raise _fault(path, f"has split {name!r} from row {rows.start}; expected it to start at row {end}")
        end = rows.stop
    if end != count:
        raise _fault(path, f"has pictures from row {end} on that belong to no split")
    return ordered


def _expect_texts(file: h5py.File, name: str, path: Path, count: int) -> bool:
    found = _dataset(file, name, path)
    if found.dtype.kind != "S" or found.shape != (count,):
        raise _fault(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected {count} texts")
    return True


def _content_hash(file: h5py.File, path: Path) -> str:
    found = _text_attribute(file, "content_hash")
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise _fault(path, f"has the content_hash {found[:80]!r}; expected 64 hexadecimal digits")
    return found


def _text_attribute(file: h5py.File, name: str) -> str:
    """Text of fixed length; empty when there is none. Variable length is not ours, and not safe to read."""
    if name not in file.attrs:
        return ""
    stored = file.attrs.get_id(name)
    if stored.shape != () or stored.dtype.kind != "S":
        return ""
    return bytes(file.attrs[name]).decode("utf-8", "replace")


def _number_attribute(file: h5py.File, name: str) -> int | None:
    if name not in file.attrs:
        return None
    stored = file.attrs.get_id(name)
    return int(file.attrs[name]) if stored.shape == () and stored.dtype.kind in "iu" else None
