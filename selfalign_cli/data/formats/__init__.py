"""The feature formats that can be converted. A new one is a reader module and one line in `READERS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign_cli.data.formats import scan
from selfalign_cli.data.records import ConversionPlan
from selfalign_cli.errors import DataError


@dataclass(frozen=True)
class Reader:
    """One foreign format.

    Attributes:
        describes: what a source of this format looks like, for messages.
        recognises: whether a path looks like a source of this format; cheap, never raises on damaged files.
        plan: read what is needed to know sizes: (sources, captions file or None) -> plan.
    """

    describes: str
    recognises: Callable[[Path], bool]
    plan: Callable[[Sequence[Path], Path | None], ConversionPlan]


READERS: dict[str, Reader] = {
    "scan": Reader("a folder with SPLIT_ims.npy and SPLIT_caps.txt", scan.recognises, scan.plan_conversion),
}


def plan_conversion(sources: Sequence[Path], captions: Path | None = None, format: str = "auto") -> ConversionPlan:
    """Find out what the sources hold.

    Args:
        sources: files or folders, all of one format.
        captions: a captions file, for formats that have none of their own.
        format: a key of READERS, or `auto`.

    Raises:
        DataError: a source is missing, damaged, or of no known format.
    """
    if not sources:
        raise DataError("there is nothing to convert; name a folder or file of features")
    if format == "auto":
        found = {_detect(source) for source in sources}
        if len(found) > 1:
            raise DataError(
                f"the sources are of different formats: {', '.join(sorted(found))}", "convert one at a time"
            )
        format = found.pop()
    if format not in READERS:
        raise DataError(f"there is no feature format {format!r}; expected auto, {', '.join(READERS)}")
    return READERS[format].plan(sources, captions)


def _detect(source: Path) -> str:
    if not source.exists():
        raise DataError(f"there is no file or folder {source}")
    for name, reader in READERS.items():
        if reader.recognises(source):
            return name
    known = "\n".join(f"  {name}: {reader.describes}" for name, reader in READERS.items())
    raise DataError(f"{source} is of no known feature format; expected one of\n{known}")
