"""Read single arrays, texts and attributes of a feature file, each checked against the size of the file.

Nothing here trusts the file. What the arrays mean, and whether they fit each other, `layout.py` checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.array_in_file import ArrayInFile, Extent, identity
from selfalign_cli.errors import DataError, blaming, reason_of

if TYPE_CHECKING:
    import h5py

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAKE_IT = "make the file again with: selfalign convert-features SOURCE --out FILE.h5"


def starts_as_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 files do; False also when it cannot be read."""
    try:
        with open(path, "rb") as raw:
            return raw.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
    except (OSError, ValueError):
        return False


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading and turn whatever the HDF5 library raises into a DataError."""
    _expect_hdf5(path)
    # Never locked: feature files are replaced as a whole, never changed, and locks fail on network disks.
    import h5py  # a search, which reads no feature file, does without it

    with blaming(f"{path} is damaged", MAKE_IT), h5py.File(path, "r", locking=False) as file:
        yield file


def faulty(path: Path, found: str) -> DataError:
    """The error for a file that is not what it should be."""
    return DataError(f"{path} {found}", MAKE_IT)


def _expect_hdf5(path: Path) -> None:
    try:
        if path.is_dir():
            raise faulty(path, "is a folder; expected a feature file")
        with open(path, "rb") as raw:
            start = raw.read(len(HDF5_SIGNATURE))
    except FileNotFoundError as fault:
        raise DataError(f"there is no feature file {path}", MAKE_IT) from fault
    except (OSError, ValueError) as fault:
        raise DataError(f"cannot read {path}: {reason_of(fault)}") from fault
    if not start:
        raise faulty(path, "is empty; expected a feature file")
    if start != HDF5_SIGNATURE:
        raise faulty(path, f"is not an HDF5 file (it starts with {start!r}); expected a feature file")


def dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """One of our own data sets: kept in this very file, in one piece, and no larger than the file."""
    import h5py

    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:depth]), getlink=True)
        if link is None:
            raise faulty(path, f"lacks the data set {name}")
        if not isinstance(link, h5py.HardLink):
            raise faulty(path, f"has a link in place of {name}; expected the data themselves")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise faulty(path, f"has a group in place of the data set {name}")
    if found.shape is None:
        raise faulty(path, f"holds nothing in {name}")
    if found.chunks is not None or found.is_virtual or found.external:
        raise faulty(path, f"stores {name} in chunks or outside the file, as convert-features never does")
    if found.size * found.dtype.itemsize > path.stat().st_size:
        raise faulty(path, f"claims {found.shape} entries in {name}, more than fit in the file")
    return found


def array(file: h5py.File, name: str, path: Path, dtype: str, dims: int) -> npt.NDArray[Any]:
    """Read a small array of a type and a number of axes."""
    found = dataset(file, name, path)
    if found.dtype != np.dtype(dtype) or found.ndim != dims:
        raise faulty(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected {dtype}, {dims} axes")
    return np.asarray(found[...])


def extent(file: h5py.File, name: str, path: Path, types: tuple[str, ...]) -> Extent:
    """Locate a large array, and make sure that its rows are where the library reads them."""
    found = dataset(file, name, path)
    if found.ndim != 2 or found.size == 0 or found.dtype not in [np.dtype(t) for t in types]:
        raise faulty(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected two axes of {types}")
    offset = found.id.get_offset()
    if offset is None:
        raise faulty(path, f"holds no data in {name}: it was never finished")
    place = Extent(int(offset), (int(found.shape[0]), int(found.shape[1])), str(found.dtype))
    if place.end > path.stat().st_size:
        raise faulty(path, f"is cut short: {name} should end at byte {place.end:,}")
    stored = ArrayInFile(path, place, identity(path))
    for row in (0, place.shape[0] - 1):
        if stored.rows(row, row + 1).tobytes() != found[row].tobytes():
            raise faulty(path, f"stores {name} in a way that this program does not know")
    return place


def numbers_of_regions(file: h5py.File, name: str, path: Path, regions: int, dtype: str) -> Extent | None:
    """Locate an array with a number for each region; None where there is none."""
    if name not in file:
        return None
    found = dataset(file, name, path)
    if found.shape != (regions,) or found.dtype != np.dtype(dtype):
        raise faulty(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected {regions} of {dtype}")
    offset = found.id.get_offset()
    place = Extent(int(offset or 0), (regions, 1), dtype)
    if offset is None or place.end > path.stat().st_size:
        raise faulty(path, f"is cut short: {name} should end at byte {place.end:,}")
    return place


def one_text(file: h5py.File, name: str, path: Path) -> str:
    """Read a data set that holds one text."""
    found = dataset(file, name, path)
    if found.dtype.kind != "S" or found.shape != (1,):
        raise faulty(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected one text")
    return bytes(found[0]).decode("utf-8", "replace")


def expect_texts(file: h5py.File, name: str, path: Path, count: int) -> bool:
    """Make sure that a data set of so many texts is there; True."""
    found = dataset(file, name, path)
    if found.dtype.kind != "S" or found.shape != (count,):
        raise faulty(path, f"has {name} of type {found.dtype}, shape {found.shape}; expected {count} texts")
    return True


def text_attribute(file: h5py.File, name: str) -> str:
    """Text of fixed length; empty when there is none. Variable length is not ours, and not safe to read."""
    if name not in file.attrs:
        return ""
    stored = file.attrs.get_id(name)
    if stored.shape != () or stored.dtype.kind != "S":
        return ""
    return bytes(file.attrs[name]).decode("utf-8", "replace")


def number_attribute(file: h5py.File, name: str) -> int | None:
    """A whole number; None when there is none."""
    if name not in file.attrs:
        return None
    stored = file.attrs.get_id(name)
    return int(file.attrs[name]) if stored.shape == () and stored.dtype.kind in "iu" else None
