"""What others add to SCAN's files: ids, picture sizes as pickled dicts (GSMN, RCAR), and names of picture files.

SPLIT_ids.txt        an id a line, for each picture or for each caption
SPLIT_ims_size.npy   object array of N dicts {image_h, image_w}
id_mapping.json      {picture id: name of its file}, in the folder or the one above (VSE-infinity, RCAR)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.formats.arrays import read_npy_object
from selfalign_cli.data.formats.pictures import number_of, shown, single
from selfalign_cli.data.text.captions import read_caption_lines, read_json
from selfalign_cli.errors import DataError

FILE_NAMES = "id_mapping.json"


class SizeRows:
    """Width and height of each picture, in memory.

    Args:
        sizes: (N, 2) numbers.
    """

    def __init__(self, sizes: npt.NDArray[np.float32]) -> None:
        self._sizes = sizes

    def row(self, number: int) -> npt.NDArray[np.float32]:
        """(2,) width and height of one picture."""
        found: npt.NDArray[np.float32] = self._sizes[number]
        return found


def read_pickled_sizes(path: Path, rows: int) -> SizeRows:
    """Read an object array of dicts with `image_w` and `image_h`.

    Args:
        path: the `.npy` file.
        rows: pictures that it must have.

    Raises:
        DataError: it is damaged, refers to anything that would have to run, or holds something else.
    """
    found = read_npy_object(path)
    entries = list(found) if isinstance(found, np.ndarray | list) else []
    if len(entries) != rows:
        raise DataError(f"{path} holds {len(entries):,} sizes; expected {rows:,} beside the features")
    sizes = np.empty((rows, 2), dtype=np.float32)
    for row, entry in enumerate(entries):
        sides = [entry.get("image_w"), entry.get("image_h")] if isinstance(entry, dict) else []
        numbers = [number for number in map(number_of, sides) if number is not None]
        if len(numbers) != 2:
            raise DataError(f"{path}, row {row} is {shown(entry)}; expected a dict with image_w and image_h")
        sizes[row] = single(numbers)
    return SizeRows(sizes)


def read_file_names(folders: Sequence[Path], ids: Sequence[str]) -> list[str] | None:
    """Look up the names of picture files.

    Args:
        folders: the SCAN folder, and others that belong to it.
        ids: picture ids.

    Returns:
        One name for each id; None if there is no mapping, or it lacks one of them.

    Raises:
        DataError: the mapping is damaged.
    """
    candidates = [parent / FILE_NAMES for folder in folders for parent in (folder, folder.parent)]
    path = next(filter(Path.is_file, candidates), None)
    if path is None:
        return None
    names = read_json(path)
    if not isinstance(names, dict) or not all(isinstance(name, str) and name for name in names.values()):
        raise DataError(f"{path} is not an object of picture ids and file names")
    return [names[name] for name in ids] if all(name in names for name in ids) else None


def read_ids(path: Path | None, images: int, per_image: int) -> list[str] | None:
    """One id for each picture, from a file with one line for each picture or for each caption.

    Args:
        path: text, one id a line; None gives None.
        images: number of pictures.
        per_image: captions of a picture.

    Raises:
        DataError: another number of lines, or different ids for one picture.
    """
    if path is None:
        return None
    ids = [line.strip() for line in read_caption_lines(path, what="an id")]
    if len(ids) == images:
        return ids
    if len(ids) != images * per_image:
        raise DataError(f"{path} has {len(ids):,} ids; expected {images:,}, or {images * per_image:,} with repeats")
    for number, name in enumerate(ids):
        if name != ids[number - number % per_image]:
            raise DataError(f"{path}, line {number + 1} is {name!r}; expected {per_image} equal ids for each picture")
    return ids[::per_image]
