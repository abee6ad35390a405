"""Describe a feature file or a vocabulary, and find faults that opening it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from selfalign_cli.data.features.checks import check_record
from selfalign_cli.data.features.digest import ContentDigest
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.features.origin import described
from selfalign_cli.data.features.records import ImageRecord
from selfalign_cli.data.progress import Progress, no_progress
from selfalign_cli.data.text.vocab import Vocabulary
from selfalign_cli.errors import DataError
from selfalign_cli.published.vocabulary import PICKLE_MARK, is_foreign_vocabulary, read_foreign_vocabulary

SHOWN_FAULTS = 20
SHOWN_IDS = 3


def inspect_feature_file(path: Path, *, quick: bool = False, progress: Progress = no_progress) -> dict[str, Any]:
    """Describe a feature file, and read all of it to find faults.

    Args:
        path: the file.
        quick: leave regions and texts unread; only faults found on opening are reported, and no ids.
        progress: shows how far the reading is.

    Returns:
        Counts, shapes, splits with their first ids, hashes and `faults` (at most 20 pictures are named), for JSON.
        `single_regions`: pictures with one region; null where there are none.

    Raises:
        DataError: the file cannot be opened as a feature file.
    """
    file = FeatureFile(path)
    facts = file.facts
    regions = int(facts.offsets[-1])
    shapes = {"features": [regions, file.feature_dim], "boxes": [regions, 4], "image_size": [len(file), 2]}
    there = {"features": True, "boxes": facts.boxes is not None, "image_size": facts.image_size is not None}
    return {
        "kind": "features",
        "path": str(path),
        "created_by": facts.created_by,
        "source": facts.source,
        "extractor": None if file.extractor is None else described(file.extractor),
        "content_hash": facts.content_hash,
        "dtype": facts.features.dtype,
        "feature_dim": file.feature_dim,
        "images": len(file),
        "captions": len(facts.caption_image),
        "regions": regions,
        "regions_per_image": _spread(np.diff(facts.offsets)),
        "single_regions": int(np.count_nonzero(np.diff(facts.offsets) == 1)) or None,
        "boxes": facts.boxes is not None,
        "image_size": facts.image_size is not None,
        "file_names": facts.has_file_names,
        "caption_ids": facts.has_caption_ids,
        "shapes": {name: shape for name, shape in shapes.items() if there[name]},
        "splits": {split: _describe_split(file, split, ids=not quick) for split in facts.splits},
        "faults": [] if quick else _feature_faults(file, progress),
    }


def inspect_vocabulary(path: Path) -> dict[str, Any]:
    """Describe a vocabulary, ours or one of another program.

    Returns:
        Sizes and settings, for JSON. A foreign file does not name its tokenizer: the default is reported.

    Raises:
        DataError: it is no vocabulary.
    """
    _expect_vocabulary(path)
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


def _expect_vocabulary(path: Path) -> None:
    """Report a file of another kind as such, not as bad JSON."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except (OSError, ValueError):
        return  # the reader of vocabularies reports what is wrong
    if start and not start.startswith((b"{", PICKLE_MARK)):
        raise DataError(
            f"{path} is no feature file, vocabulary, checkpoint or embedding file (it starts with {start[:8]!r})",
            "features of other programs are converted: selfalign convert-features SOURCE --out FILE.h5",
        )


def _describe_split(file: FeatureFile, split: str, *, ids: bool) -> dict[str, Any]:
    rows = file.facts.splits[split]
    counts = np.bincount(file.facts.caption_image, minlength=len(file))[rows.start : rows.stop]
    found: dict[str, Any] = {
        "images": len(rows),
        "captions": int(counts.sum()),
        "captions_per_image": _spread(counts),
    }
    if ids:
        found["first_image_ids"] = file.image_ids[rows.start : rows.stop][:SHOWN_IDS]
    if ids and file.caption_ids is not None and len(file.facts.caption_image):
        found["first_caption_ids"] = [file.caption_ids[row] for row in file.split_captions(split)[:SHOWN_IDS]]
    return found


def _spread(counts: npt.NDArray[np.int64]) -> dict[str, float]:
    return {"min": int(counts.min()), "mean": float(counts.mean()), "max": int(counts.max())}


def _feature_faults(file: FeatureFile, progress: Progress) -> list[str]:
    """Check every picture by the rules of conversion, and the whole against its hash."""
    faults: list[str] = []
    facts, dtype = file.facts, file.facts.features.dtype
    digest = ContentDigest(dtype, file.feature_dim)
    order = np.argsort(facts.caption_image, kind="stable")
    ends = np.cumsum(np.bincount(facts.caption_image, minlength=len(file)))
    captions_of = np.split(order, ends[:-1])
    with progress(f"inspect {file.path.name}: pictures", len(file)) as advance:
        for split, rows in facts.splits.items():
            seen: set[str] = set()
            for row in rows:
                record = _record(file, split, row, captions_of[row])
                digest.add(record, record.features, record.boxes)  # type: ignore[arg-type]
                try:
                    check_record(record, file.feature_dim, dtype)
                except DataError as fault:
                    faults.append(fault.message)
                if record.image_id in seen:
                    faults.append(f"picture {record.image_id} of split {split}: its id occurs twice")
                seen.add(record.image_id)
                advance(1)
    if len(faults) > SHOWN_FAULTS:
        faults = [*faults[:SHOWN_FAULTS], f"and {len(faults) - SHOWN_FAULTS} more"]
    if file.extractor is not None:
        digest.add_extractor(file.extractor)
    if digest.hexdigest() != file.content_hash:
        faults.append("the content does not match the content_hash: something was changed after the conversion")
    return faults


def _record(file: FeatureFile, split: str, row: int, captions: npt.NDArray[np.int64]) -> ImageRecord:
    size = None if file.facts.image_size is None else file.facts.image_size[row].tolist()
    return ImageRecord(
        image_id=file.image_ids[row],
        features=file.regions(row),
        split=split,
        captions=[file.captions[caption] for caption in captions],
        caption_ids=None if file.caption_ids is None else [file.caption_ids[caption] for caption in captions],
        boxes=file.boxes(row),
        size=None if size is None else (size[0], size[1]),
        file_name=None if file.file_names is None else file.file_names[row],
        scores=file.scores(row),
        labels=file.labels(row),
    )
