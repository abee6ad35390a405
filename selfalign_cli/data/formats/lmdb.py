"""LMDB (ViLBERT, MMF) is recognised and declined: its rows are pickles in a database of another library."""

from __future__ import annotations

from pathlib import Path

from selfalign_cli.errors import DataError

DATA = "data.mdb"


def recognises(source: Path) -> bool:
    """Whether a path is a folder with `data.mdb`, or that file."""
    return source.name == DATA or (source.is_dir() and (source / DATA).exists())


def declined(source: Path) -> DataError:
    """The error that says what to do instead."""
    return DataError(
        f"{source} is an LMDB database, which is not read: its rows are pickles, and may run code",
        "convert the detector's TSV or .npy files that it was made from; or, if you trust it, write each row with "
        "numpy.savez as ID.npz with feat, bbox, image_w and image_h, and convert that folder",
    )
