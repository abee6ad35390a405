"""Arrays of numpy in files of their own (`.npy`) and in archives (`.npz`), read without running or trusting anything.

Headers are read by their one known form, not evaluated; sizes are held against the file before memory is taken; and
objects go through the restricted unpickler.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from selfalign_cli.data.formats.pictures import Array, reason_of
from selfalign_cli.data.restricted_pickle import ARRAYS, load_restricted
from selfalign_cli.errors import DataError

MAGIC = b"\x93NUMPY"
FETCH_AGAIN = "the file looks cut short or damaged; fetch it again"
# Python 2 wrote long numbers as 36L.
_HEADER = re.compile(
    rb"\{'descr': '([<>=|]?[a-zA-Z][0-9]*)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,18}L?, ?)*(?:[0-9]{1,18}L?)?)\),? *\} *\n?"
)
_LONGEST_HEADER = 10_000
# No deflated byte stands for more than this many.
_LARGEST_EXPANSION = 1032
_ARCHIVE_FAULTS = (
    *(OSError, ValueError, EOFError, RuntimeError, NotImplementedError, IndexError, OverflowError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


@dataclass(frozen=True)
class ArrayHeader:
    """Type, order and shape of a stored array."""

    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(path: Path) -> ArrayHeader:
    """Read what a `.npy` file says of itself.

    Raises:
        DataError: it is missing, no array, or of another size than it says.
    """
    with _opened(path) as stream:
        return _sized_header(stream, path)


def read_npy(path: Path) -> Array:
    """Read an array of numbers.

    Raises:
        DataError: it is missing, no array, cut short, or does not hold numbers.
    """
    with _opened(path) as stream:
        header = _sized_header(stream, path)
        if header.dtype.kind not in "fiu":
            raise DataError(f"{path} holds {header.dtype}; expected numbers")
        return _array(header, stream.read(header.nbytes), str(path))


def read_npy_object(path: Path) -> Any:
    """Read a `.npy` file of Python objects (plain ones: dicts, lists, texts, numbers, arrays of numbers).

    Returns:
        The object itself where the file holds a single one, else an array or a list of them.

    Raises:
        DataError: it is missing or damaged, or asks for anything that would have to run.
    """
    with _opened(path) as stream:
        header = _header(stream, str(path))
        if header.dtype.kind != "O":
            raise DataError(f"{path} holds {header.dtype}; expected objects")
        found = load_restricted(stream.read(), ARRAYS, what=str(path), encoding="latin-1")
    return found[()] if isinstance(found, np.ndarray) and found.ndim == 0 else found


@dataclass(frozen=True)
class Archive:
    """An open `.npz` file. Its checksums are held against every array that is read."""

    path: Path
    members: dict[str, zipfile.ZipInfo]
    _archive: zipfile.ZipFile
    _bytes: int

    def header(self, name: str) -> ArrayHeader:
        """Type and shape of one array; nothing behind its header is read.

        Raises:
            DataError: it is damaged, or larger than the file can hold.
        """
        place = f"{self.path}, array {name}"
        with _tells(self.path), self._archive.open(self.members[name]) as stream:
            return self._checked(_header(stream, place), stream, name)

    def array(self, name: str) -> Array:
        """Read one array of numbers.

        Raises:
            DataError: it is damaged, cut short, or does not hold numbers.
        """
        place = f"{self.path}, array {name}"
        with _tells(self.path), self._archive.open(self.members[name]) as stream:
            header = self._checked(_header(stream, place), stream, name)
            if header.dtype.kind not in "fiu":
                raise DataError(f"{place} holds {header.dtype}; expected numbers")
            return _array(header, stream.read(header.nbytes + 1), place)  # one more, to reach the checksum

    def _checked(self, header: ArrayHeader, stream: IO[bytes], name: str) -> ArrayHeader:
        member = self.members[name]
        stored = min(member.file_size, _LARGEST_EXPANSION * min(member.compress_size, self._bytes))
        if header.dtype.kind != "O" and stream.tell() + header.nbytes > stored:
            raise DataError(f"{self.path}, array {name} says {header.shape}, more than the file holds", FETCH_AGAIN)
        return header


@contextmanager
def opened_npz(path: Path) -> Iterator[Archive]:
    """Open a `.npz` file.

    Raises:
        DataError: it is missing or no such archive.
    """
    with _tells(path), zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        for member in members.values():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
                raise DataError(f"{path} holds {member.filename} in a way that numpy never writes", FETCH_AGAIN)
        yield Archive(path, members, archive, path.stat().st_size)


@contextmanager
def _tells(path: Path) -> Iterator[None]:
    """Turn what the archive reader says into a DataError."""
    try:
        yield
    except FileNotFoundError as fault:
        raise DataError(f"there is no file {path}") from fault
    except _ARCHIVE_FAULTS as fault:
        raise DataError(f"{path} is not a whole .npz archive: {reason_of(fault)}", FETCH_AGAIN) from fault


def _opened(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except FileNotFoundError as fault:
        raise DataError(f"there is no file {path}") from fault
    except (OSError, ValueError) as fault:
        raise DataError(f"cannot read {path}: {reason_of(fault)}") from fault


def _sized_header(stream: IO[bytes], path: Path) -> ArrayHeader:
    header = _header(stream, str(path))
    left = path.stat().st_size - stream.tell()
    if header.dtype.kind != "O" and header.nbytes != left:
        raise DataError(
            f"{path} has {left:,} bytes of numbers; its header says {header.shape} {header.dtype}, "
            f"{header.nbytes:,} bytes",
            FETCH_AGAIN,
        )
    return header


def _header(stream: IO[bytes], place: str) -> ArrayHeader:
    start = stream.read(8)
    length_bytes = {1: 2, 2: 4, 3: 4}.get(start[6]) if len(start) == 8 and start.startswith(MAGIC) else None
    if length_bytes is None:
        raise DataError(f"{place} is not a numpy array (it starts with {start!r})", FETCH_AGAIN)
    length = int.from_bytes(stream.read(length_bytes), "little")
    found = _HEADER.fullmatch(stream.read(length)) if length <= _LONGEST_HEADER else None
    if found is None:
        raise DataError(f"{place} has a header that this program does not know", FETCH_AGAIN)
    shape = tuple(int(part) for part in re.findall(rb"[0-9]+", found[3]))
    try:
        dtype = np.dtype(found[1].decode("ascii"))
    except (TypeError, ValueError) as fault:
        raise DataError(f"{place} has numbers of the unknown type {found[1]!r}", FETCH_AGAIN) from fault
    return ArrayHeader(dtype, found[2] == b"True", shape)


def _array(header: ArrayHeader, raw: bytes, place: str) -> Array:
    if len(raw) != header.nbytes:
        raise DataError(f"{place} does not hold the {header.nbytes:,} bytes that its header says", FETCH_AGAIN)
    return np.frombuffer(raw, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
