"""`selfalign extract`: pictures → regions on disk, in an order that can be taken up again → the feature file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from selfalign_cli import parallel
from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.data.convert import Conversion, convert_to_feature_file
from selfalign_cli.data.features.writer import Precision
from selfalign_cli.data.formats.extraction import Finished, finished_pictures
from selfalign_cli.data.progress import Progress, no_progress
from selfalign_cli.errors import DataError
from selfalign_cli.extract.pictures import Picture, PictureFile, UnreadableError, decode, find_pictures
from selfalign_cli.extract.regions import Extractor
from selfalign_cli.extract.spool import SpoolPart, end_spool, stamp_of, start_spool
from selfalign_cli.launch import launched, restarts

PATIENCE = timedelta(days=7)
"""How long processes that are done with their pictures wait for the others, and for the feature file."""
AHEAD = 4
"""Pictures that each decoding thread may be ahead of the one that is looked at."""


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
        unreadable: id and reason of each that could not be decoded or described.
        parts: the folder with what is finished, where this was one shard of several; else None.
        conversion: the feature file that was written; None for one shard of several, and for all processes of a
            `torchrun` but the first.
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
    parts = out.with_name(f".{out.name}.parts")
    resume = resume or restarts() > 0
    overwrite = overwrite or (resume and parts.is_dir())  # a run killed once its file had its name
    refuse_existing(out, overwrite)
    if shard is not None and launched():
        raise DataError("--shard is for processes that are started one by one", "leave it out under torchrun")
    pictures = find_pictures(sources)
    header = {"extractor": extractor.identity(), "label_names": extractor.label_names, "pictures": _root(sources)}
    write = partial(
        convert_to_feature_file,
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
    with parallel.process_group(patience=PATIENCE):
        own = shard or Shard(parallel.rank() + 1, parallel.world_size())
        if parallel.rank() == 0:
            start_spool(parts, header, resume=resume or shard is not None)
        parallel.barrier()
        reused = _look_at_all(pictures, own, extractor, parts, workers=workers, strict=strict, progress=progress)
        parallel.barrier()
        is_partial = shard is not None and shard.count > 1
        return _ended(pictures, parts, reused, None if is_partial else write)


def _ended(
    pictures: Sequence[PictureFile], parts: Path, reused: int, write: Callable[[], Conversion] | None
) -> Extraction:
    """Write the feature file, unless others have to end first, and tell what was done."""
    finished = finished_pictures(parts)
    bad = sorted((name, found.unreadable) for name, found in finished.items() if found.unreadable is not None)
    if write is None:
        return Extraction(len(pictures), reused, bad, parts, None)
    if len(bad) == len(pictures):
        raise DataError(f"none of the {len(pictures):,} pictures can be read; the first, {bad[0][0]}: {bad[0][1]}")
    conversion = None
    if parallel.rank() == 0:
        conversion = write()
        end_spool(parts)
    return Extraction(len(pictures), reused, bad, None, conversion)


def _look_at_all(
    pictures: Sequence[PictureFile],
    own: Shard,
    extractor: Extractor,
    parts: Path,
    *,
    workers: int,
    strict: bool,
    progress: Progress,
) -> int:
    """Look at the pictures of a shard that are not finished; tell how many were."""
    finished = finished_pictures(parts)
    shard = pictures[own.number - 1 :: own.count]
    mine = [one for one in shard if _stamp(finished.get(one.image_id)) != stamp_of(one.path)]
    gone = sorted(finished.keys() - {picture.image_id for picture in pictures})
    run = 1 + max((found.run for found in finished.values()), default=0)
    with SpoolPart(parts, own.name, run) as part, progress("extract: pictures", len(mine)) as advance:
        for image_id in gone if own.number == 1 else []:
            part.add_gone(image_id)
        for picture, found in _decoded_ahead(mine, workers, extractor.pixels_wanted):
            _look_at(picture, found, extractor, part, strict)
            advance(1)
    return len(shard) - len(mine)


def _stamp(finished: Finished | None) -> tuple[int, int] | None:
    return None if finished is None else finished.stamp


def _look_at(
    picture: PictureFile, found: Picture | UnreadableError, extractor: Extractor, part: SpoolPart, strict: bool
) -> None:
    """Keep the regions of a picture, or the reason why there are none."""
    stamp = stamp_of(picture.path)
    try:
        if isinstance(found, UnreadableError):
            raise found
        part.add(picture.image_id, stamp, found.size, extractor.regions(found))
    except UnreadableError as fault:
        if strict:
            raise DataError(f"{picture.path}: {fault}", "leave out --strict to go on without such pictures") from fault
        part.add_unreadable(picture.image_id, stamp, str(fault))


def _decoded_ahead(
    pictures: Sequence[PictureFile], workers: int, pixels_wanted: int | None
) -> Iterator[tuple[PictureFile, Picture | UnreadableError]]:
    """Yield pictures in order while threads decode the next ones."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: deque[tuple[PictureFile, Future[Picture | UnreadableError]]] = deque()
        try:
            for picture in pictures:
                waiting.append((picture, pool.submit(_decoded, picture.path, pixels_wanted)))
                if len(waiting) > AHEAD * max(1, workers):
                    first, result = waiting.popleft()
                    yield first, result.result()
            while waiting:
                first, result = waiting.popleft()
                yield first, result.result()
        finally:
            for _, result in waiting:
                result.cancel()


def _decoded(path: Path, pixels_wanted: int | None) -> Picture | UnreadableError:
    try:
        return decode(path, pixels_wanted=pixels_wanted)
    except UnreadableError as fault:
        return fault


def _root(sources: Sequence[Path]) -> str:
    """The folder below which ids are paths; empty where several sources were named."""
    return str(sources[0].resolve()) if len(sources) == 1 and sources[0].is_dir() else ""
