"""Our own feature file as a source: another precision, some splits only, other captions, several files in one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.features.layout import FORMAT
from selfalign_cli.data.features.origin import Origin, require_same_extractor
from selfalign_cli.data.features.records import ConversionPlan, ImageRecord
from selfalign_cli.data.formats.caption_join import join
from selfalign_cli.data.formats.foreign_hdf5 import opened_hdf5
from selfalign_cli.data.formats.pictures import Counted, Pictures, ReadPicture, Regions, named
from selfalign_cli.errors import DataError

NAME = "selfalign"
"""Name of the format."""

_Part = tuple[FeatureFile, str]


def recognises(source: Path) -> bool:
    """Whether a path is an HDF5 file with the format of a feature file."""
    if not source.is_file():
        return False
    try:
        with opened_hdf5(source) as file:
            if "format" not in file.attrs or file.attrs.get_id("format").dtype.kind != "S":
                return False
            return bytes(file.attrs["format"]) == FORMAT.encode()
    except DataError:
        return False


def plan_conversion(
    sources: Sequence[Path], captions: Path | None = None, splits: Sequence[str] = (), skip_unknown: bool = False
) -> ConversionPlan:
    """Plan to copy splits of feature files.

    Args:
        sources: feature files; a split may be in one of them only.
        captions: a captions file that replaces their captions and splits.
        splits: splits to copy; none for all.
        skip_unknown: leave out pictures that the captions file does not know, in place of an error.

    Raises:
        DataError: a file is damaged, or a split is missing or occurs twice.
    """
    files = [FeatureFile(path) for path in sources]
    if captions is not None:
        return join(NAME, _pictures(sources, files), captions, splits, skip_unknown=skip_unknown)
    available = [(file, split) for file in files for split in file.facts.splits]
    names = [split for _, split in available]
    missing = [name for name in splits if name not in names]
    if missing:
        raise DataError(f"{named(sources)} has no split {missing[0]!r}; it has {', '.join(names)}")
    parts = [(file, split) for file, split in available if not splits or split in splits]
    chosen = [split for _, split in parts]
    if len(set(chosen)) < len(chosen):
        raise DataError(
            f"several sources hold the split {next(s for s in chosen if chosen.count(s) > 1)}; expected one"
        )
    if len({file.feature_dim for file, _ in parts}) > 1:
        raise DataError(f"the sources have regions of different widths: {[file.feature_dim for file in files]}")
    rows = [(file, file.facts.splits[split]) for file, split in parts]
    return ConversionPlan(
        format=NAME,
        source=named(sources),
        feature_dim=parts[0][0].feature_dim,
        splits={split: len(file.facts.splits[split]) for file, split in parts},
        total_regions=sum(int(file.facts.offsets[part.stop] - file.facts.offsets[part.start]) for file, part in rows),
        records=partial(_records, parts),
        origin=_origin([file for file, _ in parts]),
    )


def _records(parts: list[_Part]) -> Iterator[ImageRecord]:
    for file, split in parts:
        order = np.argsort(file.facts.caption_image, kind="stable")
        ends = np.concatenate([[0], np.cumsum(np.bincount(file.facts.caption_image, minlength=len(file)))])
        for row in file.facts.splits[split]:
            captions = order[ends[row] : ends[row + 1]].tolist()
            regions = _regions(file, row)
            yield ImageRecord(
                image_id=file.image_ids[row],
                features=regions.features,
                split=split,
                captions=[file.captions[caption] for caption in captions],
                caption_ids=None if file.caption_ids is None else [file.caption_ids[caption] for caption in captions],
                boxes=regions.boxes,
                size=regions.size,
                file_name=None if file.file_names is None else file.file_names[row],
                scores=regions.scores,
                labels=regions.labels,
            )


def _regions(file: FeatureFile, row: int) -> Regions:
    size = None if file.facts.image_size is None else file.facts.image_size[row].tolist()
    return Regions(
        file.regions(row),
        file.boxes(row),
        None if size is None else (size[0], size[1]),
        file.scores(row),
        file.labels(row),
    )


def _origin(files: Sequence[FeatureFile]) -> Origin | None:
    """What made the regions of all files.

    Raises:
        DataError: several extractors did.
    """
    first = files[0]
    for file in files[1:]:
        require_same_extractor(file.extractor, first.extractor, what=str(file.path), others=str(first.path))
        if (file.extractor is None) != (first.extractor is None):
            raise DataError(f"only one of {first.path} and {file.path} says which extractor made it")
    return first.origin


def _pictures(sources: Sequence[Path], files: list[FeatureFile]) -> Pictures:
    counted = Counted()
    locations: list[tuple[FeatureFile, int]] = []
    for path, file in zip(sources, files, strict=True):
        for row, (name, count) in enumerate(zip(file.image_ids, np.diff(file.facts.offsets).tolist(), strict=True)):
            counted.add(name, count, file.feature_dim, f"{path}, row {row}")
            locations.append((file, row))

    @contextmanager
    def reading() -> Iterator[ReadPicture]:
        yield lambda row: _regions(*locations[row])

    return replace(counted.pictures(sources, reading), origin=_origin(files))
