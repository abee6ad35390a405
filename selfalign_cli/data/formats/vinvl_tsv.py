"""What VinVL's detector writes for Oscar: `features.tsv`, and optional boxes and an index in the same folder.

features.tsv          key, num_boxes, base64 of (n, F) float32; F is 2054: 2048 and six numbers of the box
features.lineidx      first byte of each line
imageid2idx.json      {picture id: line, from 0}
predictions.tsv       key, JSON with image_w, image_h and objects: [{"rect": [x1, y1, x2, y2], …}, …]
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from selfalign_cli.data.formats.pictures import Array, Counted, Pictures, ReadPicture, Regions
from selfalign_cli.data.formats.tsv_rows import FETCH_AGAIN, Line, first_fields, opened, read_again, read_lines
from selfalign_cli.data.text.captions import read_bytes, read_json
from selfalign_cli.errors import DataError

FEATURES = "features.tsv"
PREDICTIONS = "predictions.tsv"
ROWS = "imageid2idx.json"
OFFSETS = ".lineidx"


@dataclass(frozen=True)
class _Location:
    """Where the lines of a picture start; line 0 where there are no predictions."""

    features: Path
    number: int
    offset: int
    predictions: Path
    predicted: tuple[int, int] = (0, 0)


def recognises(source: Path) -> bool:
    """Whether a path is a file of three fields, the second a whole number, or a folder with `features.tsv`."""
    fields = first_fields(source / FEATURES if source.is_dir() else source)
    return len(fields) == 3 and fields[1].isdigit()


def open_pictures(sources: Sequence[Path]) -> Pictures:
    """Find the lines of all pictures; nothing is decoded.

    Args:
        sources: `features.tsv` files or folders that hold one.

    Raises:
        DataError: a file is missing or cut short, a line is faulty, or the files do not fit each other.
    """
    counted = Counted()
    locations: list[_Location] = []
    notes: list[str] = []
    for source in sources:
        path = source / FEATURES if source.is_dir() else source
        locations += _count_file(path, counted, notes)
    predicted = [location for location in locations if location.predicted[0]]
    if predicted and len(predicted) < len(locations):
        raise DataError(
            f"some sources have {PREDICTIONS} and some have none; expected all or none", "convert them separately"
        )
    return counted.pictures(sources, partial(_reading, locations, counted), notes)


def _count_file(path: Path, counted: Counted, notes: list[str]) -> Iterator[_Location]:
    names = _names(path.with_name(ROWS))
    predictions = path.with_name(PREDICTIONS)
    predicted = _predicted(predictions) if predictions.exists() else None
    offsets, unnamed = [], 0
    for line in read_lines(path):
        offsets.append(line.offset)
        key, regions, width = _counted_line(line)
        if names is not None and line.number - 1 not in names:
            unnamed += 1
            continue
        if predicted is not None and key not in predicted:
            raise DataError(f"{line.where} is of picture {key}, which {predictions} lacks", FETCH_AGAIN)
        counted.add(key if names is None else names[line.number - 1], regions, width, line.where)
        yield _Location(path, line.number, line.offset, predictions, predicted[key] if predicted else (0, 0))
    if names and max(names) >= len(offsets):
        raise DataError(
            f"{path.with_name(ROWS)} names line {max(names)} of {path}, which has {len(offsets)}", FETCH_AGAIN
        )
    if unnamed:
        notes.append(f"{unnamed:,} lines of {path} are left out: {ROWS} names no picture for them")
    _expect_offsets(path.with_suffix(OFFSETS), offsets)


def _counted_line(line: Line) -> tuple[str, int, int]:
    if len(line.fields) != 3:
        raise DataError(
            f"{line.where} has {len(line.fields)} fields; expected a key, num_boxes and features", FETCH_AGAIN
        )
    if line.number == 1 and not line.ended:
        raise DataError(f"{line.where} has no end", FETCH_AGAIN)
    regions = line.whole(1, "num_boxes")
    return line.text(0, "the key"), regions, line.width(2, regions, "features")


def _names(path: Path) -> dict[int, str] | None:
    """Picture of each line, from 0."""
    if not path.exists():
        return None
    content = read_json(path)
    rows = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(row, int) and not isinstance(row, bool) and row >= 0 for row in rows):
        raise DataError(f"{path} is not an object of picture ids and line numbers")
    names: dict[int, str] = {}
    for name, row in content.items():
        if row in names:
            raise DataError(f"{path} gives line {row} to both {names[row]} and {name}; expected every line once")
        names[row] = name
    return names


def _predicted(path: Path) -> dict[str, tuple[int, int]]:
    """Line number and first byte of each picture's boxes."""
    found: dict[str, tuple[int, int]] = {}
    for line in read_lines(path):
        key = line.text(0, "the key")
        if len(line.fields) != 2 or key in found:
            raise DataError(f"{line.where} should hold a key that was not there before, and JSON", FETCH_AGAIN)
        found[key] = (line.number, line.offset)
    return found


def _expect_offsets(path: Path, offsets: list[int]) -> None:
    """Hold the lines found against the index that was written with them: it tells when some are missing."""
    if not path.exists():
        return
    lines = read_bytes(path).split()
    if len(lines) < len(offsets):
        raise DataError(f"{path} has {len(lines):,} lines; the features have {len(offsets):,}", FETCH_AGAIN)
    for number, line in enumerate(lines, start=1):
        expected = offsets[number - 1] if number <= len(offsets) else None
        if not line.isdigit() or len(line) > 18 or int(line) != expected:
            raise DataError(
                f"{path}, line {number} says {line[:40]!r}, but line {number} of the features "
                f"{'is missing' if expected is None else f'starts at byte {expected}'}",
                FETCH_AGAIN,
            )


@contextmanager
def _reading(locations: list[_Location], counted: Counted) -> Iterator[ReadPicture]:
    with ExitStack() as stack:
        paths = [
            path
            for location in locations
            for path in (location.features, location.predictions)[: 1 + bool(location.predicted[0])]
        ]
        files = {path: stack.enter_context(opened(path)) for path in dict.fromkeys(paths)}

        def read(row: int) -> Regions:
            location = locations[row]
            line = read_again(files[location.features], location.features, location.number, location.offset)
            key, regions, _ = _counted_line(line)
            features = line.floats(2, regions, counted.feature_dim, "features")
            if not location.predicted[0]:
                return Regions(features)
            boxes, size = _boxes(
                read_again(files[location.predictions], location.predictions, *location.predicted), key, regions
            )
            return Regions(features, boxes, size)

        yield read


def _boxes(line: Line, key: str, regions: int) -> tuple[Array, tuple[float, float] | None]:
    """(n, 4) boxes and the size of a picture, from its predictions."""
    try:
        found = json.loads(line.fields[-1])
        rects = [item["rect"] for item in found["objects"]]
        size = (found["image_w"], found["image_h"]) if "image_w" in found else None
    except (ValueError, TypeError, KeyError, RecursionError) as fault:
        raise DataError(
            f"{line.where} ({key}) is not JSON with a rect for each of its objects", FETCH_AGAIN
        ) from fault
    numbers = [
        number for rect in [*rects, size or ()] for number in (rect if isinstance(rect, list | tuple) else [None])
    ]
    if not all(_is_number(number) for number in numbers) or any(len(rect) != 4 for rect in rects):
        raise DataError(f"{line.where} ({key}) has a rect or a size that is not made of numbers", FETCH_AGAIN)
    if len(rects) != regions:
        raise DataError(f"{line.where} ({key}) has {len(rects)} objects; its features have {regions}", FETCH_AGAIN)
    return np.array(rects, dtype=np.float32), None if size is None else (float(size[0]), float(size[1]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
