"""Where the pictures of a feature file lie on disk, for showing them; a picture that is not found is no fault."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from selfalign_cli.data.features.file import FeatureFile

SUFFIXES = ("", ".jpg", ".jpeg", ".png", ".webp")
KARPATHY = "dataset_*.json"
LARGEST_NAMES = 1 << 28
"""Bytes of the largest captions file that is read for the names in it."""


@dataclass(frozen=True)
class PictureFiles:
    """Finds pictures by their names and ids below a few folders, and nothing outside of them.

    Attributes:
        folders: where to look, in this order; absolute, without links.
        names: names of picture files by picture id, where a captions file beside the pictures has them.
    """

    folders: tuple[Path, ...]
    names: Mapping[str, str]

    def find(self, image_id: str, file_name: str | None = None) -> Path | None:
        """The file of a picture, or None: below one of the folders, links resolved."""
        asked = [name for name in (file_name, self.names.get(image_id), image_id) if name]
        for folder in self.folders:
            for name in asked:
                for suffix in SUFFIXES:
                    path = file_below(folder, name + suffix)
                    if path is not None:
                        return path
        return None


def file_below(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder or below; None if there is none, or if it lies outside (`..`, links).

    Args:
        folder: absolute and without links, as `Path.resolve` gives it.
        name: relative, with `/`.
    """
    if not name or "\0" in name or PurePosixPath(name).is_absolute():
        return None
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # a name too long, a circle of links
        return None


def picture_files(file: FeatureFile, given: Sequence[Path] = ()) -> PictureFiles:
    """Where the pictures of a feature file may lie.

    Args:
        file: the feature file. It may name the folder of its pictures, and the source it was converted from.
        given: folders that the user names; looked at first.
    """
    named = [] if file.origin is None or not file.origin.pictures else [Path(file.origin.pictures)]
    source = Path(file.facts.source) if file.facts.source else None
    beside = [file.path.parent / source.name] if source is not None and source.name else []  # both were moved together
    sources = [*([] if source is None else [source]), *beside]
    folders = [*given, *named, *(place for folder in sources for place in (folder / "images", folder))]
    known = dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir())
    return PictureFiles(tuple(known), _karpathy_names([*given, *(folder.parent for folder in given), *sources]))


def _karpathy_names(folders: Sequence[Path]) -> dict[str, str]:
    """File names by id of the first `dataset_*.json` in one of the folders."""
    for folder in folders:
        for path in sorted(folder.glob(KARPATHY)) if folder.is_dir() else ():
            try:
                images = json.loads(path.read_bytes())["images"] if path.stat().st_size <= LARGEST_NAMES else []
                return {str(image["imgid"]): str(image["filename"]) for image in images}
            except (OSError, ValueError, LookupError, TypeError, RecursionError):
                continue
    return {}
