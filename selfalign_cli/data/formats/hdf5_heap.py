"""Lists of variable length in an HDF5 file, read past the library.

They lie in HDF5's global heap, which has no checksum, and the library runs in circles for ever when one bit of it is
wrong. Its structure is simple: a data set of references (count, address of a collection, number of an object), and
collections of numbered objects. Source: HDF5 File Format Specification, version 3, III.E and IV.A.2.d.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import h5py
import numpy as np

from selfalign_cli.data.formats.pictures import Array
from selfalign_cli.errors import DataError

_REFERENCE = np.dtype([("count", "<u4"), ("address", "<u8"), ("object", "<u4")])
_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HH4xQ")


class VariableLength:
    """One list of numbers for each row of a data set.

    Args:
        found: the data set, of one axis.
        base: type of the numbers.

    Raises:
        DataError: it is stored in a way that is not supported.
    """

    def __init__(self, found: h5py.Dataset, base: np.dtype[Any]) -> None:
        self.path = str(found.file.filename)
        self.name = str(found.name).strip("/")
        self.base = base
        if found.file.id.get_create_plist().get_sizes() != (8, 8) or found.file.userblock_size:
            raise DataError(f"{self.path} is an HDF5 file of an unusual kind", "copy it with: h5repack OLD.h5 NEW.h5")
        self._references = _references(found, self)
        self._place = -1
        self._objects: dict[int, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._references)

    def length(self, row: int) -> int:
        """How many numbers the list of a row has, as the data set says."""
        return int(self._references[row]["count"])

    def __getitem__(self, row: int) -> Array:
        """The list of one row.

        Raises:
            DataError: the heap is damaged.
        """
        count, address, number = (int(part) for part in self._references[row])
        if not count:
            return np.empty(0, self.base)
        with open(self.path, "rb") as stream:
            if address != self._place:
                self._objects = self._collection(stream, address)
                self._place = address
            start, size = self._objects.get(number, (0, -1))
            if size != count * self.base.itemsize:
                raise self.fault(f"row {row} refers to {count} numbers that are not there")
            stream.seek(start)
            raw = stream.read(size)
        if len(raw) != size:
            raise self.fault(f"row {row} is cut short")
        return np.frombuffer(raw, self.base)

    def fault(self, found: str) -> DataError:
        """A DataError that names file and data set."""
        return DataError(f"{self.path} is damaged in {self.name}: {found}", "fetch the file again")

    def _collection(self, stream: Any, address: int) -> dict[int, tuple[int, int]]:
        """First byte and size of each object of a collection."""
        stream.seek(0, 2)
        end_of_file = stream.tell()
        if address + _COLLECTION.size > end_of_file:
            raise self.fault(f"it refers to byte {address:,} of {end_of_file:,}")
        stream.seek(address)
        mark, version, size = _COLLECTION.unpack(stream.read(_COLLECTION.size))
        if mark != b"GCOL" or version != 1 or address + size > end_of_file:
            raise self.fault(f"there is no list at byte {address:,}")
        objects: dict[int, tuple[int, int]] = {}
        place, end = address + _COLLECTION.size, address + size
        while place + _OBJECT.size <= end:
            stream.seek(place)
            number, _, length = _OBJECT.unpack(stream.read(_OBJECT.size))
            place += _OBJECT.size
            if number == 0:
                break
            if place + length > end or number in objects:
                raise self.fault(f"the list at byte {place:,} does not fit")
            objects[number] = (place, length)
            place += -(-length // 8) * 8
        return objects


def _references(found: h5py.Dataset, rows: VariableLength) -> Array:
    """The references of all rows, as they stand in the file."""
    total = math.prod(found.shape)
    if found.chunks is None:
        offset = found.id.get_offset()
        with open(rows.path, "rb") as stream:
            stream.seek(offset or 0)
            raw = stream.read(total * _REFERENCE.itemsize)
    else:
        if found.id.get_create_plist().get_nfilters():
            raise DataError(f"{rows.path} compresses {rows.name}", "undo it with: h5repack -f NONE OLD.h5 NEW.h5")
        starts = range(0, total, found.chunks[0])
        raw = b"".join(found.id.read_direct_chunk((start,))[1] for start in starts)
    if len(raw) < total * _REFERENCE.itemsize:
        raise rows.fault("it is cut short")
    return np.frombuffer(raw, _REFERENCE, count=total)
