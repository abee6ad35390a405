"""Write an HDF5 file that appears whole or not at all, and survive a full disk while doing so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py

from selfalign_cli.data.atomic import replacing


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
        with h5py.File(stream, "w") as file:
            yield file, stream
        stream.raise_fault()
