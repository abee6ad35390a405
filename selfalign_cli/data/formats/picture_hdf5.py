"""HDF5 with data sets of their own for each picture.

meshed-memory transformer   ID_features (n, F), ID_boxes (n, 4), ID_cls_prob
VLP, GVD                    ID (n, F) in PREFIX_feat000.h5 to PREFIX_feat999.h5; boxes are the first four columns
                            of ID in another file, named …bbox….h5, which is one of the sources or beside them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from selfalign_cli.data.formats.foreign_hdf5 import dataset, names_in, opened_hdf5
from selfalign_cli.data.formats.pictures import Counted, Pictures, ReadPicture, Regions, single
from selfalign_cli.errors import DataError

FEATURES, BOXES = "_features", "_boxes"
PARTS = (FEATURES, BOXES, "_cls_prob")
BOX_FILE = "bbox"


def recognises(source: Path) -> bool:
    """Whether an HDF5 file has data sets named like those of pictures: `ID_features`, or a number."""
    names = names_in(source) if source.is_file() else []
    return bool(names) and all(name.endswith(PARTS) or name.isdigit() for name in names)


def open_pictures(sources: Sequence[Path]) -> Pictures:
    """Read names and shapes of all data sets.

    Args:
        sources: HDF5 files.

    Raises:
        DataError: a file is damaged, or a picture occurs twice.
    """
    counted = Counted()
    places: list[tuple[Path, str]] = []
    for source in sources:
        if BOX_FILE in source.name:
            continue
        with opened_hdf5(source) as file:
            for name in file:
                if name.endswith(PARTS) and not name.endswith(FEATURES):
                    continue
                shape = dataset(file, name, "f", 2).shape
                counted.add(str(name).removesuffix(FEATURES), shape[0], shape[1], f"{source}, {name}")
                places.append((source, name))
    return counted.pictures(sources, partial(_reading, places, _box_files(sources)))


def _box_files(sources: Sequence[Path]) -> list[Path]:
    """Files with boxes among the sources and in their folders."""
    beside = {path for source in sources for path in source.parent.glob(f"*{BOX_FILE}*.h5")}
    return sorted(beside | {source for source in sources if BOX_FILE in source.name})


@contextmanager
def _reading(places: list[tuple[Path, str]], box_files: list[Path]) -> Iterator[ReadPicture]:
    with ExitStack() as stack:
        open_now: dict[Path, h5py.File] = {}
        boxes_apart = [(path, stack.enter_context(opened_hdf5(path))) for path in box_files]

        def read(row: int) -> Regions:
            path, name = places[row]
            if path not in open_now:
                open_now[path] = stack.enter_context(opened_hdf5(path))
            features = np.asarray(open_now[path][name][...])
            boxes_name = f"{name.removesuffix(FEATURES)}{BOXES}"
            if name.endswith(FEATURES):
                found = open_now[path] if boxes_name in open_now[path] else None
                return Regions(features, None if found is None else _first_four(found, boxes_name))
            if not boxes_apart:
                return Regions(features)
            for _, file in boxes_apart:
                if name in file:
                    return Regions(features, _first_four(file, name))
            raise DataError(f"no file with boxes has picture {name}: {', '.join(str(path) for path in box_files)}")

        yield read


def _first_four(file: h5py.File, name: str) -> npt.NDArray[np.float32]:
    found = dataset(file, name, "fiu", 2)
    if found.shape[1] < 4:
        raise DataError(f"{file.filename} holds {found.shape} in {name}; expected boxes of four corners")
    return single(found[:, :4])
