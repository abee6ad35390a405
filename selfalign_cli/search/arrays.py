"""Named arrays in one file, written once and mapped when they are read: opening costs the same for any size."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.errors import DataError

Array = npt.NDArray[Any]
Table = dict[str, dict[str, Any]]
"""Name → dtype, shape and offset in bytes."""

ALIGNMENT = 64
DTYPES = ("<f2", "<f4", "<i8", "<u8", "|u1")


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> Table:
    """Write arrays one after the other, and wait until they are on disk.

    Args:
        path: a new file.
        arrays: of the types in `DTYPES`.

    Returns:
        Where each of them lies.
    """
    table: Table = {}
    with open(path, "xb") as file:
        for name, array in arrays.items():
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            packed = np.ascontiguousarray(array)
            packed = packed.astype(packed.dtype.newbyteorder("<"), copy=False)
            assert packed.dtype.str in DTYPES, (name, packed.dtype)
            table[name] = {"dtype": packed.dtype.str, "shape": list(packed.shape), "offset": file.tell()}
            file.write(packed.reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
    return table


class ArrayFile:
    """The arrays of a file that `write_arrays` wrote. They stay readable when the file is removed.

    Args:
        path: the file.
        table: where the arrays lie.

    Raises:
        DataError: the file is missing or shorter than the table says, or the table is faulty.
    """

    def __init__(self, path: Path, table: Table) -> None:
        self.path = path
        self._table = table
        self._arrays: dict[str, Array] = {}
        try:
            size = path.stat().st_size
            # Copy on write: torch takes writable memory only, and nobody writes to it.
            self._bytes: Array = np.memmap(path, np.uint8, mode="c") if size else np.empty(0, np.uint8)
        except OSError as fault:
            raise DataError(
                f"{path} cannot be read: {fault.strerror}", "copy the index again, or make it again"
            ) from fault
        for name, entry in table.items():
            if not _well_formed(entry):
                raise DataError(f"{path}: the table has a faulty entry {name!r}", "make the index again")
            if entry["offset"] + _count(entry["shape"]) * np.dtype(entry["dtype"]).itemsize > size:
                raise DataError(
                    f"{path} is {size:,} bytes long, which is too short for {name}",
                    "it was cut short: copy the index again, or make it again",
                )

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def __getitem__(self, name: str) -> Array:
        """An array, mapped.

        Raises:
            DataError: there is none of that name.
        """
        if name in self._arrays:
            return self._arrays[name]
        entry = self._table.get(name)
        if entry is None:
            raise DataError(f"{self.path} has no array {name}", "make the index again")
        dtype, shape, start = np.dtype(entry["dtype"]), tuple(entry["shape"]), entry["offset"]
        stop = start + _count(shape) * dtype.itemsize
        self._arrays[name] = np.asarray(self._bytes[start:stop]).view(dtype).reshape(shape)
        return self._arrays[name]


def _well_formed(entry: dict[str, Any]) -> bool:
    dtype, shape, offset = entry.get("dtype"), entry.get("shape"), entry.get("offset")
    if dtype not in DTYPES or not isinstance(offset, int) or offset < 0 or not isinstance(shape, list):
        return False
    return all(isinstance(side, int) and side >= 0 for side in shape)


def _count(shape: Sequence[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def packed_texts(name: str, texts: Sequence[str]) -> dict[str, Array]:
    """Texts as two arrays: their UTF-8 bytes, and where each ends."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64) if encoded else np.empty(0, np.int64)
    return {f"{name}.text": np.frombuffer(b"".join(encoded), np.uint8), f"{name}.ends": ends}


class Texts:
    """Texts as `packed_texts` packs them, decoded one at a time."""

    def __init__(self, arrays: ArrayFile, name: str) -> None:
        self._text, self._ends = arrays[f"{name}.text"], arrays[f"{name}.ends"]

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:
        start = int(self._ends[row - 1]) if row else 0
        return self._text[start : int(self._ends[row])].tobytes().decode("utf-8", "replace")

    def all(self) -> list[str]:
        """Every text."""
        return [self[row] for row in range(len(self))]
