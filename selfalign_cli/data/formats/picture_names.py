"""How the name of a picture in a captions file finds its features: as it stands, or else by what is sure in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Of picture files."""
LOOKED_AT = 1000
"""Files of a folder that are looked at to tell what it holds."""


class PictureNames:
    """Rows of pictures by their ids.

    A name means the picture of that very id; where there is none, the one whose id is the same without the suffix of a
    picture file, or without zeros in front of a number, if there is only one. So `a.jpg` and `a.png` stay apart, and
    `a` finds `a.jpg` where it is alone.

    Args:
        ids: ids of the pictures, all different.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._ids = ids
        self._exact = {name: row for row, name in enumerate(ids)}
        self._plain: dict[str, list[int]] = {}
        for row, name in enumerate(ids):
            self._plain.setdefault(_plain(name), []).append(row)

    def row(self, name: str) -> int | None:
        """The row of a picture; None where no picture, or more than one, may be meant."""
        if name in self._exact:
            return self._exact[name]
        rows = self._plain.get(_plain(name), [])
        return rows[0] if len(rows) == 1 else None

    def possible(self, name: str) -> list[str]:
        """Ids of the pictures that may be meant."""
        if name in self._exact:
            return [name]
        return [self._ids[row] for row in self._plain.get(_plain(name), [])]


def holds_pictures(source: Path) -> bool:
    """Whether a path is a picture file, or a folder with some in it, by their names."""
    if not source.is_dir():
        return source.suffix.lower() in SUFFIXES
    seen = 0
    for _, folders, names in os.walk(source):
        folders.sort()
        if any(Path(name).suffix.lower() in SUFFIXES for name in names):
            return True
        seen += len(names) + len(folders)
        if seen > LOOKED_AT:
            return False
    return False


def _plain(name: str) -> str:
    """A name without the suffix of a picture file; a number without zeros in front."""
    stem, dot, suffix = name.rpartition(".")
    bare = stem if stem and f"{dot}{suffix}".lower() in SUFFIXES else name
    return (bare.lstrip("0") or "0") if bare.isascii() and bare.isdigit() else bare
