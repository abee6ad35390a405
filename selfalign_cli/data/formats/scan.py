"""SCAN's layout: a folder with `{split}_ims.npy` (N or 5N, R, F) and `{split}_caps.txt`, one caption a line.

Beside them, or in another folder that is named as a source too (CAMERA's second download), may lie
`{split}_boxes.npy`, `{split}_img_sizes.npy`, `{split}_ids.txt` and `id_mapping.json`. There are two conventions:
rows are pictures and every row has k captions in a row, or rows are captions and every picture is stored five times.
Which one it is, is decided for each split from its counts and its data, never from its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from selfalign_cli.data.features.records import ConversionPlan, ImageRecord
from selfalign_cli.data.formats.arrays import NpyRows
from selfalign_cli.data.formats.pictures import named
from selfalign_cli.data.formats.scan_companions import SizeRows, read_file_names, read_ids, read_pickled_sizes
from selfalign_cli.data.text.captions import SCAN_CAPTIONS, read_caption_lines
from selfalign_cli.errors import DataError

FEATURES = "_ims.npy"
BOXES = "_boxes.npy"
SIZES = "_img_sizes.npy"
# The same as GSMN and RCAR name them; their sizes are pickled dicts.
OTHER_BOXES = "_ims_bbx.npy"
PICKLED_SIZES = "_ims_size.npy"
IDS = "_ids.txt"
# How often the redundant files store each picture: once for each of its five captions.
REPEATS = 5
_USUAL_ORDER = ("train", "restval", "dev", "val", "test", "testall")


@dataclass(frozen=True)
class _Split:
    """One split, opened and counted. `stride` rows stand for one picture, which has `per_image` captions."""

    name: str
    features_path: Path
    features: NpyRows
    boxes: NpyRows | None
    sizes: NpyRows | SizeRows | None
    ids: list[str] | None
    file_names: list[str] | None
    captions: list[str]
    stride: int
    per_image: int

    @property
    def images(self) -> int:
        return len(self.features) // self.stride


def recognises(source: Path) -> bool:
    """Whether a path is a folder with at least one `{split}_ims.npy`, or with boxes for some in another folder."""
    return source.is_dir() and any(next(source.glob(f"*{end}"), None) for end in (FEATURES, BOXES, OTHER_BOXES))


def plan_conversion(
    sources: Sequence[Path], captions: Path | None = None, wanted: Sequence[str] = (), skip_unknown: bool = False
) -> ConversionPlan:
    """Open and count the splits of one or more SCAN folders.

    Args:
        sources: folders; the features of a split may be in one of them only, its boxes, sizes and ids in another.
        captions: must be None, since the folders hold their captions.
        wanted: splits to convert; none for all.
        skip_unknown: without meaning here.

    Raises:
        DataError: files are missing, damaged, or do not fit each other.
    """
    if captions is not None:
        raise DataError("a SCAN folder holds its own captions", "leave --captions out")
    folder_of: dict[str, Path] = {}
    notes = []
    folders = [folder for folder in sources if next(folder.glob(f"*{FEATURES}"), None) is not None] or sources
    for folder in folders:
        for name in _split_names(folder):
            if name in folder_of:
                raise DataError(f"{folder} and another source both hold the split {name}; expected it once")
            folder_of[name] = folder
        notes += _left_out(folder)
    missing = [name for name in wanted if name not in folder_of]
    if missing:
        raise DataError(f"there is no split {missing[0]!r} in the sources; they have {', '.join(folder_of)}")
    splits = {
        name: _open_split(folder, name, [folder, *(other for other in sources if other != folder)])
        for name, folder in folder_of.items()
        if not wanted or name in wanted
    }
    width = _common_width(list(splits.values()))
    return ConversionPlan(
        format="scan",
        source=named(sources),
        feature_dim=width,
        splits={name: split.images for name, split in splits.items()},
        total_regions=sum(split.images * split.features.shape[1] for split in splits.values()),
        records=partial(_records, list(splits.values())),
        notes=[
            *notes,
            *_unboxed(list(splits.values())),
            *(_described(split) for split in splits.values()),
            *_uneven(list(splits.values())),
        ],
    )


def usual_order(names: Iterable[str]) -> list[str]:
    """Names of splits, the known ones in the usual order, then others by name."""
    order = {name: position for position, name in enumerate(_USUAL_ORDER)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def _split_names(folder: Path) -> list[str]:
    """Splits of a folder."""
    names = [file.name.removesuffix(FEATURES) for file in folder.glob(f"*{FEATURES}")]
    if not names:
        raise DataError(f"{folder} holds no file named SPLIT{FEATURES}; expected a SCAN folder")
    return usual_order(names)


def _left_out(folder: Path) -> list[str]:
    """Captions without features, reported instead of silently left out."""
    names = sorted(file.name.removesuffix(SCAN_CAPTIONS) for file in folder.glob(f"*{SCAN_CAPTIONS}"))
    bare = [name for name in names if not (folder / f"{name}{FEATURES}").exists()]
    return [f"{folder} has no {name}{FEATURES}: split {name} is left out" for name in bare]


def _unboxed(splits: list[_Split]) -> list[str]:
    """Boxes or sizes that only some splits have cannot be kept; a file has them for all its pictures."""
    notes = []
    for what, lacking in (
        ("boxes", [split.name for split in splits if split.boxes is None]),
        ("picture sizes", [split.name for split in splits if split.sizes is None]),
    ):
        if 0 < len(lacking) < len(splits):
            notes.append(f"{what} are left out of the whole file, since these splits have none: {', '.join(lacking)}")
    return notes


def _uneven(splits: list[_Split]) -> list[str]:
    """Captions cut short at a multiple of the rows look like fewer captions a picture; only other splits show it."""
    if len({split.per_image for split in splits}) == 1:
        return []
    counts = ", ".join(f"{split.name} {split.per_image}" for split in splits)
    return [
        f"the splits differ in captions a picture ({counts}); if they should not, one file of captions is cut short"
    ]


def _described(split: _Split) -> str:
    stored = f"{len(split.features)} rows hold every picture {REPEATS} times, kept once" if split.stride > 1 else ""
    counted = f"split {split.name}: {split.images} pictures, {split.per_image} captions each"
    return f"{counted} ({stored})" if stored else counted


def _open_split(folder: Path, name: str, folders: Sequence[Path]) -> _Split:
    """Open a split of a folder; what goes with its features is looked for in several."""
    path = folder / f"{name}{FEATURES}"
    features = NpyRows(path, axes=3)
    captions_path = folder / f"{name}{SCAN_CAPTIONS}"
    if not captions_path.exists():
        raise DataError(f"there is no {captions_path}; {path.name} needs its captions beside it")
    captions = read_caption_lines(captions_path)
    stride, per_image = _layout(path, features, len(captions))
    images = len(features) // stride
    ids = read_ids(_found(folders, f"{name}{IDS}"), images, per_image)
    return _Split(
        name=name,
        features_path=path,
        features=features,
        boxes=_boxes(folders, name, (*features.shape[:2], 4)),
        sizes=_sizes(folders, name, len(features)),
        ids=ids,
        file_names=None if ids is None else read_file_names(folders, ids),
        captions=captions,
        stride=stride,
        per_image=per_image,
    )


def _found(folders: Sequence[Path], name: str) -> Path | None:
    """A file of the first folder that has it."""
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def _boxes(folders: Sequence[Path], name: str, shape: tuple[int, ...]) -> NpyRows | None:
    found = _companion(_found(folders, f"{name}{BOXES}"), shape)
    return found if found is not None else _companion(_found(folders, f"{name}{OTHER_BOXES}"), shape)


def _sizes(folders: Sequence[Path], name: str, rows: int) -> NpyRows | SizeRows | None:
    found, pickled = (
        _companion(_found(folders, f"{name}{SIZES}"), (rows, 2)),
        _found(folders, f"{name}{PICKLED_SIZES}"),
    )
    return read_pickled_sizes(pickled, rows) if found is None and pickled is not None else found


def _companion(path: Path | None, shape: tuple[int, ...]) -> NpyRows | None:
    """An optional array with one row for each feature row."""
    if path is None:
        return None
    array = NpyRows(path, axes=len(shape), kinds="fiu")
    if array.shape != shape:
        raise DataError(f"{path} holds {array.shape}; expected {shape} beside the features")
    return array


def _layout(path: Path, features: NpyRows, captions: int) -> tuple[int, int]:
    """Rows that stand for one picture, and captions of a picture. Decided from the first five rows."""
    rows = len(features)
    if captions % rows:
        name = path.name.removesuffix(FEATURES)
        raise DataError(
            f"{path.with_name(name + SCAN_CAPTIONS)} has {captions:,} captions for the {rows:,} rows of {path.name}; "
            "expected a multiple of the rows",
            "one of the two files looks cut short; fetch it again",
        )
    if captions == rows and rows >= REPEATS and _first_unequal(features, 0) is None:
        if rows % REPEATS:
            raise DataError(
                f"{path} stores its first picture {REPEATS} times but has {rows:,} rows, which is no multiple of it",
                "the file looks cut short; fetch it again",
            )
        return REPEATS, REPEATS
    return 1, captions // rows


def _first_unequal(rows: NpyRows | SizeRows, start: int) -> int | None:
    """First row of a block of five that differs from the block's first, compared bit by bit; None when all agree."""
    first = rows.row(start).tobytes()
    for row in range(start + 1, start + REPEATS):
        if rows.row(row).tobytes() != first:
            return row
    return None


def _common_width(splits: list[_Split]) -> int:
    widths = {split.features.shape[2]: split.features_path for split in splits}
    if len(widths) > 1:
        found = ", ".join(f"{path} has {width}" for width, path in widths.items())
        raise DataError(f"the splits have regions of different widths: {found}")
    return int(next(iter(widths)))


def _records(splits: list[_Split]) -> Iterator[ImageRecord]:
    boxed = all(split.boxes is not None for split in splits)
    sized = all(split.sizes is not None for split in splits)
    named = all(split.file_names is not None for split in splits)
    for split in splits:
        for image in range(split.images):
            row = image * split.stride
            _expect_layout(split, row)
            width_height = split.sizes.row(row).tolist() if sized and split.sizes is not None else None
            yield ImageRecord(
                image_id=split.ids[image] if split.ids is not None else f"{split.name}_{image}",
                features=split.features.row(row),
                split=split.name,
                captions=split.captions[image * split.per_image : (image + 1) * split.per_image],
                boxes=split.boxes.row(row) if boxed and split.boxes is not None else None,
                size=(float(width_height[0]), float(width_height[1])) if width_height is not None else None,
                file_name=split.file_names[image] if named and split.file_names is not None else None,
            )


def _expect_layout(split: _Split, row: int) -> None:
    """Check the layout inferred from the first five rows against every other five, while they are in memory."""
    if split.stride == REPEATS:
        for name, rows in (("features", split.features), ("boxes", split.boxes), ("sizes", split.sizes)):
            unequal = _first_unequal(rows, row) if rows is not None else None
            if unequal is not None:
                raise DataError(
                    f"{split.features_path}: row {unequal} differs from row {row} in its {name}, although rows come "
                    f"in blocks of {REPEATS} equal ones",
                    "the file is damaged or put together from two; fetch it again",
                )
    elif split.per_image == 1 and row % REPEATS == 0 and row + REPEATS <= len(split.features):
        if _first_unequal(split.features, row) is None:
            unequal = _first_unequal(split.features, 0)
            raise DataError(
                f"{split.features_path}: rows {row} to {row + REPEATS - 1} are equal, as if every picture were stored "
                f"{REPEATS} times, but row {unequal} differs from row 0",
                "the file is damaged or put together from two; fetch it again",
            )
