"""What `selfalign extract` keeps while it runs: regions of pictures as they were finished, by one process or several.

    header.json     format, version, extractor (its identity), label_names, folder of the pictures
    NAME.bin        float32 region features, picture after picture
    NAME.jsonl      one line a picture, written after its features:
                    id, bytes and modified (of the picture's file), and either unreadable (a reason), or
                    offset and shape (in NAME.bin), crc (of these bytes), size, boxes, scores, labels

A line that a killed process left incomplete does not count. Where several lines name one picture, the last one counts.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from selfalign_cli.data.features.origin import Origin
from selfalign_cli.data.formats.pictures import Counted, Pictures, ReadPicture, Regions
from selfalign_cli.errors import DataError

FORMAT, VERSION = "selfalign-extraction", 1
HEADER, LINES, FEATURES = "header.json", ".jsonl", ".bin"


@dataclass(frozen=True)
class Finished:
    """A picture that was looked at.

    Attributes:
        image_id: its id.
        stamp: size in bytes and time of change (ns) of its file.
        part: file with the line.
        line: what the line says.
    """

    image_id: str
    stamp: tuple[int, int]
    part: Path
    line: dict[str, Any]

    @property
    def unreadable(self) -> str | None:
        """Why it could not be decoded; None when it was."""
        return self.line.get("unreadable")


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


def whole_lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each line with the byte behind it, up to the first that is incomplete."""
    end = 0
    with path.open("rb") as lines:
        for raw in lines:
            try:
                line = json.loads(raw)
            except ValueError:
                return
            if not raw.endswith(b"\n") or not isinstance(line, dict):
                return
            end += len(raw)
            yield line, end


def finished_pictures(folder: Path) -> dict[str, Finished]:
    """All pictures that were looked at, by id."""
    found: dict[str, Finished] = {}
    for part in sorted(folder.glob(f"*{LINES}")):
        for line, _ in whole_lines(part):
            stamp = (int(line["bytes"]), int(line["modified"]))
            found[str(line["id"])] = Finished(str(line["id"]), stamp, part, line)
    return found


def open_pictures(sources: Sequence[Path]) -> Pictures:
    """Count the pictures of an extraction, sorted by id.

    Args:
        sources: one folder.

    Raises:
        DataError: several folders, a damaged header, or no picture that could be decoded.
    """
    if len(sources) != 1:
        raise DataError(f"expected one folder of an extraction, not {len(sources)}", "convert them one by one")
    header = read_header(sources[0])
    origin = Origin(header["extractor"], tuple(header["label_names"]), header["pictures"])
    looked_at = sorted(finished_pictures(sources[0]).values(), key=lambda picture: picture.image_id)
    counted = Counted()
    for picture in looked_at:
        if picture.unreadable is None:
            regions, width = picture.line["shape"]
            counted.add(picture.image_id, regions, width, str(picture.part))
    rows = [picture for picture in looked_at if picture.unreadable is None]
    bad = len(looked_at) - len(rows)
    notes = [f"{bad:,} of {len(looked_at):,} pictures could not be decoded and are left out"] if bad else []

    @contextmanager
    def reading() -> Iterator[ReadPicture]:
        with ExitStack() as opened:
            files: dict[Path, BinaryIO] = {
                part: opened.enter_context(part.with_suffix(FEATURES).open("rb"))
                for part in {picture.part for picture in rows}
            }
            yield lambda row: _regions(rows[row], files[rows[row].part], has_labels=bool(origin.label_names))

    source = origin.pictures or "pictures"  # not the folder of the parts, which is gone when the file is written
    return replace(counted.pictures(sources, reading, notes), source=source, origin=origin)


def _regions(picture: Finished, features: BinaryIO, *, has_labels: bool) -> Regions:
    line = picture.line
    regions, width = line["shape"]
    features.seek(line["offset"])
    content = features.read(4 * regions * width)
    if len(content) != 4 * regions * width or zlib.crc32(content) != line["crc"]:
        raise DataError(f"{features.name}: the regions of {picture.image_id} are damaged", "extract again")
    return Regions(
        np.frombuffer(content, np.float32).reshape(regions, width),
        np.asarray(line["boxes"], dtype=np.float32).reshape(regions, 4),
        (float(line["size"][0]), float(line["size"][1])),
        np.asarray(line["scores"], dtype=np.float32),
        np.asarray(line["labels"], dtype=np.int32) if has_labels else None,
    )
