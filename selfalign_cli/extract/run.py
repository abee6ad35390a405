"""`selfalign extract`: pictures → regions on disk, in an order that can be taken up again → the feature file."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign_cli import parallel
from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.data.convert import Conversion, convert_to_feature_file
from selfalign_cli.data.features.writer import Precision
from selfalign_cli.data.formats.extraction import finished_pictures
from selfalign_cli.data.progress import Progress, no_progress
from selfalign_cli.errors import DataError
from selfalign_cli.extract.pictures import Picture, PictureFile, UnreadableError, decode, find_pictures
from selfalign_cli.extract.regions import Extractor
from selfalign_cli.extract.spool import SpoolPart, stamp_of, start_spool

AHEAD = 4
"""Pictures that each decoding thread may be ahead of the one that is looked at."""
DECODED_PIXELS = 1 << 20
"""JPEGs are decoded no larger than four times this, whatever the extractor resizes them to."""


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, counted from 1: every count-th picture."""

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.number}-of-{self.count}"


@dataclass(frozen=True)
class Extraction:
    """What an extraction did.

    Attributes:
        pictures: that were named.
        reused: of those of this process, that were finished before, by a run that was stopped.
        unreadable: id and reason of each that could not be decoded.
        parts: the folder with what is finished, where this was one shard of several; else None.
        conversion: the feature file that was written; None for one shard of several.
    """

    pictures: int
    reused: int
    unreadable: list[tuple[str, str]]
    parts: Path | None
    conversion: Conversion | None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "pictures": self.pictures,
            "reused": self.reused,
            "unreadable": [{"id": image_id, "reason": reason} for image_id, reason in self.unreadable],
            "parts": None if self.parts is None else str(self.parts),
            "features": None if self.conversion is None else self.conversion.to_dict(),
        }


def extract_pictures(
    sources: Sequence[Path],
    out: Path,
    extractor: Extractor,
    *,
    captions: Path | None = None,
    splits: Sequence[str] = (),
    skip_uncaptioned: bool = False,
    dtype: Precision = "float32",
    workers: int = 1,
    shard: Shard | None = None,
    resume: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Extraction:
    """Look at every picture once, and write the feature file.

    Finished pictures are kept beside `out` until it is written, in `.NAME.parts`: a run that was killed goes on with
    `resume`, and pictures that are finished and unchanged are not read again. The feature file is that of an unbroken
    run, byte for byte, on one device.

    Args:
        sources: see `find_pictures`.
        out: the feature file.
        extractor: what looks at them.
        captions: a captions file, or None for pictures only.
        splits: see `convert_to_feature_file`.
        skip_uncaptioned: leave out pictures that the captions file does not know.
        dtype: type in which features are stored.
        workers: threads that decode pictures ahead.
        shard: look at a part of the pictures only and write no feature file; None for all, or, under `torchrun`, for
            the part of this process.
        resume: go on with what an earlier run left.
        strict: a picture that cannot be decoded is an error.
        overwrite: replace an existing feature file.
        progress: shows how far it is.

    Raises:
        DataError: no pictures, none that can be decoded, or one with `strict`; another extraction was begun here.
    """
    refuse_existing(out, overwrite)
    pictures = find_pictures(sources)
    parts = out.with_name(f".{out.name}.parts")
    own = shard or Shard(parallel.rank() + 1, parallel.world_size())
    header = {"extractor": extractor.identity(), "label_names": extractor.label_names, "pictures": _root(sources)}
    if parallel.rank() == 0:
        start_spool(parts, header, resume=resume or shard is not None)
    parallel.barrier()
    known = {name: found.stamp for name, found in finished_pictures(parts).items()}
    shard_of_all = pictures[own.number - 1 :: own.count]
    mine = [picture for picture in shard_of_all if known.get(picture.image_id) != stamp_of(picture.path)]
    with SpoolPart(parts, own.name) as part, progress("extract: pictures", len(mine)) as advance:
        for picture, found in _decoded_ahead(mine, workers):
            _look_at(picture, found, extractor, part, strict)
            advance(1)
    parallel.barrier()
    wanted = {picture.image_id for picture in pictures}
    finished = {name: found for name, found in finished_pictures(parts).items() if name in wanted}
    bad = sorted((name, found.unreadable) for name, found in finished.items() if found.unreadable is not None)
    reused = len(shard_of_all) - len(mine)
    if shard is not None and shard.count > 1:
        return Extraction(len(pictures), reused, bad, parts, None)
    if len(bad) == len(pictures):
        raise DataError(f"none of the {len(pictures):,} pictures can be decoded; the first, {bad[0][0]}: {bad[0][1]}")
    conversion = None
    if parallel.rank() == 0:
        conversion = convert_to_feature_file(
            [parts],
            out,
            format="extraction",
            captions=captions,
            splits=splits,
            dtype=dtype,
            overwrite=overwrite,
            skip_uncaptioned=skip_uncaptioned,
            progress=progress,
        )
        shutil.rmtree(parts)
    return Extraction(len(pictures), reused, bad, None, conversion)


def _look_at(
    picture: PictureFile, found: Picture | UnreadableError, extractor: Extractor, part: SpoolPart, strict: bool
) -> None:
    stamp = stamp_of(picture.path)
    if isinstance(found, Picture):
        part.add(picture.image_id, stamp, found.size, extractor.regions(found))
        return
    if strict:
        raise DataError(f"{picture.path}: {found}", "leave out --strict to go on without such pictures")
    part.add_unreadable(picture.image_id, stamp, str(found))


def _decoded_ahead(
    pictures: Sequence[PictureFile], workers: int
) -> Iterator[tuple[PictureFile, Picture | UnreadableError]]:
    """Yield pictures in order while threads decode the next ones."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: deque[tuple[PictureFile, Future[Picture | UnreadableError]]] = deque()
        try:
            for picture in pictures:
                waiting.append((picture, pool.submit(_decoded, picture.path)))
                if len(waiting) > AHEAD * max(1, workers):
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        finally:
            for _, result in waiting:
                result.cancel()


def _decoded(path: Path) -> Picture | UnreadableError:
    try:
        return decode(path, pixels_wanted=DECODED_PIXELS)
    except UnreadableError as fault:
        return fault


def _root(sources: Sequence[Path]) -> str:
    """The folder below which ids are paths; empty where several sources were named."""
    return str(sources[0].resolve()) if len(sources) == 1 and sources[0].is_dir() else ""
