"""Bring bare features together with captions from a file of their own: rows in the captions' order, nothing guessed.

An entry of a caption file may go by several names (Karpathy: cocoid, filename, imgid). One kind of name is taken for
the whole source, the one by which most entries are found, so that a small imgid is never mistaken for a cocoid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from selfalign_cli.data.features.records import ConversionPlan, ImageRecord
from selfalign_cli.data.formats.caption_tables import ONLY_SPLIT, CaptionedPicture, CaptionTable, read_whole_table
from selfalign_cli.data.formats.picture_names import PictureNames
from selfalign_cli.data.formats.pictures import Pictures, some_of
from selfalign_cli.data.formats.scan import usual_order
from selfalign_cli.errors import DataError

Plan = Callable[[Sequence[Path], Path | None, Sequence[str], bool], ConversionPlan]


def with_captions(format: str, open_pictures: Callable[[Sequence[Path]], Pictures]) -> Plan:
    """Make a plan function for a format without captions of its own.

    Args:
        format: name of the format.
        open_pictures: counts the pictures of sources.

    Returns:
        A function of sources, captions file or None, splits (none for all), and whether pictures that the captions
        do not know are left out.
    """
    return partial(_plan, format, open_pictures)


def _plan(
    format: str,
    open_pictures: Callable[[Sequence[Path]], Pictures],
    sources: Sequence[Path],
    captions: Path | None,
    splits: Sequence[str] = (),
    skip_unknown: bool = False,
) -> ConversionPlan:
    if captions is None:
        return bare(format, open_pictures(sources), splits)
    return join(format, open_pictures(sources), captions, splits, skip_unknown=skip_unknown)


def bare(format: str, pictures: Pictures, splits: Sequence[str] = ()) -> ConversionPlan:
    """Plan the conversion of pictures without captions, in the order of their source.

    Args:
        format: name of the format.
        pictures: the features.
        splits: name of the only split; `test` when left out.

    Raises:
        DataError: several names were given.
    """
    if len(splits) > 1:
        raise DataError(f"without captions there is one split; expected one name, not {', '.join(splits)}")
    split = splits[0] if splits else ONLY_SPLIT
    everything = [CaptionedPicture({}, split) for _ in pictures.ids]
    note = "no captions were named, so the file holds pictures only; to add some: convert-features FILE --captions …"
    return ConversionPlan(
        format=format,
        source=pictures.source,
        feature_dim=pictures.feature_dim,
        splits={split: len(pictures.ids)},
        total_regions=sum(pictures.regions),
        records=partial(_records, pictures, everything, range(len(pictures.ids))),
        notes=[*pictures.notes, note],
        origin=pictures.origin,
    )


def join(
    format: str, pictures: Pictures, captions: Path, splits: Sequence[str] = (), *, skip_unknown: bool = False
) -> ConversionPlan:
    """Plan the conversion of counted pictures.

    Args:
        format: name of the format.
        pictures: the features.
        captions: captions file; its order within each split becomes the order of the pictures.
        splits: splits to convert; none for all.
        skip_unknown: leave out pictures that the captions file does not know, in place of an error.

    Raises:
        DataError: the captions file is faulty, none of its names fits, it names pictures that are not there, or
            there are pictures that it does not know.
    """
    table = read_whole_table(captions, splits)
    kind, wanted = _readable(pictures, table.wanted, captions)
    order = {split: position for position, split in enumerate(usual_order({picture.split for picture in wanted}))}
    wanted.sort(key=lambda picture: order[picture.split])  # stable: the file's order within a split
    rows = _rows(pictures, wanted, kind, captions)
    unknown = _unknown(pictures, kind, table)
    if unknown and not skip_unknown:
        raise DataError(
            f"{captions} does not know {len(unknown):,} of the {len(pictures.ids):,} pictures of {pictures.source}; "
            f"the first is {unknown[0]} (looked for by {kind})",
            "add their captions, or leave these pictures out with --skip-uncaptioned",
        )
    counts = dict.fromkeys(order, 0)
    for picture in wanted:
        counts[picture.split] += 1
    return ConversionPlan(
        format=format,
        source=f"{pictures.source} {captions}",
        feature_dim=pictures.feature_dim,
        splits=counts,
        total_regions=sum(pictures.regions[row] for row in rows),
        records=partial(_records, pictures, wanted, rows),
        notes=[
            *pictures.notes,
            *table.notes,
            f"pictures are matched with captions by {kind}",
            *_undecoded(len(table.wanted) - len(wanted)),
            *_left_out(
                pictures, captions, splits, others=len(pictures.ids) - len(rows) - len(unknown), unknown=unknown
            ),
        ],
        origin=pictures.origin,
    )


def _undecoded(count: int) -> list[str]:
    return [f"{count:,} pictures with captions are among those that could not be read"] if count else []


def _left_out(
    pictures: Pictures, captions: Path, splits: Sequence[str], *, others: int, unknown: Sequence[str]
) -> list[str]:
    """Say how many pictures are left out, and why."""
    among = f" in {', '.join(splits)}" if splits else ""
    total = len(pictures.ids)
    notes = []
    if others:
        notes.append(f"{others:,} of {total:,} pictures are left out: {captions} has no captions for them{among}")
    if unknown:
        notes.append(f"{len(unknown):,} of {total:,} pictures are left out: {captions} does not know them")
    return notes


def _unknown(pictures: Pictures, kind: str, table: CaptionTable) -> list[str]:
    """Pictures that no entry of the captions file names."""
    ids = PictureNames(pictures.ids)
    known = {ids.row(names.get(kind, "")) for names in table.names}
    return [name for row, name in enumerate(pictures.ids) if row not in known]


def _readable(
    pictures: Pictures, wanted: Sequence[CaptionedPicture], captions: Path
) -> tuple[str, list[CaptionedPicture]]:
    """The kind of name that finds most entries; and the entries, but for pictures that could not be decoded."""
    ids = PictureNames(pictures.ids)
    kinds = list(dict.fromkeys(kind for picture in wanted for kind in picture.names))
    found = {kind: sum(bool(ids.possible(picture.names.get(kind, ""))) for picture in wanted) for kind in kinds}
    kind = max(kinds, key=lambda name: found[name], default="")
    if not found.get(kind):
        theirs = "; ".join(f"by {kind}: {some_of([p.names.get(kind, '-') for p in wanted])}" for kind in kinds)
        raise DataError(
            f"no picture of {pictures.source} is in {captions}: it has {some_of(pictures.ids)}; "
            f"the captions name {theirs or 'none'}",
            "the features and the captions must name pictures in the same way",
        )
    bad = PictureNames(sorted(pictures.unreadable))
    names = [picture.names.get(kind, "") for picture in wanted]
    lost = [ids.row(name) is None and bad.row(name) is not None for name in names]
    return kind, [picture for picture, left in zip(wanted, lost, strict=True) if not left]


def _rows(pictures: Pictures, wanted: Sequence[CaptionedPicture], kind: str, captions: Path) -> list[int]:
    """The row of each entry, by one kind of name."""
    ids = PictureNames(pictures.ids)
    rows = [ids.row(picture.names.get(kind, "")) for picture in wanted]
    missing = [picture for picture, row in zip(wanted, rows, strict=True) if row is None]
    if missing:
        raise _not_found(pictures, ids, kind, missing, captions)
    found_rows = [row for row in rows if row is not None]
    row, times = Counter(found_rows).most_common(1)[0]
    if times > 1:
        raise DataError(
            f"{captions} names the picture {pictures.ids[row]} ({kind}) twice; expected every picture once"
        )
    return found_rows


def _not_found(
    pictures: Pictures, ids: PictureNames, kind: str, missing: Sequence[CaptionedPicture], captions: Path
) -> DataError:
    """The error for captions whose picture is not there, or may be one of several."""
    for picture in missing:
        name = picture.names.get(kind, "")
        possible = ids.possible(name)
        if possible:
            return DataError(
                f"{captions} names the picture {name} ({kind}); {pictures.source} has {some_of(possible)}",
                "write the names in the captions as they are in the features",
            )
    first = missing[0]
    return DataError(
        f"{captions} has captions for pictures that {pictures.source} lacks ({len(missing):,} of them); "
        f"the first is {kind} {first.names.get(kind)} of split {first.split}",
        "add the missing features, or convert some splits only with --splits",
    )


def _records(pictures: Pictures, wanted: Sequence[CaptionedPicture], rows: Sequence[int]) -> Iterator[ImageRecord]:
    with pictures.reading() as read:
        for picture, row in zip(wanted, rows, strict=True):
            regions = read(row)
            if len(regions.features) != pictures.regions[row]:
                raise DataError(
                    f"picture {pictures.ids[row]} of {pictures.source} has {len(regions.features)} regions, and had "
                    f"{pictures.regions[row]} when they were counted",
                    "the source changed while it was read; start again",
                )
            yield ImageRecord(
                image_id=pictures.ids[row],
                features=regions.features,
                split=picture.split,
                captions=picture.captions,
                caption_ids=picture.caption_ids,
                boxes=regions.boxes,
                size=regions.size or picture.size,
                file_name=picture.file_name or (pictures.ids[row] if pictures.origin is not None else None),
                scores=regions.scores,
                labels=regions.labels,
            )
