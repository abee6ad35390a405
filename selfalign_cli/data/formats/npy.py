"""Rows of a large `.npy` file, read one at a time: memory stays small, and a file cut short is an error."""

from __future__ import annotations

import warnings
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.array_in_file import ArrayInFile, Extent, expect_unchanged, identity
from selfalign_cli.errors import DataError

# What numpy raises for damaged files: it reads the header as a Python expression.
_HEADER_FAULTS = (OSError, ValueError, TypeError, SyntaxError, TokenError, EOFError, MemoryError, ArithmeticError)


class NpyRows:
    """The rows of a numeric array in a `.npy` file.

    Args:
        path: the file.
        mapped: the array as numpy maps it; only its facts are used, unless it lies in Fortran order.
    """

    def __init__(self, path: Path, mapped: np.memmap[Any, Any]) -> None:
        self.path = path
        self.shape: tuple[int, ...] = mapped.shape
        self.dtype: np.dtype[Any] = mapped.dtype
        self._columns = mapped if not mapped.flags.c_contiguous else None
        extent = Extent(int(mapped.offset), (len(mapped), mapped[0].size), mapped.dtype.str)
        self._identity = identity(path)
        self._rows = ArrayInFile(path, extent, self._identity)

    def __len__(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    def row(self, number: int) -> npt.NDArray[Any]:
        """One row, in the stored type.

        Raises:
            RunError: the file was replaced or cut short since it was opened.
        """
        if self._columns is not None:
            expect_unchanged(self.path, self._identity)  # a map of a file cut short ends the process
            return np.ascontiguousarray(self._columns[number])
        return self._rows.rows(number, number + 1).reshape(self.shape[1:])


def open_npy(path: Path, axes: int, kinds: str = "f") -> NpyRows:
    """Open a `.npy` file of numbers.

    Args:
        path: the file.
        axes: number of axes it must have, at least 2, all of them at least 1 long.
        kinds: numpy's letters for the kinds of numbers allowed: f floating point, i and u whole.

    Raises:
        DataError: it is missing, cut short, not an array file, or of another type or shape.
    """
    try:
        with warnings.catch_warnings():  # numpy remarks on headers written by Python 2, and on damaged ones
            warnings.simplefilter("ignore")
            array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as fault:
        raise DataError(f"there is no file {path}") from fault
    except _HEADER_FAULTS as fault:
        reason = getattr(fault, "strerror", None) or (str(fault) or type(fault).__name__).splitlines()[0]
        size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
        raise DataError(f"{path}{size} is not a whole .npy array: {reason}", "fetch the file again") from fault
    behind = path.stat().st_size - array.offset - array.nbytes
    if behind:
        raise DataError(
            f"{path} holds {behind:,} bytes more than its header says, {array.dtype} {array.shape}",
            "fetch the file again",
        )
    if array.ndim != axes or array.size == 0 or array.dtype.kind not in kinds:
        numbers = "floating-point numbers" if kinds == "f" else "numbers"
        raise DataError(f"{path} holds {array.dtype} {array.shape}; expected {axes} axes of {numbers}")
    return NpyRows(path, array)
