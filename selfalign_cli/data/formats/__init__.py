"""The feature formats that can be converted. A new one is a reader module and one line in `READERS`.

Sources in HDF5 are read in a child process (see `convert`), for their library may crash: nothing here guards itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfalign_cli.data.features.records import ConversionPlan
from selfalign_cli.data.formats import (
    bua_tsv,
    butd_hdf5,
    extraction,
    lmdb,
    nocaps_hdf5,
    own_layout,
    per_image,
    picture_hdf5,
    scan,
    vinvl_tsv,
)
from selfalign_cli.data.formats.caption_join import with_captions
from selfalign_cli.data.formats.picture_names import holds_pictures
from selfalign_cli.errors import DataError, reason_of


@dataclass(frozen=True)
class Reader:
    """One foreign format.

    Attributes:
        describes: what a source of this format looks like, for messages.
        recognises: whether a path looks like a source of this format; cheap, never raises on damaged files.
        plan: read what is needed to know sizes: (sources, captions file or None, splits or none for all, whether
            pictures that the captions do not know are left out) -> plan.
    """

    describes: str
    recognises: Callable[[Path], bool]
    plan: Callable[[Sequence[Path], Path | None, Sequence[str], bool], ConversionPlan]


READERS: dict[str, Reader] = {
    "scan": Reader("a folder with SPLIT_ims.npy and SPLIT_caps.txt", scan.recognises, scan.plan_conversion),
    "selfalign": Reader("a feature file of convert-features", own_layout.recognises, own_layout.plan_conversion),
    "bua-tsv": Reader(
        "a TSV of a bottom-up-attention detector, LXMERT or ViLBERT",
        bua_tsv.recognises,
        with_captions("bua-tsv", bua_tsv.open_pictures),
    ),
    "vinvl-tsv": Reader(
        "VinVL's features.tsv, or a folder with it",
        vinvl_tsv.recognises,
        with_captions("vinvl-tsv", vinvl_tsv.open_pictures),
    ),
    "extraction": Reader(
        "a folder that `selfalign extract --shard` left",
        extraction.recognises,
        with_captions("extraction", extraction.open_pictures),
    ),
    "per-image": Reader(
        "a folder with a .npz or .npy file for each picture",
        per_image.recognises,
        with_captions("per-image", per_image.open_pictures),
    ),
    "butd-hdf5": Reader(
        "HDF5 with image_features, beside NAME_imgid2idx.pkl",
        butd_hdf5.recognises,
        with_captions("butd-hdf5", butd_hdf5.open_pictures),
    ),
    "nocaps-hdf5": Reader(
        "HDF5 with image_id and features",
        nocaps_hdf5.recognises,
        with_captions("nocaps-hdf5", nocaps_hdf5.open_pictures),
    ),
    "picture-hdf5": Reader(
        "HDF5 with data sets ID_features, or ID, for each picture",
        picture_hdf5.recognises,
        with_captions("picture-hdf5", picture_hdf5.open_pictures),
    ),
}


def plan_conversion(
    sources: Sequence[Path],
    captions: Path | None = None,
    format: str = "auto",
    splits: Sequence[str] = (),
    *,
    skip_unknown: bool = False,
) -> ConversionPlan:
    """Find out what the sources hold.

    Args:
        sources: files or folders, all of one format.
        captions: a captions file, for formats that have none of their own.
        format: a key of READERS, or `auto`.
        splits: splits to convert; none for all. Where there are no splits, the name of the only one.
        skip_unknown: leave out pictures that the captions file does not know, in place of an error.

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
    for source in sources:
        _expect_readable(source)
    return READERS[format].plan(sources, captions, splits, skip_unknown)


def _expect_readable(source: Path) -> None:
    try:
        if source.is_dir():
            os.scandir(source).close()
            return
        with open(source, "rb") as stream:
            if not stream.read(1):
                raise DataError(f"{source} is empty", "fetch it again")
    except FileNotFoundError as fault:
        raise DataError(f"there is no file or folder {source}") from fault
    except (OSError, ValueError) as fault:
        raise DataError(f"cannot read {source}: {reason_of(fault)}") from fault


def _detect(source: Path) -> str:
    _expect_readable(source)
    for name, reader in READERS.items():
        if reader.recognises(source):
            return name
    if lmdb.recognises(source):
        raise lmdb.declined(source)
    if holds_pictures(source):
        raise DataError(
            f"{source} holds pictures, not features of pictures",
            f"look at them with a vision model: selfalign extract {source} --out FILE.h5",
        )
    known = "\n".join(f"  {name}: {reader.describes}" for name, reader in READERS.items())
    raise DataError(f"{source} is of no known feature format; expected one of\n{known}")
