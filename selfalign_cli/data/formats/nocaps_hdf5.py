"""HDF5 of nocaps and UpDown, and ViLBERT's: a row a picture, its id in `image_id`.

image_id    (N,) whole numbers or texts
features    (N,) lists of n·F numbers, or (N, n·F), or (N, n, F)
num_boxes   (N,) n of each picture; may be left out where features are (N, n, F)
boxes       likewise with 4 in place of F, optional
width, height   (N,) of the picture in pixels, optional
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from selfalign_cli.data.formats.foreign_hdf5 import names_in, opened_hdf5, per_picture, texts, whole
from selfalign_cli.data.formats.pictures import Array, Counted, Pictures, ReadPicture, Regions
from selfalign_cli.errors import DataError

IDS, FEATURES, COUNTS, BOXES, SIZE = "image_id", "features", "num_boxes", "boxes", ("width", "height")


def recognises(source: Path) -> bool:
    """Whether a path is an HDF5 file with `image_id` and `features`."""
    return source.is_file() and {IDS, FEATURES} <= set(names_in(source))


def open_pictures(sources: Sequence[Path]) -> Pictures:
    """Read ids and numbers of regions.

    Args:
        sources: HDF5 files.

    Raises:
        DataError: a file is damaged or lacks what it needs, or a picture occurs twice.
    """
    counted = Counted()
    locations: list[tuple[Path, int]] = []
    for source in sources:
        with opened_hdf5(source) as file:
            ids, features = texts(file, IDS), per_picture(file, FEATURES)
            counts = _counts(file, features, len(ids))
            for row, (name, count, width) in enumerate(zip(ids, counts, _widths(features, counts), strict=True)):
                counted.add(name, count, width, f"{source}, row {row}")
                locations.append((source, row))
    return counted.pictures(sources, partial(_reading, locations, counted))


def _counts(file: h5py.File, features: h5py.Dataset, pictures: int) -> list[int]:
    """Regions of each picture."""
    if COUNTS in file:
        counts: list[int] = whole(file, COUNTS, "iu", 1).astype(np.int64).tolist()
    elif features.ndim != 3:
        raise DataError(f"{file.filename} has no {COUNTS}, without which its {FEATURES} cannot be cut into regions")
    else:
        counts = [features.shape[1]] * len(features)
    if len(counts) != pictures or len(features) != pictures:
        raise DataError(
            f"{file.filename} holds {pictures} ids, {len(features)} rows of {FEATURES} and {len(counts)} numbers of "
            "regions; expected as many of each"
        )
    return counts


def _widths(features: h5py.Dataset, counts: list[int]) -> list[int]:
    """Width of a region in each row; 0 where the numbers of a row cannot be cut into its regions."""
    if features.ndim == 1:  # lists: the first tells, and each is held against it when it is read
        return [_cut(len(features[0]), counts[0])] * len(counts)
    if features.ndim == 3:
        _, most, width = features.shape
        return [int(width) if count <= most else 0 for count in counts]
    return [_cut(int(features.shape[1]), count) for count in counts]


def _cut(numbers: int, count: int) -> int:
    return numbers // count if count > 0 and numbers % count == 0 else 0


@contextmanager
def _reading(locations: list[tuple[Path, int]], counted: Counted) -> Iterator[ReadPicture]:
    with ExitStack() as stack:
        files = {}
        for path in dict.fromkeys(path for path, _ in locations):
            file = stack.enter_context(opened_hdf5(path))
            features = per_picture(file, FEATURES)
            boxes = per_picture(file, BOXES) if BOXES in file else None
            sides = [whole(file, side, "iuf", 1) for side in SIZE if side in file]
            if any(len(rows) != len(features) for rows in [*sides, *([] if boxes is None else [boxes])]):
                raise DataError(f"{path} has {len(features)} rows of {FEATURES}, and another number of boxes or sizes")
            files[path] = features, boxes, sides

        def read(picture: int) -> Regions:
            path, row = locations[picture]
            features, boxes, sides = files[path]
            count, where = counted.regions[picture], f"{path}, row {row}"
            return Regions(
                _regions(features[row], count, counted.feature_dim, f"{where}: {FEATURES}"),
                None if boxes is None else _regions(boxes[row], count, 4, f"{where}: {BOXES}"),
                (float(sides[0][row]), float(sides[1][row])) if len(sides) == 2 else None,
            )

        yield read


def _regions(numbers: Array, count: int, width: int, where: str) -> Array:
    """(n, width) of one picture; rows behind the n-th must be padding, which is zero."""
    flat = np.asarray(numbers).reshape(-1)
    if len(flat) < count * width or len(flat) % width or flat[count * width :].any():
        raise DataError(
            f"{where} are {len(flat):,} numbers; expected {count} x {width}, and zeros behind them at most"
        )
    return flat[: count * width].reshape(count, width)
