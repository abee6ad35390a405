"""Write an HDF5 file that appears whole or not at all, and survive a full disk while doing so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from selfalign_cli.data.atomic import replacing
from selfalign_cli.errors import DataError

# HDF5 1.8 (2008) on: readable everywhere, and the first whose own records carry checksums.
LIBVER = ("v108", "v108")
# Fixed-length text takes the room of its longest entry in every row; nobody's captions come near this.
TEXTS_AT_ONCE = 65536
LARGEST_TEXTS = 4 * 1024**3


class GuardedStream:
    """The file below the HDF5 library. When a write fails it keeps the fault and goes on as if all were well.

    The library cannot close a file whose last writes fail: it ends the process with a segmentation fault. So it never
    hears of the fault; `raise_fault` tells it to the program.
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

    def truncate(self, size: int) -> int:
        """Set the length, or keep the fault."""
        try:
            if self.fault is None:
                self.raw.truncate(size)
        except OSError as fault:
            self.fault = fault
        return size

    def readinto(self, target: memoryview) -> int:
        """Read back what was written; zeros behind the end."""
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
        """Nothing is held back."""


def write_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    """Write texts as a data set of UTF-8 of fixed length.

    Texts of variable length would lie in HDF5's global heap, which has no checksum: one flipped bit there can make the
    library crash or hang when the file is read.

    Args:
        group: file or group that gets the data set.
        name: name of the data set.
        texts: at least one text, without NUL characters.

    Raises:
        DataError: one text is so long that the padding of the others would fill the disk.
    """
    encoded = [text.encode("utf-8") for text in texts]
    length = max(1, *(len(text) for text in encoded))
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
    """Make an HDF5 file; it takes its place when the block ends well.

    Args:
        path: the file to make or to replace.

    Yields:
        The file, and its stream: call `raise_fault` now and then to stop early on a full disk.

    Raises:
        DataError: the place cannot be written to.
        RunError: the disk is full.
    """
    with replacing(path) as temporary, open(temporary, "w+b", buffering=0) as raw:
        stream = GuardedStream(raw)
        with h5py.File(stream, "w", libver=LIBVER) as file:
            yield file, stream
        stream.raise_fault()
