"""The feature file: one HDF5 file with the regions, captions, picture ids and splits of a data set.

    /features        (sum n, F) float32 or float16, contiguous: the regions of all pictures, one after the other
    /offsets         (N + 1,) int64: picture i has regions offsets[i] to offsets[i + 1]
    /boxes           (sum n, 4) float32, contiguous, optional: x1, y1, x2, y2 in pixels
    /image_size      (N, 2) float32, optional: width, height in pixels
    /image_id        (N,) utf-8 of fixed length, as all texts
    /file_name       (N,) utf-8, optional
    /captions/text   (M,) utf-8
    /captions/image  (M,) int64: image row of each caption; every picture has one at least, or M is 0
    /captions/id     (M,) utf-8, optional
    /splits/<name>   (2,) int64: first image row and the one behind the last; splits do not overlap
    attributes       format, version, created_by, source, feature_dim, content_hash

The large arrays lie in one piece, so rows are read by their position in the file: no HDF5 handle stays open, batches
are read straight into their tensors, and a reader can be sent to another process.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.array_in_file import ArrayInFile, expect_unchanged
from selfalign_cli.data.features.layout import read_structure, read_texts
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.writer import write_feature_file
from selfalign_cli.errors import DataError

__all__ = ["FeatureFile", "ImageRecord", "write_feature_file"]


class FeatureFile:
    """A feature file, opened for reading. Cheap to open, to pickle and to fork; regions are read on demand.

    N pictures, M captions, F feature width; rows count over all splits.

    Args:
        path: the file.

    Raises:
        DataError: the file is missing, damaged, or contradicts itself.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._structure = found = read_structure(self.path)
        self._regions = ArrayInFile(self.path, found.features, found.identity)
        self._boxes = None if found.boxes is None else ArrayInFile(self.path, found.boxes, found.identity)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the texts behind: another process reads its own, if it needs them."""
        return {name: self.__dict__[name] for name in ("path", "_structure", "_regions", "_boxes")}

    def __len__(self) -> int:
        """Number N of pictures."""
        return len(self._structure.offsets) - 1

    @property
    def feature_dim(self) -> int:
        """Width F of a region."""
        return self._structure.features.shape[1]

    @property
    def dtype(self) -> str:
        """How features are stored: float32 or float16."""
        return self._structure.features.dtype

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) over regions, captions and ids, computed at conversion."""
        return self._structure.content_hash

    @property
    def source(self) -> str:
        """What the file was converted from."""
        return self._structure.source

    @property
    def created_by(self) -> str:
        """Program and version that wrote the file."""
        return self._structure.created_by

    @property
    def has_boxes(self) -> bool:
        """Whether regions have boxes."""
        return self._structure.boxes is not None

    @property
    def has_image_size(self) -> bool:
        """Whether pictures have a width and a height."""
        return self._structure.image_size is not None

    @property
    def has_file_names(self) -> bool:
        """Whether pictures have the names of their files."""
        return self._structure.has_file_names

    @property
    def has_captions(self) -> bool:
        """Whether there are captions; then every picture has one at least."""
        return len(self.caption_image) > 0

    @property
    def has_caption_ids(self) -> bool:
        """Whether captions have ids."""
        return self._structure.has_caption_ids

    @property
    def splits(self) -> dict[str, range]:
        """Image rows of each split, in file order."""
        return self._structure.splits

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """(N + 1,) first region of each picture."""
        return self._structure.offsets

    @property
    def caption_image(self) -> npt.NDArray[np.int64]:
        """(M,) image row of each caption."""
        return self._structure.caption_image

    @property
    def image_size(self) -> npt.NDArray[np.float32] | None:
        """(N, 2) width and height in pixels, or None."""
        return self._structure.image_size

    @cached_property
    def captions(self) -> list[str]:
        """M captions as written; read when first asked for."""
        return self._texts("captions/text")

    @cached_property
    def image_ids(self) -> list[str]:
        """N picture ids."""
        return self._texts("image_id")

    @cached_property
    def file_names(self) -> list[str] | None:
        """N names of picture files, or None."""
        return self._texts("file_name") if self.has_file_names else None

    @cached_property
    def caption_ids(self) -> list[str] | None:
        """M caption ids, or None."""
        return self._texts("captions/id") if self.has_caption_ids else None

    def regions(self, row: int) -> npt.NDArray[Any]:
        """(n, F) regions of one picture, in the stored type."""
        return self._regions.rows(int(self.offsets[row]), int(self.offsets[row + 1]))

    def boxes(self, row: int) -> npt.NDArray[np.float32] | None:
        """(n, 4) boxes of one picture in pixels, or None."""
        return None if self._boxes is None else self._boxes.rows(int(self.offsets[row]), int(self.offsets[row + 1]))

    def fill_regions(self, rows: npt.NDArray[np.int64], target: npt.NDArray[Any]) -> None:
        """Read the regions of several pictures into a batch.

        Args:
            rows: (B,) image rows.
            target: (B, R, F) array of the stored type; places behind a picture's regions are left as they are.
        """
        self._fill(self._regions, rows, target)

    def fill_boxes(self, rows: npt.NDArray[np.int64], target: npt.NDArray[np.float32]) -> None:
        """Read the boxes of several pictures into a (B, R, 4) batch; the file must have boxes."""
        if self._boxes is None:
            raise DataError(f"{self.path} has no boxes", "convert features that come with boxes")
        self._fill(self._boxes, rows, target)

    def split_images(self, split: str) -> npt.NDArray[np.int64]:
        """Image rows of a split.

        Raises:
            DataError: there is no such split; the ones that exist are named.
        """
        rows = self._split(split)
        return np.arange(rows.start, rows.stop, dtype=np.int64)

    def split_captions(self, split: str) -> npt.NDArray[np.int64]:
        """Caption rows whose picture is in the split, in file order.

        Raises:
            DataError: there is no such split (the ones that exist are named), or the file has no captions at all.
        """
        rows = self._split(split)
        if not self.has_captions:
            raise DataError(
                f"{self.path} holds pictures without captions",
                f"add captions: selfalign convert-features {self.path} --captions FILE --out OTHER.h5",
            )
        inside = (self.caption_image >= rows.start) & (self.caption_image < rows.stop)
        return np.flatnonzero(inside).astype(np.int64, copy=False)

    def _split(self, split: str) -> range:
        if split not in self.splits:
            raise DataError(f"{self.path} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.splits[split]

    def _texts(self, name: str) -> list[str]:
        expect_unchanged(self.path, self._structure.identity)
        return read_texts(self.path, name)

    def _fill(self, source: ArrayInFile, rows: npt.NDArray[np.int64], target: npt.NDArray[Any]) -> None:
        starts, ends = self.offsets[rows], self.offsets[rows + 1]
        full = bool((ends - starts == target.shape[1]).all())
        if len(rows) > 0 and full and (starts[1:] == ends[:-1]).all():
            source.read_into(int(starts[0]), target)
            return
        for place, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            source.read_into(start, target[place, : end - start])
