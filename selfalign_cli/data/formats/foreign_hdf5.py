"""Open HDF5 files of other programs: any fault is one message, and nothing outside the file is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import h5py
import numpy as np

from selfalign_cli.data.features.stored import starts_as_hdf5
from selfalign_cli.data.formats.pictures import Array
from selfalign_cli.errors import DataError, blaming

FETCH_AGAIN = "the file looks cut short or damaged; fetch it again"
# Regions of one picture take a megabyte.
LARGEST_ROW = 1024**3
LARGEST_INDEX = 4 * 1024**3


@contextmanager
def opened_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file, and turn what the library says of it into a DataError.

    Raises:
        DataError: it is missing or damaged, or its reading fails in the block.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    if not starts_as_hdf5(path):
        raise DataError(f"{path} cannot be read or is not an HDF5 file", FETCH_AGAIN)
    with blaming_file(path), h5py.File(path, "r", locking=False) as file:
        yield file


def blaming_file(path: Path) -> AbstractContextManager[None]:
    """Turn what the library raises in the block into a DataError about a file."""
    return blaming(f"{path} is damaged", FETCH_AGAIN)


def names_in(path: Path, most: int = 20) -> list[str]:
    """The first few names in a file; none if it is no HDF5 file or damaged."""
    try:
        with opened_hdf5(path) as file:
            return [str(name) for name, _ in zip(file, range(most), strict=False)]
    except DataError:
        return []


def dataset(file: h5py.File, name: str, kinds: str, axes: int) -> h5py.Dataset:
    """Look up a data set that is kept in the file, all of it.

    Args:
        file: the file.
        name: of the data set, at the top.
        kinds: numpy's letters for the types allowed.
        axes: number of axes, all at least 1 long.

    Raises:
        DataError: it is missing, was never finished, or is of another type or shape.
    """
    path = file.filename
    link = file.get(name, getlink=True)
    if link is None:
        raise DataError(f"{path} lacks the data set {name}")
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise DataError(f"{path} has no data of its own in {name}; expected a data set")
    if found.shape is None or found.ndim != axes or not found.size or found.dtype.kind not in kinds:
        raise DataError(f"{path} holds {found.dtype} {found.shape} in {name}; expected {axes} axes of numbers")
    _expect_finished(found, path)
    return found


def whole(file: h5py.File, name: str, kinds: str, axes: int) -> Array:
    """Read a data set of numbers, all of it.

    Raises:
        DataError: as `dataset`, or it is too large for an index of pictures.
    """
    found = dataset(file, name, kinds, axes)
    if found.size * found.dtype.itemsize > LARGEST_INDEX:
        raise DataError(f"{file.filename} holds {found.shape} numbers in {name}, more than pictures can have")
    return np.asarray(found[...])


def per_picture(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set with one row of floating-point numbers, or one list of numbers, for each picture."""
    found = file.get(name)
    listed = h5py.check_vlen_dtype(found.dtype) if isinstance(found, h5py.Dataset) else None
    if listed is not None and listed.kind in "fiu":
        return dataset(file, name, "O", 1)
    axes = found.ndim if isinstance(found, h5py.Dataset) and found.ndim in (2, 3) else 2
    return dataset(file, name, "f", axes)


def texts(file: h5py.File, name: str) -> list[str]:
    """Read ids: whole numbers or texts.

    Raises:
        DataError: it holds something else.
    """
    found = file.get(name)
    text = isinstance(found, h5py.Dataset) and h5py.check_string_dtype(found.dtype) is not None
    values = whole(file, name, "SO" if text else "iuf", 1)
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
        raise DataError(f"{file.filename} has {name} that are no whole numbers; expected ids")
    raw = [value if isinstance(value, bytes) else str(int(value)).encode() for value in values.tolist()]
    try:
        return [value.rstrip(b"\0").decode("utf-8") for value in raw]
    except UnicodeDecodeError as fault:
        raise DataError(
            f"{file.filename} has {name} that are not UTF-8: {fault.object[:40]!r}", FETCH_AGAIN
        ) from fault


def _expect_finished(found: h5py.Dataset, path: str) -> None:
    """HDF5 reads zeros where nothing was ever written."""
    layout = found.id.get_create_plist().get_layout()
    name = str(found.name).strip("/")
    row_bytes = math.prod(found.shape[1:]) * found.dtype.itemsize
    if row_bytes > LARGEST_ROW:
        raise DataError(f"{path} holds {found.shape} numbers in {name}, more than a picture can have", FETCH_AGAIN)
    if layout == h5py.h5d.CHUNKED:
        expected = math.prod(-(-side // chunk) for side, chunk in zip(found.shape, found.chunks, strict=True))
        stored = found.id.get_num_chunks()
        if stored != expected:
            raise DataError(
                f"{path} holds {stored:,} of {expected:,} pieces of {name}: it was never finished", FETCH_AGAIN
            )
    elif layout == h5py.h5d.CONTIGUOUS and found.id.get_offset() is None:
        raise DataError(f"{path} holds nothing in {name}: it was never finished", FETCH_AGAIN)
