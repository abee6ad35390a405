"""The feature file: one HDF5 file with the regions, captions, picture ids and splits of a data set.

    /features        (sum n, F) float32 or float16, contiguous: the regions of all pictures, one after the other
    /offsets         (N + 1,) int64: picture i has regions offsets[i] to offsets[i + 1]
    /boxes           (sum n, 4) float32, contiguous, optional: x1, y1, x2, y2 in pixels
    /image_size      (N, 2) float32, optional: width, height in pixels
    /scores          (sum n,) float32, optional: how sure the extractor is of a region
    /labels          (sum n,) int32, optional: class of a region, -1 for none; /label_names (K,) utf-8
    /extractor       (1,) utf-8, optional: JSON, what made the regions; /pictures (1,) utf-8: folder of the pictures
    /image_id        (N,) utf-8 of fixed length, as all texts
    /file_name       (N,) utf-8, optional
    /captions/text   (M,) utf-8
    /captions/image  (M,) int64: image row of each caption; every picture has one at least, or M is 0
    /captions/id     (M,) utf-8, optional
    /splits/<name>   (2,) int64: first image row and the one after the last; splits do not overlap
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
from selfalign_cli.data.features.layout import read_facts, read_texts
from selfalign_cli.data.features.origin import Extractor, Origin
from selfalign_cli.errors import DataError


class FeatureFile:
    """A feature file, opened for reading. Cheap to open, to pickle and to fork; regions are read on demand.

    N pictures, M captions, F feature width; rows count over all splits.

    Args:
        path: the file.

    Attributes:
        facts: everything about it but its regions and its texts.

    Raises:
        DataError: the file is missing, damaged, or contradicts itself.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.facts = facts = read_facts(self.path)
        self._regions = ArrayInFile(self.path, facts.features, facts.identity)
        self._boxes = None if facts.boxes is None else ArrayInFile(self.path, facts.boxes, facts.identity)
        self._scores = None if facts.scores is None else ArrayInFile(self.path, facts.scores, facts.identity)
        self._labels = None if facts.labels is None else ArrayInFile(self.path, facts.labels, facts.identity)

    def __getstate__(self) -> dict[str, Any]:
        """Drop the texts: another process reads its own, if it needs them."""
        return {name: self.__dict__[name] for name in ("path", "facts", "_regions", "_boxes", "_scores", "_labels")}

    def __len__(self) -> int:
        """Number N of pictures."""
        return len(self.facts.offsets) - 1

    @property
    def feature_dim(self) -> int:
        """Width F of a region."""
        return self.facts.features.shape[1]

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) over regions, captions and ids, computed at conversion."""
        return self.facts.content_hash

    @property
    def extractor(self) -> Extractor | None:
        """Identity of what made the regions; None where the file does not say it."""
        return None if self.facts.origin is None else self.facts.origin.extractor

    @property
    def origin(self) -> Origin | None:
        """What made the regions; None where the file does not say."""
        return self.facts.origin

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
        return self._texts("file_name") if self.facts.has_file_names else None

    @cached_property
    def caption_ids(self) -> list[str] | None:
        """M caption ids, or None."""
        return self._texts("captions/id") if self.facts.has_caption_ids else None

    def regions(self, row: int) -> npt.NDArray[Any]:
        """(n, F) regions of one picture, in the stored type."""
        return self._regions.rows(*self.facts.offsets[row : row + 2].tolist())

    def boxes(self, row: int) -> npt.NDArray[np.float32] | None:
        """(n, 4) boxes of one picture in pixels, or None."""
        return None if self._boxes is None else self._boxes.rows(*self.facts.offsets[row : row + 2].tolist())

    def scores(self, row: int) -> npt.NDArray[np.float32] | None:
        """(n,) how sure the extractor is of each region of a picture, or None."""
        return self._of_regions(self._scores, row)

    def labels(self, row: int) -> npt.NDArray[np.int32] | None:
        """(n,) class of each region of a picture, -1 for none, or None."""
        return self._of_regions(self._labels, row)

    def fill_regions(self, rows: npt.NDArray[np.int64], target: npt.NDArray[Any]) -> None:
        """Read the regions of several pictures into a batch.

        Args:
            rows: (B,) image rows.
            target: (B, R, F) array of the stored type; positions after a picture's regions are left as they are.
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
        if not len(self.facts.caption_image):
            raise DataError(
                f"{self.path} holds pictures without captions",
                f"add captions: selfalign convert-features {self.path} --captions FILE --out OTHER.h5",
            )
        inside = (self.facts.caption_image >= rows.start) & (self.facts.caption_image < rows.stop)
        return np.flatnonzero(inside).astype(np.int64, copy=False)

    def _split(self, split: str) -> range:
        if split not in self.facts.splits:
            raise DataError(f"{self.path} has no split {split!r}; it has {', '.join(self.facts.splits)}")
        return self.facts.splits[split]

    def _of_regions(self, stored: ArrayInFile | None, row: int) -> npt.NDArray[Any] | None:
        offsets = self.facts.offsets
        return None if stored is None else stored.rows(int(offsets[row]), int(offsets[row + 1]))[:, 0]

    def _texts(self, name: str) -> list[str]:
        expect_unchanged(self.path, self.facts.identity)
        return read_texts(self.path, name)

    def _fill(self, source: ArrayInFile, rows: npt.NDArray[np.int64], target: npt.NDArray[Any]) -> None:
        starts, ends = self.facts.offsets[rows], self.facts.offsets[rows + 1]
        full = bool((ends - starts == target.shape[1]).all())
        if len(rows) > 0 and full and (starts[1:] == ends[:-1]).all():
            source.read_into(int(starts[0]), target)
            return
        for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            source.read_into(start, target[row, : end - start])
