"""Arrays of numpy in files of their own (`.npy`) and in archives (`.npz`), read without running or trusting anything.

Headers are matched against their one known form, not evaluated; sizes are checked against the file before memory is
allocated; and objects go through the restricted unpickler.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from selfalign_cli.data.features.array_in_file import ArrayInFile, Extent, expect_unchanged, identity
from selfalign_cli.data.formats.pictures import Array
from selfalign_cli.data.restricted_pickle import ARRAYS, load_restricted
from selfalign_cli.errors import DataError, blaming, reason_of

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


@dataclass(frozen=True)
class ArrayHeader:
    """Type, order and shape of a stored array, and where its numbers begin (byte)."""

    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(path: Path) -> ArrayHeader:
    """Read type and shape of the array in a `.npy` file.

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
        return _numbers(stream, _sized_header(stream, path), str(path))


def read_npy_object(path: Path) -> Any:
    """Read a `.npy` file of Python objects (plain ones: dicts, lists, texts, numbers, arrays of numbers).

    Returns:
        The object itself where the file holds a single one, else an array or a list of them.

    Raises:
        DataError: it is missing or damaged, or refers to anything that would have to run.
    """
    with _opened(path) as stream:
        header = _header(stream, str(path))
        if header.dtype.kind != "O":
            raise DataError(f"{path} holds {header.dtype}; expected objects")
        found = load_restricted(stream.read(), ARRAYS, what=str(path), encoding="latin-1")
    return found[()] if isinstance(found, np.ndarray) and found.ndim == 0 else found


class NpyRows:
    """The rows of a large array of numbers in a `.npy` file, read one at a time.

    Args:
        path: the file.
        axes: number of axes it must have, at least 2, all of them at least 1 long.
        kinds: numpy's letters for the kinds of numbers allowed: f floating point, i and u whole.

    Attributes:
        shape: of the array.
        dtype: stored type.
        stored: its rows by position; None for an array in Fortran order, whose rows are scattered over the file.

    Raises:
        DataError: it is missing, cut short, not an array file, or of another type or shape.
    """

    def __init__(self, path: Path, axes: int, kinds: str = "f") -> None:
        header = read_npy_header(path)
        if len(header.shape) != axes or not header.nbytes or header.dtype.kind not in kinds:
            numbers = "floating-point numbers" if kinds == "f" else "numbers"
            raise DataError(f"{path} holds {header.dtype} {header.shape}; expected {axes} axes of {numbers}")
        self.shape, self.dtype = header.shape, header.dtype
        self._path, self._identity = path, identity(path)
        self.stored: ArrayInFile | None = None
        if header.fortran:
            self._map = np.memmap(path, header.dtype, "r", header.offset, header.shape, order="F")
        else:
            extent = Extent(header.offset, (self.shape[0], math.prod(self.shape[1:])), header.dtype.str)
            self.stored = ArrayInFile(path, extent, self._identity)

    def __len__(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    def row(self, number: int) -> Array:
        """One row, in the stored type.

        Raises:
            RunError: the file was replaced or cut short since it was opened.
        """
        if self.stored is None:
            expect_unchanged(self._path, self._identity)  # a map of a file cut short ends the process
            return np.ascontiguousarray(self._map[number])
        return self.stored.rows(number, number + 1).reshape(self.shape[1:])


@dataclass(frozen=True)
class Archive:
    """An open `.npz` file. Every array that is read is checked against its checksum."""

    path: Path
    members: dict[str, zipfile.ZipInfo]
    _archive: zipfile.ZipFile
    _bytes: int

    def header(self, name: str) -> ArrayHeader:
        """Type and shape of one array; only the header is read.

        Raises:
            DataError: it is damaged, or larger than the file can hold.
        """
        with self._member(name) as (_, header):
            return header

    def array(self, name: str) -> Array:
        """Read one array of numbers.

        Raises:
            DataError: it is damaged, cut short, or does not hold numbers.
        """
        with self._member(name) as (stream, header):
            return _numbers(stream, header, f"{self.path}, array {name}")

    @contextmanager
    def _member(self, name: str) -> Iterator[tuple[IO[bytes], ArrayHeader]]:
        member = self.members[name]
        with _blaming_archive(self.path), self._archive.open(member) as stream:
            header = _header(stream, f"{self.path}, array {name}")
            stored = min(member.file_size, _LARGEST_EXPANSION * min(member.compress_size, self._bytes))
            if header.dtype.kind != "O" and header.offset + header.nbytes > stored:
                raise DataError(
                    f"{self.path}, array {name} says {header.shape}, more than the file holds", FETCH_AGAIN
                )
            yield stream, header


@contextmanager
def opened_npz(path: Path) -> Iterator[Archive]:
    """Open a `.npz` file.

    Raises:
        DataError: it is missing or no such archive.
    """
    with _opened(path) as stream, _blaming_archive(path), zipfile.ZipFile(stream) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        for member in members.values():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
                raise DataError(f"{path} holds {member.filename} in a way that numpy never writes", FETCH_AGAIN)
        yield Archive(path, members, archive, path.stat().st_size)


def _blaming_archive(path: Path) -> AbstractContextManager[None]:
    return blaming(f"{path} is not a whole .npz archive", FETCH_AGAIN)


def _opened(path: Path) -> IO[bytes]:
    try:
        return open(path, "rb")
    except FileNotFoundError as fault:
        raise DataError(f"there is no file {path}") from fault
    except (OSError, ValueError) as fault:
        raise DataError(f"cannot read {path}: {reason_of(fault)}") from fault


def _sized_header(stream: IO[bytes], path: Path) -> ArrayHeader:
    header = _header(stream, str(path))
    left = path.stat().st_size - header.offset
    if header.dtype.kind != "O" and header.nbytes != left:
        raise DataError(
            f"{path} has {left:,} bytes of numbers; its header says {header.shape} {header.dtype}, "
            f"{header.nbytes:,} bytes",
            FETCH_AGAIN,
        )
    return header


def _header(stream: IO[bytes], where: str) -> ArrayHeader:
    start = stream.read(8)
    length_bytes = {1: 2, 2: 4, 3: 4}.get(start[6]) if len(start) == 8 and start.startswith(MAGIC) else None
    if length_bytes is None:
        raise DataError(f"{where} is not a numpy array (it starts with {start!r})", FETCH_AGAIN)
    length = int.from_bytes(stream.read(length_bytes), "little")
    text = stream.read(min(length, _LONGEST_HEADER + 1))
    found = _HEADER.fullmatch(text) if len(text) <= _LONGEST_HEADER else None
    if found is None:
        raise DataError(f"{where} has a header that this program does not know", FETCH_AGAIN)
    shape = tuple(int(part) for part in re.findall(rb"[0-9]+", found[3]))
    with blaming(f"{where} has numbers of the unknown type {found[1]!r}", FETCH_AGAIN):
        dtype = np.dtype(found[1].decode("ascii"))
    return ArrayHeader(dtype, found[2] == b"True", shape, 8 + length_bytes + len(text))


def _numbers(stream: IO[bytes], header: ArrayHeader, where: str) -> Array:
    """Read the numbers after a header."""
    if header.dtype.kind not in "fiu":
        raise DataError(f"{where} holds {header.dtype}; expected numbers")
    raw = stream.read(header.nbytes + 1)  # one more, to reach the checksum of an archive
    if len(raw) != header.nbytes:
        raise DataError(f"{where} does not hold the {header.nbytes:,} bytes that its header says", FETCH_AGAIN)
    return np.frombuffer(raw, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
