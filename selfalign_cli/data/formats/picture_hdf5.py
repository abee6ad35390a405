"""HDF5 with data sets of their own for each picture.

meshed-memory transformer   ID_features (n, F), ID_boxes (n, 4), ID_cls_prob
VLP, GVD                    ID (n, F) in PREFIX_feat000.h5 to PREFIX_feat999.h5; boxes are the first four columns
                            of ID in another file, named …bbox….h5, which is one of the sources or in their folder
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from selfalign_cli.data.formats.foreign_hdf5 import blaming_file, dataset, names_in, opened_hdf5
from selfalign_cli.data.formats.pictures import Counted, Pictures, ReadPicture, Regions, single
from selfalign_cli.errors import DataError

FEATURES, BOXES = "_features", "_boxes"
PARTS = (FEATURES, BOXES, "_cls_prob")
BOX_FILE = "bbox"
MOST_OPEN = 64
"""Files open at a time; there may be more of them than a process may open."""


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
    locations: list[tuple[Path, str]] = []
    for source in sources:
        if BOX_FILE in source.name:
            continue
        with opened_hdf5(source) as file:
            for name in file:
                if name.endswith(PARTS) and not name.endswith(FEATURES):
                    continue
                shape = dataset(file, name, "f", 2).shape
                counted.add(str(name).removesuffix(FEATURES), shape[0], shape[1], f"{source}, {name}")
                locations.append((source, name))
    return counted.pictures(sources, partial(_reading, locations, _box_files(sources)))


def _box_files(sources: Sequence[Path]) -> dict[Path, set[str]]:
    """Files of boxes, among the sources or in their folders, and the names of their data sets."""
    siblings = {path for source in sources for path in source.parent.glob(f"*{BOX_FILE}*.h5")}
    found = {}
    for path in sorted(siblings | {source for source in sources if BOX_FILE in source.name}):
        with opened_hdf5(path) as file:
            found[path] = set(map(str, file))
    return found


@contextmanager
def _reading(locations: list[tuple[Path, str]], box_files: dict[Path, set[str]]) -> Iterator[ReadPicture]:
    with _FewFiles() as files:

        def read(row: int) -> Regions:
            path, name = locations[row]
            with blaming_file(path):
                file = files.opened(path)
                features = np.asarray(file[name][...])
                if name.endswith(FEATURES):
                    boxes_name = f"{name.removesuffix(FEATURES)}{BOXES}"
                    return Regions(features, _first_four(file, boxes_name) if boxes_name in file else None)
            if not box_files:
                return Regions(features)
            boxes = next((path for path, names in box_files.items() if name in names), None)
            if boxes is None:
                raise DataError(f"no file with boxes has picture {name}: {', '.join(map(str, box_files))}")
            with blaming_file(boxes):
                return Regions(features, _first_four(files.opened(boxes), name))

        yield read


class _FewFiles:
    """The files that were read last, open."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, tuple[h5py.File, ExitStack]] = OrderedDict()

    def __enter__(self) -> _FewFiles:
        return self

    def __exit__(self, *unused: object) -> None:
        while self._open:
            self._close_oldest()

    def opened(self, path: Path) -> h5py.File:
        """Open a file, unless it is."""
        if path not in self._open:
            if len(self._open) == MOST_OPEN:
                self._close_oldest()
            stack = ExitStack()
            self._open[path] = (stack.enter_context(opened_hdf5(path)), stack)
        self._open.move_to_end(path)
        return self._open[path][0]

    def _close_oldest(self) -> None:
        _, stack = self._open.popitem(last=False)[1]
        stack.close()


def _first_four(file: h5py.File, name: str) -> npt.NDArray[np.float32]:
    found = dataset(file, name, "fiu", 2)
    if found.shape[1] < 4:
        raise DataError(f"{file.filename} holds {found.shape} in {name}; expected boxes of four corners")
    return single(found[:, :4])
