"""`selfalign extract`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfalign_cli.cli.console import show_json, show_message, show_table
from selfalign_cli.cli.options import DeviceOpt, JsonOpt, OverwriteOpt
from selfalign_cli.cli.progress import progress
from selfalign_cli.errors import DataError

if TYPE_CHECKING:
    from selfalign_cli.extract.regions import Extractor
    from selfalign_cli.extract.run import Extraction, Shard

SHOWN_UNREADABLE = 10

PicturesArg = Annotated[
    list[Path],
    typer.Argument(metavar="PICTURES", help="Folders (searched through), picture files, or .txt lists of them."),
]
OutOpt = Annotated[Path, typer.Option("--out", metavar="FILE", help="Feature file (HDF5) to make.")]
BackboneOpt = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="DIR",
        help="Folder of a vision model that transformers wrote, hub:owner/name, or `weightless` for a first look "
        'without any model. Default: DINOv2-small, when pip install "selfalign[dinov2]" has brought it.',
        show_default=False,
    ),
]
DetectorOpt = Annotated[
    str | None,
    typer.Option(
        "--detector",
        metavar="DIR",
        help="Folder of an object detector that transformers wrote, or of bottom-up attention (config.yaml and "
        "pytorch_model.bin), or hub:owner/name: its boxes and features, or features of --backbone where both are "
        "named. Default: boxes by grouping the backbone's patches.",
        show_default=False,
    ),
]
CaptionsOpt = Annotated[
    Path | None,
    typer.Option("--captions", metavar="FILE", help="Captions, as for convert-features.", show_default=False),
]
SplitsOpt = Annotated[
    str | None,
    typer.Option(
        "--splits",
        metavar="A,B",
        help="Splits to keep; default: all. Without captions: the name of the only one (test).",
        show_default=False,
    ),
]
SkipOpt = Annotated[
    bool, typer.Option("--skip-uncaptioned", help="Leave out pictures that the captions file does not know.")
]
LikeOpt = Annotated[
    Path | None,
    typer.Option(
        "--like",
        metavar="CKPT",
        help="Extract as for the features that a checkpoint was trained on; refuses models of other hashes.",
        show_default=False,
    ),
]
AreaOpt = Annotated[
    int | None,
    typer.Option(
        "--area",
        min=16,
        max=4096,
        metavar="N",
        help="Pictures are resized to the area of a square of N pixels for the backbone; default 224.",
        show_default=False,
    ),
]
RegionsOpt = Annotated[
    str | None,
    typer.Option(
        "--regions",
        metavar="N",
        help="Most boxes of a picture, the whole picture aside; default 20. For bottom-up attention also a range, "
        "e.g. 10-100; its default is what its config.yaml says.",
        show_default=False,
    ),
]
DtypeOpt = Annotated[Literal["float32", "float16"], typer.Option("--dtype", help="Type in which features are stored.")]
WorkersOpt = Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Threads that decode pictures ahead.")]
ShardOpt = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Look at every N-th picture only, from the K-th on, and write no feature file; when all N have ended, "
        "convert-features on the folder they share joins them.",
        show_default=False,
    ),
]
ResumeOpt = Annotated[bool, typer.Option("--resume", help="Go on with an extraction that was stopped.")]
StrictOpt = Annotated[bool, typer.Option("--strict", help="Stop at the first picture that cannot be decoded.")]


def extract(
    pictures: PicturesArg,
    out: OutOpt,
    backbone: BackboneOpt = None,
    detector: DetectorOpt = None,
    captions: CaptionsOpt = None,
    splits: SplitsOpt = None,
    skip_uncaptioned: SkipOpt = False,
    like: LikeOpt = None,
    area: AreaOpt = None,
    regions: RegionsOpt = None,
    dtype: DtypeOpt = "float32",
    workers: WorkersOpt = 1,
    shard: ShardOpt = None,
    device: DeviceOpt = "auto",
    resume: ResumeOpt = False,
    strict: StrictOpt = False,
    overwrite: OverwriteOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Turn pictures into region features: one pass of a vision model a picture, boxes, and features under them.

    Under torchrun, the processes share the pictures.

    Example: selfalign extract photos/ --out data/photos.h5
    """
    from selfalign_cli.extract.run import extract_pictures

    part = None if shard is None else _shard(shard)
    extractor = _extractor(backbone, detector, like, area, regions, device)
    made = extract_pictures(
        pictures,
        out,
        extractor,
        captions=captions,
        splits=[] if splits is None else [name.strip() for name in splits.split(",") if name.strip()],
        skip_uncaptioned=skip_uncaptioned,
        dtype=dtype,
        workers=workers,
        shard=part,
        resume=resume,
        strict=strict,
        overwrite=overwrite,
        progress=progress,
    )
    _show(made, out, as_json)


def _extractor(
    backbone: str | None, detector: str | None, like: Path | None, area: int | None, regions: str | None, device: str
) -> Extractor:
    from selfalign_cli.assembly.checkpoint import load_checkpoint
    from selfalign_cli.assembly.device import choose_device
    from selfalign_cli.extract.choose import build_extractor, build_like, region_count

    place = choose_device(device)
    if like is None:
        count = None if regions is None else region_count(regions)
        return build_extractor(backbone=backbone, detector=detector, area=area, regions=count, device=place)
    if area is not None or regions is not None:
        raise DataError("--area and --regions are those of the checkpoint", "leave them out beside --like")
    known = load_checkpoint(like).data.get("extractor")
    if known is None:
        raise DataError(f"{like} was not trained on features of extract", "leave --like out")
    return build_like(known, backbone=backbone, detector=detector, device=place)


def _shard(text: str) -> Shard:
    from selfalign_cli.extract.run import Shard

    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise DataError(f"--shard {text}: expected K/N with K from 1 to N, e.g. 2/4")
    return Shard(int(number), int(count))


def _show(made: Extraction, out: Path, as_json: bool) -> None:
    for image_id, reason in made.unreadable[:SHOWN_UNREADABLE]:
        show_message(f"{image_id}: {reason}")
    if len(made.unreadable) > SHOWN_UNREADABLE:
        show_message(f"… and {len(made.unreadable) - SHOWN_UNREADABLE:,} more that cannot be read")
    for note in made.conversion.notes if made.conversion is not None else []:
        show_message(note)
    if as_json:
        show_json(made.to_dict())
        return
    rows = [["pictures", f"{made.pictures:,}"]]
    rows += [["finished before", f"{made.reused:,}"]] if made.reused else []
    rows += [["cannot be read", f"{len(made.unreadable):,}"]] if made.unreadable else []
    if made.conversion is None:
        rows += [["finished in", str(made.parts)]]
        show_table(["", ""], rows, title="one shard of an extraction")
        show_message(f"when all shards have ended: selfalign convert-features {made.parts} --out {out}")
        return
    rows += [[f"split {name}", f"{count:,} pictures"] for name, count in made.conversion.splits.items()]
    width, dtype = made.conversion.feature_dim, made.conversion.dtype
    rows += [["regions", f"{made.conversion.regions:,} of width {width}, {dtype}"]]
    rows += [["content hash", made.conversion.content_hash]]
    show_table(["", ""], rows, title=str(out))
