"""What `selfalign extract` keeps while it runs: regions of pictures as they were finished, by one process or several.

    header.json     format, version, extractor (its identity), label_names, folder of the pictures
    NAME.bin        float32 region features, picture after picture
    NAME.jsonl      one line a picture, written after its features:
                    id, bytes and modified (of the picture's file), run (how often the extraction was taken up),
                    and either unreadable (a reason), or gone (the picture is no longer asked for), or
                    offset and shape (in NAME.bin), crc (of these bytes), size, boxes, scores, labels

A line that a killed process left incomplete does not count, nor does one without its features. Where several lines
name one picture, the last one of the latest run counts.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from selfalign_cli.data.features.origin import Origin
from selfalign_cli.data.formats.pictures import Counted, Pictures, ReadPicture, Regions
from selfalign_cli.errors import DataError, blaming

FORMAT, VERSION = "selfalign-extraction", 1
HEADER, LINES, FEATURES = "header.json", ".jsonl", ".bin"


@dataclass(frozen=True)
class Finished:
    """A picture that was looked at.

    Attributes:
        image_id: its id.
        stamp: size in bytes and time of change (ns) of its file.
        run: in which run.
        part: file with its line.
        start: first byte of the line.
        shape: number and width of its regions; None where there are none.
        unreadable: why there are none; None where there are, or where the picture is gone.
    """

    image_id: str
    stamp: tuple[int, int]
    run: int
    part: Path
    start: int
    shape: tuple[int, int] | None
    unreadable: str | None


class WholeLine(NamedTuple):
    """A line that a process wrote to its end, and its first byte and the byte behind it."""

    content: dict[str, Any]
    start: int
    end: int


def recognises(source: Path) -> bool:
    """Whether a path is a folder of an extraction."""
    return source.is_dir() and (source / HEADER).is_file()


def read_header(folder: Path) -> dict[str, Any]:
    """What the extraction says about itself.

    Raises:
        DataError: it cannot be read, or is of another version.
    """
    path = folder / HEADER
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise DataError(f"{path} cannot be read: {fault}", "extract again, without --resume") from fault
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("version") != VERSION:
        raise DataError(f"{path} is not the header of an extraction of version {VERSION}", "extract again")
    return found


def whole_lines(path: Path) -> Iterator[WholeLine]:
    """Yield lines up to the first that is incomplete, or whose features are."""
    features = path.with_suffix(FEATURES)
    there = features.stat().st_size if features.exists() else 0
    end = 0
    with path.open("rb") as lines:
        for raw in lines:
            try:
                content = json.loads(raw)
            except ValueError:
                return
            if not raw.endswith(b"\n") or not isinstance(content, dict) or end_of_features(content) > there:
                return
            yield WholeLine(content, end, end + len(raw))
            end += len(raw)


def end_of_features(content: dict[str, Any]) -> int:
    """The byte behind the features that a line tells of; 0 where it tells of none."""
    if "shape" not in content:
        return 0
    with blaming("a line of an extraction is damaged", "extract again"):
        regions, width = content["shape"]
        return int(content["offset"]) + 4 * int(regions) * int(width)


def finished_pictures(folder: Path) -> dict[str, Finished]:
    """All pictures that were looked at, by id.

    Raises:
        DataError: a line does not say what it has to.
    """
    found: dict[str, Finished] = {}
    for part in sorted(folder.glob(f"*{LINES}")):
        for line in whole_lines(part):
            picture = _finished(line, part)
            known = found.get(picture.image_id)
            if known is None or picture.run >= known.run:
                found[picture.image_id] = picture
    return {name: one for name, one in found.items() if one.shape is not None or one.unreadable is not None}


def _finished(line: WholeLine, part: Path) -> Finished:
    content = line.content
    with blaming(f"{part} is damaged", "extract again"):
        stamp = (int(content["bytes"]), int(content["modified"]))
        shape = (int(content["shape"][0]), int(content["shape"][1])) if "shape" in content else None
        unreadable = str(content["unreadable"]) if "unreadable" in content else None
        return Finished(str(content["id"]), stamp, int(content["run"]), part, line.start, shape, unreadable)


def open_pictures(sources: Sequence[Path]) -> Pictures:
    """Count the pictures of an extraction, sorted by id.

    Args:
        sources: one folder.

    Raises:
        DataError: several folders, a damaged header, or no picture that could be decoded.
    """
    if len(sources) != 1:
        raise DataError(f"expected one folder of an extraction, not {len(sources)}", "convert them one by one")
    origin = _origin(sources[0])
    looked_at = sorted(finished_pictures(sources[0]).values(), key=lambda picture: picture.image_id)
    counted = Counted()
    for picture in looked_at:
        if picture.shape is not None:
            counted.add(picture.image_id, *picture.shape, str(picture.part))
    rows = [picture for picture in looked_at if picture.shape is not None]
    bad = frozenset(picture.image_id for picture in looked_at if picture.shape is None)
    notes = [f"{len(bad):,} of {len(looked_at):,} pictures could not be read and are left out"] if bad else []

    @contextmanager
    def reading() -> Iterator[ReadPicture]:
        with ExitStack() as opened:
            files = {part: _Part(part, opened) for part in {picture.part for picture in rows}}
            yield lambda row: files[rows[row].part].regions(rows[row], has_labels=bool(origin.label_names))

    source = origin.pictures or "pictures"  # not the folder of the parts, which is gone when the file is written
    return replace(counted.pictures(sources, reading, notes), source=source, origin=origin, unreadable=bad)


def _origin(folder: Path) -> Origin:
    header = read_header(folder)
    with blaming(f"{folder / HEADER} is damaged", "extract again"):
        return Origin(dict(header["extractor"]), tuple(map(str, header["label_names"])), str(header["pictures"]))


class _Part:
    """The two files of one process, opened."""

    def __init__(self, path: Path, opened: ExitStack) -> None:
        self.path = path
        self.lines: BinaryIO = opened.enter_context(path.open("rb"))
        self.features: BinaryIO = opened.enter_context(path.with_suffix(FEATURES).open("rb"))

    def regions(self, picture: Finished, *, has_labels: bool) -> Regions:
        """Read the regions of a picture."""
        with blaming(f"{self.path}: the regions of {picture.image_id} are damaged", "extract again"):
            self.lines.seek(picture.start)
            line = json.loads(self.lines.readline())
            regions, width = line["shape"]
            self.features.seek(line["offset"])
            content = self.features.read(4 * regions * width)
            if zlib.crc32(content) != line["crc"]:
                raise ValueError("their checksum is another")
            return Regions(
                np.frombuffer(content, np.float32).reshape(regions, width),
                np.asarray(line["boxes"], dtype=np.float32).reshape(regions, 4),
                (float(line["size"][0]), float(line["size"][1])),
                np.asarray(line["scores"], dtype=np.float32),
                np.asarray(line["labels"], dtype=np.int32) if has_labels else None,
            )
