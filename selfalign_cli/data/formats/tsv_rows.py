"""Rows of tab-separated text whose fields may be megabytes of base64: found by position, decoded one at a time."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from selfalign_cli.errors import DataError, reason_of

# A picture of 100 regions of 2048 numbers takes 1.1 MB.
LONGEST_LINE = 64 * 1024**2
LOOKED_AT = 4096
FETCH_AGAIN = "the file looks cut short or damaged; fetch it again"


@dataclass(frozen=True)
class Line:
    """One line of a file, split at its tabs.

    Attributes:
        path: the file.
        number: of the line, from 1.
        offset: first byte.
        fields: as bytes, without the line end.
        ended: whether a line end stood behind it.
    """

    path: Path
    number: int
    offset: int
    fields: list[bytes]
    ended: bool = True

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.path}, line {self.number}"

    def text(self, field: int, what: str) -> str:
        """A field as text."""
        try:
            return self.fields[field].decode("utf-8")
        except UnicodeDecodeError as fault:
            raise DataError(f"{self.where} has {what} {self.fields[field][:40]!r}; expected UTF-8 text") from fault

    def whole(self, field: int, what: str) -> int:
        """A field as a whole number.

        Raises:
            DataError: it is none.
        """
        found = self.fields[field]
        if not found.isdigit() or len(found) > 9:
            raise DataError(f"{self.where} has {what} {found[:40]!r}; expected a whole number", FETCH_AGAIN)
        return int(found)

    def width(self, field: int, rows: int, what: str) -> int:
        """Numbers in a row of a field of base64, from the field's length alone."""
        found = self.fields[field]
        count = len(found) // 4 * 3 - (len(found) - len(found.rstrip(b"=")))
        width, rest = divmod(count, 4 * rows) if rows else (0, 0)
        if len(found) % 4 or rest:
            raise DataError(
                f"{self.where} has {len(found):,} characters of {what}, which are not {rows} rows of numbers",
                FETCH_AGAIN,
            )
        return width

    def floats(self, field: int, rows: int, width: int, what: str) -> npt.NDArray[np.float32]:
        """Decode a field of base64.

        Args:
            field: which one.
            rows: rows it holds.
            width: numbers in a row.
            what: its name, for messages.

        Returns:
            (rows, width) float32.

        Raises:
            DataError: it is no base64, or holds another number of numbers.
        """
        try:
            raw = base64.b64decode(self.fields[field], validate=True)
        except binascii.Error as fault:
            raise DataError(f"{self.where} has {what} that are not base64: {fault}", FETCH_AGAIN) from fault
        if len(raw) != 4 * rows * width:
            raise DataError(
                f"{self.where} has {len(raw):,} bytes of {what}; {rows} rows of {width} numbers take "
                f"{4 * rows * width:,}",
                FETCH_AGAIN,
            )
        return np.frombuffer(raw, dtype="<f4").reshape(rows, width)


def read_lines(path: Path) -> Iterator[Line]:
    """Read a file line by line.

    Raises:
        DataError: it cannot be read, or a line is longer than any row can be.
    """
    with opened(path) as stream:
        offset, number = 0, 0
        while line := _line(stream, path, number + 1, offset):
            number += 1
            yield line
            offset = stream.tell()


def read_again(stream: BinaryIO, path: Path, number: int, offset: int) -> Line:
    """Read the line at a known position.

    Raises:
        DataError: there is none any more.
    """
    stream.seek(offset)
    line = _line(stream, path, number, offset)
    if line is None:
        raise DataError(f"{path} changed while it was read: line {number} is gone", "start again")
    return line


def opened(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        DataError: it is missing or cannot be read.
    """
    try:
        return open(path, "rb")
    except (OSError, ValueError) as fault:
        raise DataError(f"cannot read {path}: {reason_of(fault)}") from fault


def first_fields(path: Path) -> list[bytes]:
    """Fields of the first line; none if the file is no tab-separated text, or cannot be read."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(LOOKED_AT)
            if start.count(b"\t") < 1 or b"\0" in start:
                return []
            stream.seek(0)
            return stream.readline(LONGEST_LINE).rstrip(b"\r\n").split(b"\t")
    except OSError:
        return []


def _line(stream: BinaryIO, path: Path, number: int, offset: int) -> Line | None:
    try:
        raw = stream.readline(LONGEST_LINE)
    except OSError as fault:
        raise DataError(f"cannot read {path}: {reason_of(fault)}") from fault
    if not raw:
        return None
    ended = raw.endswith(b"\n")
    if not ended and len(raw) == LONGEST_LINE:
        raise DataError(
            f"{path}, line {number} is longer than {LONGEST_LINE:,} bytes; expected rows of a picture each"
        )
    return Line(path, number, offset, raw.removesuffix(b"\n").removesuffix(b"\r").split(b"\t"), ended)
