"""Read rows of one large array directly from a file, by position.

Against a memory map this costs the same, keeps resident memory small, fetches a picture from a cold disk in one
request instead of page by page, and turns a file that was cut short while in use into an error, not a bus error.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.errors import RunError

Identity = tuple[int, int, int]


@dataclass(frozen=True)
class Extent:
    """Where a contiguous array lies inside a file: byte offset, shape and numpy type."""

    offset: int
    shape: tuple[int, int]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.shape[1] * np.dtype(self.dtype).itemsize

    @property
    def end(self) -> int:
        """First byte after the array."""
        return self.offset + self.shape[0] * self.row_bytes


def identity(path: Path) -> Identity:
    """Size, time of change and inode of a file, to notice that another one took its place."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


def expect_unchanged(path: Path, before: Identity) -> None:
    """Make sure that a file is still the one that was checked.

    Raises:
        RunError: it was replaced, changed or removed.
    """
    try:
        now = identity(path)
    except OSError as fault:
        raise RunError(f"{path} can no longer be read: {fault.strerror}") from fault
    if now != before:
        raise RunError(f"{path} was replaced while in use", "start again with the new file")


class ArrayInFile:
    """A contiguous (rows, width) array inside a file. Opened on first use; may be pickled and forked.

    Args:
        path: the file.
        extent: where the array lies.
        before: identity of the file when it was checked.
    """

    def __init__(self, path: Path, extent: Extent, before: Identity) -> None:
        self.path, self.extent, self.before = path, extent, before
        self._descriptor: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Drop the open file: another process opens its own."""
        return {**self.__dict__, "_descriptor": None}

    def rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """(stop - start, width) rows in the stored type."""
        target = np.empty((stop - start, self.extent.shape[1]), dtype=self.extent.dtype)
        self.read_into(start, target)
        return target

    def read_into(self, start: int, target: npt.NDArray[Any]) -> None:
        """Fill an array with the rows from `start` on.

        Args:
            start: first row.
            target: C-contiguous array of the stored type; its size is a multiple of the width.

        Raises:
            RunError: the file was replaced or cut short, or the disk fails.
        """
        wanted = target.reshape(-1).view(np.uint8).data
        position, done = self.extent.offset + start * self.extent.row_bytes, 0
        while done < len(wanted):
            try:
                count = os.preadv(self._open(), [wanted[done:]], position + done)
            except OSError as fault:
                raise RunError(f"reading {self.path} failed: {fault.strerror}") from fault
            if count == 0:
                raise RunError(f"{self.path} was cut short while in use", "restore the file and start again")
            done += count

    def _open(self) -> int:
        if self._descriptor is None:
            expect_unchanged(self.path, self.before)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)  # two threads may both; both are closed
            weakref.finalize(self, os.close, descriptor)
            self._descriptor = descriptor
        return self._descriptor
