"""Turn region features of any known format into one feature file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from selfalign_cli.data.atomic import refuse_existing
from selfalign_cli.data.features.output import remove_abandoned
from selfalign_cli.data.features.records import ConversionPlan
from selfalign_cli.data.features.stored import starts_as_hdf5
from selfalign_cli.data.features.writer import Precision, write_feature_file
from selfalign_cli.data.formats import plan_conversion
from selfalign_cli.data.formats.pictures import named
from selfalign_cli.data.progress import Progress, no_progress
from selfalign_cli.data.sandbox import run_in_child
from selfalign_cli.errors import DataError


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


def convert_to_feature_file(
    sources: Sequence[Path],
    out: Path,
    *,
    format: str = "auto",
    captions: Path | None = None,
    splits: Sequence[str] = (),
    dtype: Precision = "float32",
    overwrite: bool = False,
    skip_uncaptioned: bool = False,
    progress: Progress = no_progress,
) -> Conversion:
    """Convert sources to one feature file, streaming; in a child process where the HDF5 library reads them.

    Args:
        sources: files or folders of one format.
        out: the feature file to make.
        format: a key of `formats.READERS`, or `auto`.
        captions: a captions file, for formats without captions of their own; None for pictures only.
        splits: splits to convert; none for all. Where there are no splits, the name of the only one.
        dtype: type in which features are stored.
        overwrite: replace an existing file.
        skip_uncaptioned: leave out pictures that the captions file does not know, in place of an error.
        progress: shows how far the conversion is.

    Raises:
        DataError: a source is faulty, `out` exists already, or it does not fit on its disk.
        RunError: the disk became full, or a source was changed meanwhile.
    """
    work = partial(
        _convert,
        sources,
        out,
        format=format,
        captions=captions,
        splits=splits,
        dtype=dtype,
        overwrite=overwrite,
        skip_uncaptioned=skip_uncaptioned,
    )
    if not any(map(starts_as_hdf5, sources)):
        return work(progress)
    try:
        read = [*sources, *([] if captions is None else [captions])]
        size = sum(path.stat().st_size for path in read if path.is_file())
        return run_in_child(work, source=named(sources), size=size, progress=progress)
    except BaseException:
        remove_abandoned(out)
        raise


def _convert(
    sources: Sequence[Path],
    out: Path,
    progress: Progress,
    *,
    format: str,
    captions: Path | None,
    splits: Sequence[str],
    dtype: Precision,
    overwrite: bool,
    skip_uncaptioned: bool,
) -> Conversion:
    refuse_existing(out, overwrite)
    plan = plan_conversion(sources, captions, format, splits, skip_unknown=skip_uncaptioned)
    _require_space(out, plan, dtype)
    with progress("convert: pictures", plan.total_images) as advance:
        content_hash = write_feature_file(
            out,
            plan.records(),
            total_images=plan.total_images,
            total_regions=plan.total_regions,
            feature_dim=plan.feature_dim,
            dtype=dtype,
            source=plan.source,
            origin=plan.origin,
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


def _require_space(out: Path, plan: ConversionPlan, dtype: Precision) -> None:
    """Refuse a conversion that the disk cannot hold; an old file of the same name stays until the new one is whole."""
    needed = plan.total_regions * plan.feature_dim * np.dtype(dtype).itemsize
    folder = next(filter(Path.is_dir, out.absolute().parents), None)
    free = needed if folder is None else shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"there is no room for {out}: {plan.total_regions:,} regions of {plan.feature_dim} numbers in {dtype} "
            f"take {needed / 1e6:,.1f} MB, and its disk has {free / 1e6:,.1f} MB left",
            "free some space, write to another disk, or convert with --dtype float16 or fewer --splits",
        )
