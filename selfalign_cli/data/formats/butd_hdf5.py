"""HDF5 of bottom-up-attention for question answering, with a pickled map from picture ids to rows in the same folder.

    fixed (BUTD)      image_features (N, R, F), image_bb (N, R, 4), spatial_features (N, R, 6)
    adaptive (BAN)    image_features (sum n, F), image_bb (sum n, 4), spatial_features (sum n, 6),
                      pos_boxes (N, 2): first region of a picture, and the one after its last
    NAME_imgid2idx.pkl   dict: picture id → row

`spatial_features` are x1 y1 x2 y2 w h divided by the picture's width and height, which gives its size back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from selfalign_cli.data.formats.foreign_hdf5 import dataset, names_in, opened_hdf5, whole
from selfalign_cli.data.formats.pictures import Array, Counted, Pictures, ReadPicture, Regions, shown
from selfalign_cli.data.restricted_pickle import ARRAYS, load_restricted
from selfalign_cli.data.text.captions import read_bytes
from selfalign_cli.errors import DataError

FEATURES, BOXES, SPATIAL, POSITIONS = "image_features", "image_bb", "spatial_features", "pos_boxes"
ROWS = "imgid2idx.pkl"
# How far a corner may lie from where the picture's size puts it, in pixels.
TOLERANCE = 0.5
LARGEST_ID = 10**18


@dataclass(frozen=True)
class _Location:
    """A row (fixed) or some regions (adaptive) of a file."""

    path: Path
    rows: int | slice


def recognises(source: Path) -> bool:
    """Whether a path is an HDF5 file with `image_features`."""
    return source.is_file() and FEATURES in names_in(source)


def open_pictures(sources: Sequence[Path]) -> Pictures:
    """Read which picture is where.

    Args:
        sources: HDF5 files, each with its map in the same folder.

    Raises:
        DataError: a file or its map is missing or damaged, or they do not fit each other.
    """
    counted = Counted()
    locations: list[_Location] = []
    notes: list[str] = []
    for source in sources:
        with opened_hdf5(source) as file:
            extents, width = _extents(file)
        rows = _rows(source, len(extents))
        for name, row in rows.items():
            extent, regions = extents[row]
            counted.add(name, regions, width, f"{source}, row {row}")
            locations.append(_Location(source, extent))
        if len(rows) < len(extents):
            left_out = len(extents) - len(rows)
            notes.append(f"{left_out:,} rows of {source} are left out: its map names no picture for them")
    return counted.pictures(sources, partial(_reading, locations), notes)


def _extents(file: h5py.File) -> tuple[list[tuple[int | slice, int]], int]:
    """Where each picture is and its number of regions, and the width of a region."""
    if POSITIONS not in file:
        count, regions, width = dataset(file, FEATURES, "f", 3).shape
        return [(row, regions) for row in range(count)], width
    total, width = dataset(file, FEATURES, "f", 2).shape
    bounds = whole(file, POSITIONS, "iu", 2).astype(np.int64)
    in_order = bounds[np.lexsort(bounds.T[::-1])] if bounds.shape[1] == 2 else bounds
    if bounds.shape[1] != 2 or bounds.min() < 0 or bounds.max() > total or (in_order[1:, 0] < in_order[:-1, 1]).any():
        raise DataError(
            f"{file.filename} has faulty {POSITIONS}; expected parts of 0 to {total} that do not overlap",
            "the file is damaged, or not complete; fetch it again",
        )
    return [(slice(start, end), end - start) for start, end in bounds.tolist()], width


def _rows(source: Path, count: int) -> dict[str, int]:
    """Row of each picture id."""
    path = source.with_name(f"{source.stem}_{ROWS}")
    if not path.exists():
        others = sorted(source.parent.glob(f"*{ROWS}"))
        if len(others) != 1:
            raise DataError(f"there is no {path}, which says which row of {source.name} is which picture")
        path = others[0]
    found = load_restricted(read_bytes(path), ARRAYS, what=str(path))
    if not isinstance(found, dict) or not found:
        raise DataError(f"{path} holds a {type(found).__name__}; expected a dict of picture ids and rows")
    rows: dict[str, int] = {}
    for name, row in found.items():
        known = isinstance(name, str) or (isinstance(name, int) and abs(name) < LARGEST_ID)
        if not known or type(row) is not int or not 0 <= row < count:
            raise DataError(f"{path} gives picture {shown(name)} the row {shown(row)}; expected 0 to {count - 1}")
        rows[str(name)] = row
    if len(set(rows.values())) < len(found):
        raise DataError(f"{path} gives one row to several pictures; expected every row once")
    return rows


@contextmanager
def _reading(locations: list[_Location]) -> Iterator[ReadPicture]:
    with ExitStack() as stack:
        files = {
            path: _opened(stack.enter_context(opened_hdf5(path)))
            for path in dict.fromkeys(location.path for location in locations)
        }

        def read(row: int) -> Regions:
            location = locations[row]
            found = {name: np.asarray(rows[location.rows]) for name, rows in files[location.path].items()}
            boxes = found.get(BOXES)
            size = (
                _size(found[BOXES], found[SPATIAL], f"{location.path}, {location.rows}") if SPATIAL in found else None
            )
            return Regions(found[FEATURES], boxes, size)

        yield read


def _opened(file: h5py.File) -> dict[str, h5py.Dataset]:
    """The data sets of a file; positions that divide by the size are of no use without the boxes themselves."""
    features = file[FEATURES]
    found = {FEATURES: features}
    for name, width in ((BOXES, 4), (SPATIAL, 6)):
        if name in file and BOXES in file:
            found[name] = dataset(file, name, "f", features.ndim)
            if found[name].shape != (*features.shape[:-1], width):
                raise DataError(
                    f"{file.filename} holds {found[name].shape} in {name}; expected {(*features.shape[:-1], width)}"
                )
    return found


@np.errstate(all="ignore")  # damaged numbers are an error below, not a warning
def _size(boxes: Array, spatial: Array, where: str) -> tuple[float, float]:
    """Width and height of a picture, from corners in pixels and the same corners divided by them."""
    pixels, parts = boxes.astype(np.float64), spatial.astype(np.float64)
    sides = []
    for axis in (0, 1):
        widest = int(np.argmax(parts[:, axis + 2]))
        part = parts[widest, axis + 2]
        side = np.rint(pixels[widest, axis + 2] / part) if part > 0 else np.nan
        if not (np.abs(parts[:, [axis, axis + 2]] * side - pixels[:, [axis, axis + 2]]) <= TOLERANCE).all():
            raise DataError(
                f"{where}: {SPATIAL} are not the corners of {BOXES} divided by one width and height",
                "the file is damaged; fetch it again",
            )
        sides.append(float(side))
    return sides[0], sides[1]
