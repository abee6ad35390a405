"""Turn region features of any known format into one feature file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.data.feature_writer import Precision, write_feature_file
from selfalign_cli.data.formats import plan_conversion

Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]


@dataclass(frozen=True)
class Conversion:
    """What a conversion made.

    Attributes:
        path: the feature file.
        format: format of the sources.
        splits: pictures per split.
        regions: number of regions.
        feature_dim: width of a region.
        dtype: type in which features are stored.
        content_hash: SHA-256 (hex) over regions, captions and ids.
        notes: what the user should know, one sentence each.
    """

    path: str
    format: str
    splits: dict[str, int]
    regions: int
    feature_dim: int
    dtype: str
    content_hash: str
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


@contextmanager
def no_progress(description: str, total: int) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda count: None


def convert_to_feature_file(
    sources: Sequence[Path],
    out: Path,
    *,
    format: str = "auto",
    captions: Path | None = None,
    splits: Sequence[str] = (),
    dtype: Precision = "float32",
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Conversion:
    """Convert sources to one feature file, streaming.

    Args:
        sources: files or folders of one format.
        out: the feature file to make.
        format: a key of `formats.READERS`, or `auto`.
        captions: a captions file, for formats without captions of their own.
        splits: splits to convert; none for all. Where the captions know no splits, the name of the only one.
        dtype: type in which features are stored.
        overwrite: replace an existing file.
        progress: shows how far the conversion is.

    Raises:
        DataError: a source is faulty, or `out` exists already.
        RunError: the disk is full, or a source was changed meanwhile.
    """
    refuse_existing(out, overwrite)
    plan = plan_conversion(sources, captions, format, splits)
    with progress("convert: pictures", plan.total_images) as advance:
        content_hash = write_feature_file(
            out,
            plan.records(),
            total_images=plan.total_images,
            total_regions=plan.total_regions,
            feature_dim=plan.feature_dim,
            dtype=dtype,
            source=plan.source,
            overwrite=overwrite,
            on_image=advance,
        )
    return Conversion(
        path=str(out),
        format=plan.format,
        splits=plan.splits,
        regions=plan.total_regions,
        feature_dim=plan.feature_dim,
        dtype=dtype,
        content_hash=content_hash,
        notes=plan.notes,
    )
