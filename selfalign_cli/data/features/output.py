"""Write an HDF5 file that appears whole or not at all, also when the disk becomes full."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import numpy.typing as npt

from selfalign_cli.data.atomic import replacing
from selfalign_cli.errors import DataError

# HDF5 1.8 (2008) on: readable everywhere, and the first whose own records carry checksums.
LIBVER = ("v108", "v108")
# Fixed-length text takes the length of its longest entry in every row; real captions come nowhere near this.
TEXTS_AT_ONCE = 65536
LARGEST_TEXTS = 4 * 1024**3
# Rows are sent to the disk in pieces of this size as they come, and beyond the first so many bytes of a data set they
# do not stay in the system's file cache: 31 GB there would push everything else out, and then wait for the disk.
PIECE = 64 * 1024**2
CACHED = 1024**3


class GuardedStream:
    """The file below the HDF5 library. When a write fails it keeps the fault and goes on as if all were well.

    The library cannot close a file whose last writes fail: it ends the process with a segmentation fault. So the fault
    is kept from it, and raised by `raise_fault`.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self.raw = raw
        self.fault: OSError | None = None

    def raise_fault(self) -> None:
        """Raise the fault of an earlier write, if there was one.

        Raises:
            OSError: as the system gave it.
        """
        if self.fault is not None:
            raise self.fault

    def write(self, data: memoryview) -> int:
        """Write all of it, or keep the fault."""
        done = 0
        try:
            while self.fault is None and done < len(data):
                done += self.raw.write(data[done:])
        except OSError as fault:
            self.fault = fault
        return len(data)

    def write_at(self, data: memoryview, position: int) -> None:
        """Write at another position than the library's, which stays; or keep the fault."""
        done = 0
        try:
            while self.fault is None and done < len(data):
                done += os.pwrite(self.raw.fileno(), data[done:], position + done)
        except OSError as fault:
            self.fault = fault

    def send(self, position: int, size: int) -> None:
        """Have the disk begin to write a part of the file; what it has written already leaves the file cache."""
        if self.fault is None and hasattr(os, "posix_fadvise"):
            with suppress(OSError):  # it is advice
                os.posix_fadvise(self.raw.fileno(), position, size, os.POSIX_FADV_DONTNEED)

    def truncate(self, size: int) -> int:
        """Set the length, or keep the fault."""
        try:
            if self.fault is None:
                self.raw.truncate(size)
        except OSError as fault:
            self.fault = fault
        return size

    def readinto(self, target: memoryview) -> int:
        """Read back what was written; zeros after the end."""
        count = self.raw.readinto(target) or 0  # type: ignore[attr-defined]
        target[count:] = bytes(len(target) - count)
        return len(target)

    def read(self, size: int = -1) -> bytes:
        """Read back what was written."""
        return self.raw.read(size)

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        return self.raw.seek(position, whence)

    def tell(self) -> int:
        """The position."""
        return self.raw.tell()

    def flush(self) -> None:
        """Do nothing: writes are not buffered."""


class AppendedRows:
    """A data set of rows in one piece, filled from the first to the last, bypassing the HDF5 library.

    The library only allocates the rows: letting it write them takes three times as long.

    Args:
        file: the file from `hdf5_output`.
        stream: the stream below it.
        name: of the data set.
        shape: rows, and width where a row is more than a number.
        dtype: type of the numbers.
    """

    def __init__(self, file: h5py.File, stream: GuardedStream, name: str, shape: tuple[int, ...], dtype: str) -> None:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.CONTIGUOUS)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        rows = file.create_dataset(name, shape, dtype, dcpl=plan)
        self.shape, self.dtype, self._stream = shape, rows.dtype, stream
        self._start = self._end = self._sent = int(rows.id.get_offset())

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Write the next rows, C-contiguous and of the data set's type; the caller counts them."""
        self._stream.write_at(rows.reshape(-1).view(np.uint8).data, self._end)
        self._end += rows.nbytes
        if self._end - self._sent >= PIECE:
            if self._sent - self._start > CACHED:
                self._stream.send(self._sent - PIECE, PIECE)  # for the second time: by now it is written
            self._stream.send(self._sent, self._end - self._sent)
            self._sent = self._end


def write_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    """Write texts as a data set of UTF-8 of fixed length.

    Texts of variable length would lie in HDF5's global heap, which has no checksum: one flipped bit there can make the
    library crash or hang when the file is read.

    Args:
        group: file or group that gets the data set.
        name: name of the data set.
        texts: without NUL characters.

    Raises:
        DataError: one text is so long that the padding of the others would fill the disk.
    """
    encoded = [text.encode("utf-8") for text in texts]
    length = max((1, *map(len, encoded)))
    if length * len(encoded) > LARGEST_TEXTS:
        longest = max(encoded, key=len)[:60].decode("utf-8", "ignore")
        raise DataError(f"one entry of {name} has {length:,} bytes: {longest}…", "cut it short, or leave it out")
    dtype = h5py.string_dtype("utf-8", length)
    rows = group.create_dataset(name, len(encoded), dtype)
    for start in range(0, len(encoded), TEXTS_AT_ONCE):
        block = encoded[start : start + TEXTS_AT_ONCE]
        rows[start : start + len(block)] = np.array(block, dtype=dtype)


def write_text_attribute(group: h5py.Group, name: str, text: str) -> None:
    """Write an attribute of UTF-8 of fixed length; HDF5 holds no more than 64 KiB of it, so long text is cut."""
    encoded = text.encode("utf-8", "backslashreplace")[:4096].decode("utf-8", "ignore").encode("utf-8")
    group.attrs.create(name, encoded, dtype=h5py.string_dtype("utf-8", max(1, len(encoded))))


@contextmanager
def hdf5_output(path: Path) -> Iterator[tuple[h5py.File, GuardedStream]]:
    """Make an HDF5 file; it appears under its name when the block succeeds.

    Args:
        path: the file to make or to replace.

    Yields:
        The file and its stream: call `raise_fault` now and then to stop early on a full disk.

    Raises:
        DataError: the folder cannot be written to.
        RunError: the disk is full.
    """
    with ExitStack() as last, replacing(path) as temporary:
        raw = last.enter_context(open(temporary, "w+b", buffering=0))  # stays open, and locked, until it is renamed
        _lock(raw)
        remove_abandoned(path, but=temporary)
        stream = GuardedStream(raw)
        with h5py.File(stream, "w", libver=LIBVER) as file:
            yield file, stream
        stream.raise_fault()
        os.fsync(raw.fileno())  # a network disk may report only now, and only to this open file, that it is full


def remove_abandoned(path: Path, *, but: Path | None = None) -> None:
    """Remove what a process that was killed left of the same file; a living process holds a lock on its own.

    Args:
        path: the file that was being written.
        but: the temporary file to keep.
    """
    for other in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        with suppress(OSError), open(other, "rb") as raw:
            if other != but and _lock(raw):
                other.unlink()


def _lock(raw: BinaryIO) -> bool:
    """Take the lock of an open file; False if another process has it, or the disk knows no locks."""
    try:
        fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
