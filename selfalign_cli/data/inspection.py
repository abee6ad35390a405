"""Say what a feature file or a vocabulary holds, and what is wrong with it although it can be opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.content_digest import ContentDigest
from selfalign_cli.data.convert import Progress, no_progress
from selfalign_cli.data.features import FeatureFile
from selfalign_cli.data.foreign_vocab import is_foreign_vocabulary, read_foreign_vocabulary
from selfalign_cli.data.record_checks import check_record
from selfalign_cli.data.records import ImageRecord
from selfalign_cli.data.vocab import Vocabulary
from selfalign_cli.errors import DataError

SHOWN_FAULTS = 20


def inspect_feature_file(path: Path, *, quick: bool = False, progress: Progress = no_progress) -> dict[str, Any]:
    """Describe a feature file, and read all of it to find faults.

    Args:
        path: the file.
        quick: leave regions and texts unread; only what opening the file finds is found.
        progress: shows how far the reading is.

    Returns:
        Counts, shapes, splits and `faults` (at most 20 pictures are named), for JSON.

    Raises:
        DataError: the file cannot be opened as a feature file.
    """
    file = FeatureFile(path)
    return {
        "kind": "features",
        "path": str(path),
        "created_by": file.created_by,
        "source": file.source,
        "content_hash": file.content_hash,
        "dtype": file.dtype,
        "feature_dim": file.feature_dim,
        "images": len(file),
        "captions": len(file.caption_image),
        "regions": int(file.offsets[-1]),
        "regions_per_image": _spread(np.diff(file.offsets)),
        "boxes": file.has_boxes,
        "image_size": file.has_image_size,
        "file_names": file.has_file_names,
        "caption_ids": file.has_caption_ids,
        "splits": {split: _describe_split(file, split) for split in file.splits},
        "faults": [] if quick else _feature_faults(file, progress),
    }


def inspect_vocabulary(path: Path) -> dict[str, Any]:
    """Describe a vocabulary, ours or one of another program.

    Returns:
        Sizes and settings, for JSON. A foreign file does not name its tokenizer: what is told is the default.

    Raises:
        DataError: it is no vocabulary.
    """
    foreign = is_foreign_vocabulary(path)
    vocabulary = read_foreign_vocabulary(path) if foreign else Vocabulary.load(path)
    return {
        "kind": "vocabulary",
        "path": str(path),
        "foreign": foreign,
        "words": len(vocabulary),
        "tokenizer": vocabulary.tokenizer,
        "lowercase": vocabulary.lowercase,
        "min_count": vocabulary.min_count,
        "source": vocabulary.source,
        "content_hash": vocabulary.content_hash,
        "faults": [],
    }


def _describe_split(file: FeatureFile, split: str) -> dict[str, Any]:
    images, captions = file.split_images(split), file.split_captions(split)
    counts = np.bincount(file.caption_image[captions] - images[0], minlength=len(images))
    return {"images": len(images), "captions": len(captions), "captions_per_image": _spread(counts)}


def _spread(counts: npt.NDArray[np.int64]) -> dict[str, float]:
    return {"min": int(counts.min()), "mean": float(counts.mean()), "max": int(counts.max())}


def _feature_faults(file: FeatureFile, progress: Progress) -> list[str]:
    """Hold every picture against the rules of conversion, and the whole against its hash."""
    faults: list[str] = []
    digest = ContentDigest(file.dtype, file.feature_dim)
    order = np.argsort(file.caption_image, kind="stable")
    ends = np.cumsum(np.bincount(file.caption_image, minlength=len(file)))
    captions_of = np.split(order, ends[:-1])
    with progress(f"inspect {file.path.name}: pictures", len(file)) as advance:
        for split, rows in file.splits.items():
            seen: set[str] = set()
            for row in rows:
                record = _record(file, split, row, captions_of[row])
                digest.add(record, record.features, record.boxes)  # type: ignore[arg-type]
                try:
                    check_record(record, file.feature_dim, file.dtype)
                except DataError as fault:
                    faults.append(fault.message)
                if record.image_id in seen:
                    faults.append(f"picture {record.image_id} of split {split}: its id occurs twice")
                seen.add(record.image_id)
                advance(1)
    if len(faults) > SHOWN_FAULTS:
        faults = [*faults[:SHOWN_FAULTS], f"and {len(faults) - SHOWN_FAULTS} more"]
    if digest.hexdigest() != file.content_hash:
        faults.append("the content does not match the content_hash: something was changed after the conversion")
    return faults


def _record(file: FeatureFile, split: str, row: int, captions: npt.NDArray[np.int64]) -> ImageRecord:
    size = None if file.image_size is None else file.image_size[row].tolist()
    return ImageRecord(
        image_id=file.image_ids[row],
        features=file.regions(row),
        split=split,
        captions=[file.captions[caption] for caption in captions],
        caption_ids=None if file.caption_ids is None else [file.caption_ids[caption] for caption in captions],
        boxes=file.boxes(row),
        size=None if size is None else (size[0], size[1]),
        file_name=None if file.file_names is None else file.file_names[row],
    )
