"""What a reader of bare features gives: pictures by id, counted in advance and read one at a time."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.origin import Origin
from selfalign_cli.errors import DataError

Array = npt.NDArray[Any]
SHOWN_IDS, SHOWN_SOURCES = 3, 5
LONGEST_VALUE = 80

# Nested lists, each twice in the next, would take forever to write out.
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlong = 3, LONGEST_VALUE, LONGEST_VALUE, LONGEST_VALUE


@dataclass(frozen=True)
class Regions:
    """The regions of one picture.

    Attributes:
        features: (n, F) floating-point numbers.
        boxes: (n, 4) x1, y1, x2, y2 in pixels, or None.
        size: width and height of the picture in pixels, or None.
        scores: (n,) numbers, or None.
        labels: (n,) whole numbers, or None.
    """

    features: Array
    boxes: Array | None = None
    size: tuple[float, float] | None = None
    scores: Array | None = None
    labels: Array | None = None


ReadPicture = Callable[[int], Regions]


@dataclass(frozen=True)
class Pictures:
    """All pictures of the sources, before their captions are known.

    Attributes:
        source: what was read, for messages and for the feature file.
        feature_dim: width F of a region.
        ids: their ids, all different.
        regions: how many regions each has, at least one.
        reading: opens the sources; gives a function that reads the picture of a row.
        notes: what the user should know, one sentence each.
        origin: what made the regions, where that is known.
        unreadable: ids of pictures that are known to have no regions: their files could not be decoded.
    """

    source: str
    feature_dim: int
    ids: list[str]
    regions: list[int]
    reading: Callable[[], AbstractContextManager[ReadPicture]]
    notes: list[str] = field(default_factory=list)
    origin: Origin | None = None
    unreadable: frozenset[str] = frozenset()


class Counted:
    """Pictures while they are counted: their ids, and that all have regions of one width.

    Attributes:
        ids: ids so far.
        regions: regions of each.
        locations: where each was found (a file, a line), for messages.
        feature_dim: width of the regions; 0 before the first picture.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.regions: list[int] = []
        self.locations: list[str] = []
        self.feature_dim = 0
        self._seen: dict[str, int] = {}

    def add(self, image_id: str, regions: int, width: int, where: str) -> None:
        """Count one picture.

        Args:
            image_id: its id.
            regions: how many regions it has.
            width: of its regions.
            where: file and line, e.g. `train.tsv, line 3`.

        Raises:
            DataError: the id is empty or was there before; there are no regions, or they are of another width.
        """
        if not image_id:
            raise DataError(f"{where} names no picture; expected an id")
        if image_id in self._seen:
            before = self.locations[self._seen[image_id]]
            raise DataError(f"{where} holds the picture {image_id}, as does {before}; expected every picture once")
        if regions < 1:
            raise DataError(f"{where}: picture {image_id} has no regions; expected at least one")
        if width < 1 or width != (self.feature_dim or width):
            expected = f"{self.feature_dim}, as in {self.locations[0]}" if self.locations else "at least 1"
            raise DataError(f"{where}: picture {image_id} has regions of width {width}; expected {expected}")
        self._seen[image_id] = len(self.ids)
        self.feature_dim = width
        self.ids.append(image_id)
        self.regions.append(regions)
        self.locations.append(where)

    def pictures(
        self,
        sources: Sequence[Path],
        reading: Callable[[], AbstractContextManager[ReadPicture]],
        notes: Sequence[str] = (),
    ) -> Pictures:
        """Finish counting.

        Raises:
            DataError: there were no pictures.
        """
        source = named(sources)
        if not self.ids:
            raise DataError(f"{source} holds no pictures")
        return Pictures(source, self.feature_dim, self.ids, self.regions, reading, list(notes))


def named(sources: Sequence[Path]) -> str:
    """The sources in one line: all of a few, the first of many."""
    more = len(sources) - SHOWN_SOURCES
    listed = " ".join(str(path) for path in sources[:SHOWN_SOURCES])
    return f"{listed} and {more} more" if more > 0 else listed


def some_of(names: Sequence[str]) -> str:
    """The first few of many names, for a message."""
    shown = ", ".join(names[:SHOWN_IDS])
    return f"{shown}, …" if len(names) > SHOWN_IDS else shown


def shown(value: object) -> str:
    """What was found in place of something else, cut to a readable length."""
    try:
        return _BRIEF.repr(value.tolist() if isinstance(value, np.ndarray) else value)[:LONGEST_VALUE]
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists in lists
        return f"something of type {type(value).__name__} that is too large to show"


def number_of(value: object) -> float | None:
    """One finite number: a plain one, or an array of a single one; None for anything else."""
    if not isinstance(value, int | float | np.ndarray | np.generic):
        return None
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        return None
    return float(found.reshape(-1)[0])


def single(found: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Numbers as float32; what is too large for it becomes infinite, and is refused where records are checked."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(found).astype(np.float32)
