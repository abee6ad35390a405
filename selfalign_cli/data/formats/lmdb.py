"""LMDB (ViLBERT, MMF) is recognised and declined: its rows are pickles in a database of another library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from selfalign_cli.data.records import ConversionPlan
from selfalign_cli.errors import DataError

DATA = "data.mdb"


def recognises(source: Path) -> bool:
    """Whether a path is a folder with `data.mdb`, or that file."""
    return source.name == DATA or (source.is_dir() and (source / DATA).exists())


def plan_conversion(
    sources: Sequence[Path], captions: Path | None = None, splits: Sequence[str] = ()
) -> ConversionPlan:
    """Say what to do instead.

    Raises:
        DataError: always.
    """
    raise DataError(
        f"{sources[0]} is an LMDB database, which is not read: its rows are pickles, and may run code",
        "convert the detector's TSV or .npy files that it was made from; or, if you trust it, write each row with "
        "numpy.savez as ID.npz with feat, bbox, image_w and image_h, and convert that folder",
    )
