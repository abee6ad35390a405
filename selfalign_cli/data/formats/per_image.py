"""A folder with a file for each picture; the file's name is the picture's id.

    NAME.npz   feat (or x, or z): (n, F); optional bbox (n, 4), image_w, image_h, num_bbox
    NAME.npy   (n, F), with or without NAME_info.npy: a dict with bbox, num_boxes, image_width, image_height

Known writers: self-critical (`cocobu_att`, boxes in `cocobu_box`), TERN (`bu_att`, `bu_box`), X-modaler,
bottom-up-attention.pytorch (x, bbox, …), MMF (`_info.npy`). Where the folder is named `…_att` and has a
sibling `…_box`, boxes are `…_box/NAME.npy`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from selfalign_cli.data.formats.arrays import Archive, opened_npz, read_npy, read_npy_header, read_npy_object
from selfalign_cli.data.formats.pictures import (
    Array,
    Counted,
    Pictures,
    ReadPicture,
    Regions,
    number_of,
    shown,
    single,
)
from selfalign_cli.errors import DataError, reason_of

FEATURES = ("feat", "x", "z")
BOXES = ("bbox", "boxes")
SIZE = ("image_w", "image_h")
COUNT = "num_bbox"
INFO = "_info.npy"
ATTENTION, BOX = "_att", "_box"


def recognises(source: Path) -> bool:
    """Whether a path is a folder with `.npz` or `.npy` files."""
    if not source.is_dir():
        return False
    with os.scandir(source) as entries:
        return any(entry.name.endswith((".npz", ".npy")) for entry in entries)


def open_pictures(sources: Sequence[Path]) -> Pictures:
    """Read the headers of all files.

    Args:
        sources: folders.

    Raises:
        DataError: a file is damaged or lacks its features, or a picture occurs twice.
    """
    counted = Counted()
    files: list[Path] = []
    for folder in sources:
        for path in _files(folder):
            shape = _shape(path)
            if len(shape) != 2:
                raise DataError(f"{path} has features of shape {shape}; expected (regions, width)")
            counted.add(path.stem, shape[0], shape[1], str(path))
            files.append(path)
    return counted.pictures(sources, partial(_reading, files))


def _files(folder: Path) -> list[Path]:
    """The files with features, by name."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError as fault:
        raise DataError(f"cannot read the folder {folder}: {reason_of(fault)}") from fault
    archives = [name for name in names if name.endswith(".npz")]
    arrays = [name for name in names if name.endswith(".npy") and not name.endswith(INFO)]
    if bool(archives) == bool(arrays):
        found = "both .npz and .npy files" if archives else "no .npz and no .npy files"
        raise DataError(f"{folder} holds {found}; expected features of one kind")
    return [folder / name for name in archives or arrays]


def _shape(path: Path) -> tuple[int, ...]:
    if path.suffix == ".npy":
        return read_npy_header(path).shape
    with opened_npz(path) as archive:
        return archive.header(_key(archive)).shape


def _key(archive: Archive) -> str:
    """Name of the array with the features."""
    for name in FEATURES:
        if name in archive.members:
            return name
    held = ", ".join(archive.members) or "nothing"
    raise DataError(f"{archive.path} holds {held}; expected features named {' or '.join(FEATURES)}")


@contextmanager
def _reading(files: list[Path]) -> Iterator[ReadPicture]:
    box_folders = {folder: _box_folder(folder) for folder in {path.parent for path in files}}
    informed = {folder: any(folder.glob(f"*{INFO}")) for folder in box_folders}

    def read(row: int) -> Regions:
        path = files[row]
        found = _read_archive(path) if path.suffix == ".npz" else _read_array(path, informed[path.parent])
        boxes = box_folders[path.parent]
        if boxes is None or found.boxes is not None:
            return found
        return Regions(found.features, single(read_npy(boxes / f"{path.stem}.npy")), found.size)

    yield read


def _box_folder(folder: Path) -> Path | None:
    """The folder with the boxes of a folder of features, if there is one."""
    name = folder.resolve().name
    sibling = folder.resolve().with_name(f"{name.removesuffix(ATTENTION)}{BOX}")
    return sibling if name.endswith(ATTENTION) and sibling.is_dir() else None


def _read_archive(path: Path) -> Regions:
    with opened_npz(path) as archive:
        features = archive.array(_key(archive))
        boxes = next((single(archive.array(name)) for name in BOXES if name in archive.members), None)
        numbers = {
            name: _number(archive.array(name), path, name) for name in (*SIZE, COUNT) if name in archive.members
        }
    _expect_count(path, features, numbers.get(COUNT))
    sides = [numbers[name] for name in SIZE if name in numbers]
    return Regions(features, boxes, (sides[0], sides[1]) if len(sides) == 2 else None)


def _read_array(path: Path, informed: bool) -> Regions:
    features = read_npy(path)
    if not informed:
        return Regions(features)
    info_path = path.with_name(f"{path.stem}{INFO}")
    info = read_npy_object(info_path)
    if not isinstance(info, dict):
        raise DataError(f"{info_path} holds a {type(info).__name__}; expected a dict with bbox and the picture's size")
    numbers = {
        name: _number(info[name], info_path, name)
        for name in ("num_boxes", "image_width", "image_height")
        if info.get(name) is not None
    }
    _expect_count(info_path, features, numbers.get("num_boxes"))
    boxes = info.get("bbox")
    if boxes is not None and not (isinstance(boxes, np.ndarray) and boxes.dtype.kind in "fiu"):
        raise DataError(f"{info_path} has a bbox of type {type(boxes).__name__}; expected an array of numbers")
    sides = [numbers[name] for name in ("image_width", "image_height") if name in numbers]
    return Regions(
        features,
        None if boxes is None else single(boxes),
        (sides[0], sides[1]) if len(sides) == 2 else None,
    )


def _number(value: Any, path: Path, name: str) -> float:
    found = number_of(value)
    if found is None:
        raise DataError(f"{path} has {name} {shown(value)}; expected one number")
    return found


def _expect_count(path: Path, features: Array, stated: float | None) -> None:
    if stated is not None and stated != len(features):
        raise DataError(f"{path} says {stated:g} regions; the features have {len(features)}")
