"""Keep finished pictures on disk while an extraction runs, so that it can be killed anywhere and go on."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any

from selfalign_cli.data.atomic import replacing
from selfalign_cli.data.formats.extraction import (
    FEATURES,
    FORMAT,
    HEADER,
    LINES,
    VERSION,
    end_of_features,
    read_header,
    whole_lines,
)
from selfalign_cli.errors import DataError
from selfalign_cli.extract.regions import PictureRegions


def start_spool(folder: Path, header: dict[str, Any], *, resume: bool) -> None:
    """Make the folder of an extraction, or make sure that the one that is there is of the same extraction.

    Args:
        folder: the folder.
        header: what decides the numbers: the extractor's identity, its labels; and the folder of the pictures.
        resume: go on with a folder that is there.

    Raises:
        DataError: there is one and `resume` is off; or it was begun with another extractor.
    """
    whole = {"format": FORMAT, "version": VERSION, **header}
    if (folder / HEADER).exists():
        if not resume:
            raise DataError(f"{folder} holds an extraction that has not ended", "add --resume, or remove that folder")
        known = read_header(folder)
        changed = [key for key in whole if known.get(key) != whole[key]]
        if changed:
            raise DataError(
                f"{folder} was begun with another {', '.join(changed)}:\n"
                + "\n".join(f"  {key}: {known.get(key)}, now {whole[key]}" for key in changed),
                "extract with the same options, or remove that folder",
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / HEADER) as temporary:
        temporary.write_text(json.dumps(whole), encoding="utf-8")


def end_spool(folder: Path) -> None:
    """Remove the folder; lines first, so that none is left without the header that says what made them."""
    for lines in folder.glob(f"*{LINES}"):
        lines.unlink()
    shutil.rmtree(folder)


class SpoolPart:
    """What one process adds to an extraction: a file of features and one of lines, both only appended to.

    Args:
        folder: of the extraction.
        name: of this process among those that share the folder.
        run: number of this run; lines of a later one count before those of an earlier one.
    """

    def __init__(self, folder: Path, name: str, run: int) -> None:
        lines, features = folder / f"{name}{LINES}", folder / f"{name}{FEATURES}"
        kept_lines = kept_features = 0
        if lines.exists():
            for line in whole_lines(lines):
                kept_lines = line.end
                kept_features = max(kept_features, end_of_features(line.content))
        self._run = run
        self._lines, self._features = (open(path, "ab") for path in (lines, features))
        self._lines.truncate(kept_lines)
        self._features.truncate(kept_features)
        self._offset = kept_features

    def __enter__(self) -> SpoolPart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None
    ) -> None:
        self._features.close()
        self._lines.close()

    def add(self, image_id: str, stamp: tuple[int, int], size: tuple[int, int], found: PictureRegions) -> None:
        """Keep a picture: its features first, then the line that makes them count."""
        content = found.features.astype("<f4", copy=False).tobytes()
        self._features.write(content)
        self._features.flush()
        self._write_line(
            image_id,
            stamp,
            offset=self._offset,
            shape=list(found.features.shape),
            crc=zlib.crc32(content),
            size=list(size),
            boxes=found.boxes.tolist(),
            scores=found.scores.tolist(),
            labels=found.labels.tolist(),
        )
        self._offset += len(content)

    def add_unreadable(self, image_id: str, stamp: tuple[int, int], reason: str) -> None:
        """Note that a picture cannot be decoded or described."""
        self._write_line(image_id, stamp, unreadable=reason)

    def add_gone(self, image_id: str) -> None:
        """Note that a picture, finished by an earlier run, is not asked for any more."""
        self._write_line(image_id, (0, 0), gone=True)

    def _write_line(self, image_id: str, stamp: tuple[int, int], **content: Any) -> None:
        line = {"id": image_id, "bytes": stamp[0], "modified": stamp[1], "run": self._run, **content}
        self._lines.write(json.dumps(line).encode() + b"\n")
        self._lines.flush()


def stamp_of(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change of a file: what tells whether it is still the one that was looked at.

    Zeros for a file that is gone, or a link that leads nowhere.
    """
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
