"""Write a feature file from a stream of pictures: bounded memory, every record checked, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from selfalign_cli import __version__
from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.data.features.checks import check_record, record_fault
from selfalign_cli.data.features.digest import ContentDigest
from selfalign_cli.data.features.layout import FORMAT, VERSION
from selfalign_cli.data.features.origin import Origin
from selfalign_cli.data.features.output import (
    AppendedRows,
    GuardedStream,
    hdf5_output,
    write_text_attribute,
    write_texts,
)
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.features.second_thread import SecondThread
from selfalign_cli.errors import DataError

Precision = Literal["float32", "float16"]


def write_feature_file(
    path: Path | str,
    records: Iterable[ImageRecord],
    *,
    total_images: int,
    total_regions: int,
    feature_dim: int,
    dtype: Precision = "float32",
    source: str = "",
    origin: Origin | None = None,
    overwrite: bool = False,
    on_image: Callable[[int], None] | None = None,
) -> str:
    """Write a feature file; it appears under its name only when it is complete and on disk.

    Args:
        path: the file to make.
        records: the pictures; those of one split follow each other, and no array of them is changed later.
        total_images: number of records that will come.
        total_regions: regions over all records.
        feature_dim: width of a region.
        dtype: type in which features are stored.
        source: where the data come from, for the file's `source` attribute.
        origin: what made the regions, where that is known.
        overwrite: replace an existing file.
        on_image: called with 1 after each picture.

    Returns:
        The content hash.

    Raises:
        DataError: a picture is faulty, the stream holds another number of pictures or regions than announced, or the
            file exists already.
        RunError: the disk is full.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    pictures = iter(records)
    first = next(pictures, None)
    if first is None or total_images < 1:
        raise DataError(f"no pictures to write to {path}: {source or 'the source'} is empty")
    with hdf5_output(path) as (file, stream), SecondThread() as thread:
        writer = _Writer(file, stream, thread, first, total_images, (total_regions, feature_dim), dtype)
        for record in chain([first], pictures):
            writer.add(record)
            stream.raise_fault()
            if on_image is not None:
                on_image(1)
        content_hash = writer.finish(origin)
        file.attrs.update(version=VERSION, feature_dim=feature_dim)
        created_by = f"selfalign {__version__}"
        described = {"format": FORMAT, "created_by": created_by, "source": source, "content_hash": content_hash}
        for name, text in described.items():
            write_text_attribute(file, name, text)
    return content_hash


class _Writer:
    """The arrays of a feature file while it grows. Optional parts are there if the first picture has them."""

    def __init__(
        self,
        file: h5py.File,
        stream: GuardedStream,
        thread: SecondThread,
        first: ImageRecord,
        total_images: int,
        shape: tuple[int, int],
        dtype: str,
    ) -> None:
        self.file, self.thread = file, thread
        self.images = 0
        self.dtype = dtype
        self.features = AppendedRows(file, stream, "features", shape, dtype)
        self.boxes = None if first.boxes is None else AppendedRows(file, stream, "boxes", (shape[0], 4), "float32")
        self.scores = None if first.scores is None else AppendedRows(file, stream, "scores", shape[:1], "float32")
        self.labels = None if first.labels is None else AppendedRows(file, stream, "labels", shape[:1], "int32")
        self.offsets = np.zeros(total_images + 1, dtype=np.int64)
        self.sizes = np.zeros((total_images, 2), dtype=np.float32) if first.size is not None else None
        self.image_ids: list[str] = []
        self.file_names: list[str] | None = [] if first.file_name is not None else None
        self.captioned = bool(first.captions)
        self.captions: list[str] = []
        self.caption_image: list[int] = []
        self.caption_ids: list[str] | None = [] if first.caption_ids is not None else None
        self.splits: dict[str, list[int]] = {}
        self.ids_of_split: set[str] = set()
        self.digest = ContentDigest(dtype, shape[1])

    def add(self, record: ImageRecord) -> None:
        """Check one picture, store it and add it to the content hash."""
        check_record(record, self.features.shape[1], self.dtype)
        self._check_order(record)
        row, start = self.images, int(self.offsets[self.images])
        end = start + len(record.features)
        stored = np.ascontiguousarray(record.features, dtype=self.dtype)
        self.features.append(stored)
        boxes = None if record.boxes is None else np.ascontiguousarray(record.boxes, dtype=np.float32)
        if self.boxes is not None and boxes is not None:
            self.boxes.append(boxes)
        if self.scores is not None and record.scores is not None:
            self.scores.append(np.ascontiguousarray(record.scores, dtype=np.float32))
        if self.labels is not None and record.labels is not None:
            self.labels.append(np.ascontiguousarray(record.labels, dtype=np.int32))
        self.thread.run(self.digest.add, record, stored, boxes)
        if self.sizes is not None:
            self.sizes[row] = record.size
        self.offsets[row + 1] = end
        self.image_ids.append(record.image_id)
        if self.file_names is not None and record.file_name is not None:
            self.file_names.append(record.file_name)
        self.captions += record.captions
        self.caption_image += [row] * len(record.captions)
        if self.caption_ids is not None and record.caption_ids is not None:
            self.caption_ids += record.caption_ids
        self.splits[record.split][1] = row + 1
        self.images += 1

    def finish(self, origin: Origin | None) -> str:
        """Write the small arrays; give the content hash."""
        regions = self.features.shape[0]
        if self.images != len(self.offsets) - 1 or self.offsets[-1] != regions:
            raise DataError(
                f"the source gave {self.images} pictures with {self.offsets[self.images]} regions; "
                f"expected {len(self.offsets) - 1} with {regions}",
                "it changed while it was read, or it is damaged",
            )
        for group in ("captions", "splits"):  # made last: groups made while writing would hold the time of day
            self.file.create_group(group)
        self.file["offsets"] = self.offsets
        if self.sizes is not None:
            self.file["image_size"] = self.sizes
        self.file["captions/image"] = np.asarray(self.caption_image, dtype=np.int64)
        for split, bounds in self.splits.items():
            self.file[f"splits/{split}"] = np.asarray(bounds, dtype=np.int64)
        write_texts(self.file, "image_id", self.image_ids)
        write_texts(self.file, "captions/text", self.captions)
        if self.file_names is not None:
            write_texts(self.file, "file_name", self.file_names)
        if self.caption_ids is not None:
            write_texts(self.file, "captions/id", self.caption_ids)
        self.thread.wait()
        if origin is not None:
            write_texts(self.file, "extractor", [json.dumps(origin.extractor, sort_keys=True)])
            write_texts(self.file, "pictures", [origin.pictures])
            if origin.label_names:
                write_texts(self.file, "label_names", origin.label_names)
            self.digest.add_extractor(origin.extractor)
        return self.digest.hexdigest()

    def _check_order(self, record: ImageRecord) -> None:
        """Check a picture against those before it and against the announced totals."""
        split = record.split
        if split not in self.splits:
            if not split or "/" in split or "\0" in split or split.strip(".") == "":
                raise record_fault(record, f"{split!r} cannot be the name of a split")
            self.splits[split] = [self.images, self.images]
            self.ids_of_split = set()
        elif self.splits[split][1] != self.images:
            raise record_fault(record, "other splits come between it and its own; expected them one after the other")
        if record.image_id in self.ids_of_split:
            raise record_fault(record, "its id occurs twice in the split; expected every picture once")
        self.ids_of_split.add(record.image_id)
        if self.images >= len(self.offsets) - 1:
            raise record_fault(record, f"it is one more than the {len(self.offsets) - 1} pictures announced")
        if self.offsets[self.images] + len(record.features) > self.features.shape[0]:
            raise record_fault(record, f"there are more regions than the {self.features.shape[0]} announced")
        for name, there, expected in (
            ("captions", record.captions or None, self.captioned or None),
            ("boxes", record.boxes, self.boxes),
            ("scores", record.scores, self.scores),
            ("labels", record.labels, self.labels),
            ("a size", record.size, self.sizes),
            ("a file name", record.file_name, self.file_names),
            ("caption ids", record.caption_ids, self.caption_ids),
        ):
            if (there is None) != (expected is None):
                has, others = ("lacks", "have") if there is None else ("has", "lack")
                raise record_fault(record, f"it {has} {name}, and the pictures before it {others} them")
