"""Captions that lie in a file of their own: Karpathy's JSON, COCO's JSON, a plain JSON list, or SCAN's text files.

    Karpathy   {"images": [{"filename", "cocoid", "imgid", "split", "sentences": [{"raw", "sentid"}]}]}
    COCO       {"images": [{"id", "file_name", "width", "height"}], "annotations": [{"image_id", "id", "caption"}]}
    list       [{"image": "dog.jpg", "split": "train", "captions": ["A dog.", "It barks."]}]
    SCAN       SPLIT_caps.txt with k captions a picture, with SPLIT_ids.txt; or a folder of such pairs
    beside     a folder of pictures with a text file beside each, dog.txt beside dog.jpg, one caption a line

In a list, `split` may be left out of all entries. Where there are no splits, they can be made (`dealing.py`).

Which picture of the features an entry means is found by `caption_join.py`; here are only the names that it may go by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selfalign_cli.data.formats.dealing import DEALT, deal
from selfalign_cli.data.formats.picture_names import SUFFIXES
from selfalign_cli.data.formats.pictures import shown
from selfalign_cli.data.text.captions import KARPATHY_SPLITS, SCAN_CAPTIONS, read_caption_lines, read_captions_json
from selfalign_cli.errors import DataError

ONLY_SPLIT = "test"
LARGEST_SIDE = 1e9
IDS = "_ids.txt"
KINDS = "expected Karpathy's or COCO's caption JSON, a JSON list of {image, split, captions}, or SPLIT_caps.txt"


@dataclass(frozen=True)
class CaptionedPicture:
    """The captions of one picture.

    Attributes:
        names: what it may be called in the features, by kind, e.g. `cocoid`.
        split: name of its split; empty where the file knows no splits.
        captions: as written.
        caption_ids: one for each caption, or None.
        file_name: of the picture, or None.
        size: width and height in pixels, or None.
    """

    names: dict[str, str]
    split: str
    captions: list[str] = field(default_factory=list)
    caption_ids: list[str] | None = None
    file_name: str | None = None
    size: tuple[float, float] | None = None


@dataclass(frozen=True)
class CaptionTable:
    """What a captions file holds.

    Attributes:
        wanted: pictures with captions of the requested splits, in the order of the file.
        names: what each picture of the file may be called, those of other splits and without captions included.
        notes: what the user should know, one sentence each.
    """

    wanted: list[CaptionedPicture]
    names: list[dict[str, str]]
    notes: list[str] = field(default_factory=list)


def read_caption_table(path: Path, splits: Sequence[str] = ()) -> list[CaptionedPicture]:
    """The wanted pictures of `read_whole_table`, which takes the same arguments."""
    return read_whole_table(path, splits).wanted


def read_whole_table(path: Path, splits: Sequence[str] = ()) -> CaptionTable:
    """Read a captions file.

    Args:
        path: file or folder of any known kind.
        splits: splits to keep; none for all. Where the file knows no splits, the name of the only one (`test`), or
            train, dev and test to have them made.

    Raises:
        DataError: it is missing, damaged or of no known kind, or lacks a requested split.
    """
    everything = list(_read(path))
    pictures = [picture for picture in everything if picture.captions]
    if not pictures:
        raise DataError(f"{path} holds no captions; {KINDS}")
    if all(picture.split == "" for picture in pictures):
        wanted, note = _without_splits(pictures, path, splits)
        return CaptionTable(wanted, [picture.names for picture in everything], [note])
    return CaptionTable(_of_splits(pictures, path, splits), [picture.names for picture in everything])


def knows_splits(path: Path) -> bool:
    """Whether a captions file says which picture is of which split; errors as of `read_whole_table`."""
    return any(picture.split for picture in _read(path))


def _without_splits(
    pictures: list[CaptionedPicture], path: Path, splits: Sequence[str]
) -> tuple[list[CaptionedPicture], str]:
    """Pictures of a file without splits, each with a split, and a note about it."""
    make = f"--splits {','.join(DEALT)} makes splits"
    if tuple(splits) == DEALT:
        if len(pictures) < len(DEALT):
            raise DataError(f"{path} has captions for {len(pictures)} pictures; expected at least one for each split")
        dealt = deal([next(iter(picture.names.values())) for picture in pictures])
        counts = ", ".join(f"{name} {dealt.count(name):,}" for name in DEALT)
        note = f"{path} knows no splits, so pictures were dealt out by a fixed seed: {counts}"
        return [replace(picture, split=split) for picture, split in zip(pictures, dealt, strict=True)], note
    if len(splits) > 1:
        raise DataError(f"{path} knows no splits; expected one name for all of it, not {', '.join(splits)}", make)
    name = splits[0] if splits else ONLY_SPLIT
    note = f"{path} knows no splits: all its pictures are of split {name}; {make}"
    return [replace(picture, split=name) for picture in pictures], note


def _of_splits(pictures: list[CaptionedPicture], path: Path, splits: Sequence[str]) -> list[CaptionedPicture]:
    """Pictures of some splits, of those that the file knows."""
    found = list(dict.fromkeys(picture.split for picture in pictures))
    if "" in found:
        first = next(picture for picture in pictures if not picture.split)
        raise DataError(
            f"{path} says no split for some pictures, and one for others; the first without is "
            f"{next(iter(first.names.values()))}",
            "give every picture a split, or none",
        )
    missing = [name for name in splits if name not in found]
    if missing:
        raise DataError(f"{path} has no split {missing[0]!r}; it has {', '.join(found)}")
    return [picture for picture in pictures if not splits or picture.split in splits]


def _read(path: Path) -> Iterator[CaptionedPicture]:
    if path.is_dir():
        files = sorted(path.glob(f"*{SCAN_CAPTIONS}"))
        if files:
            return (picture for file in files for picture in _beside_ids(file))
        beside = texts_beside_pictures(path)
        if not beside:
            raise DataError(f"{path} holds no file named SPLIT{SCAN_CAPTIONS}, and no text beside a picture; {KINDS}")
        return (
            CaptionedPicture({"path": str(picture.relative_to(path).as_posix())}, "", read_caption_lines(text))
            for picture, text in beside
        )
    if path.name.endswith(SCAN_CAPTIONS):
        return _beside_ids(path)
    content = read_captions_json(path)
    if isinstance(content, list):
        return _listed(path, content)
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        if isinstance(content.get("annotations"), list):
            return iter(_coco(path, content["images"], content["annotations"]))
        return _karpathy(path, content["images"])
    raise DataError(f"{path} is JSON without captions; {KINDS}")


def _karpathy(path: Path, images: list[Any]) -> Iterator[CaptionedPicture]:
    for number, image in enumerate(images):
        where = f"{path}, image {number}"
        split = _text(image, "split", where)
        sentences = _list(image, "sentences", where)
        names = {kind: _name(image, kind, where) for kind in ("cocoid", "filename", "imgid") if kind in image}
        if "filename" in names and isinstance(image.get("filepath"), str):
            names["path"] = f"{image['filepath']}/{names['filename']}"
        labels = [f"{where}, sentence {i}" for i in range(len(sentences))]
        yield CaptionedPicture(
            names=names,
            split=KARPATHY_SPLITS.get(split, split),
            captions=[_text(row, "raw", label) for row, label in zip(sentences, labels, strict=True)],
            caption_ids=[_name(row, "sentid", label) for row, label in zip(sentences, labels, strict=True)],
            file_name=names.get("filename"),
        )


def _coco(path: Path, images: list[Any], annotations: list[Any]) -> list[CaptionedPicture]:
    pictures: dict[str, CaptionedPicture] = {}
    for number, image in enumerate(images):
        where = f"{path}, image {number}"
        names = {kind: _name(image, kind, where) for kind in ("id", "file_name") if kind == "id" or kind in image}
        if names["id"] in pictures:
            raise DataError(f"{where} has the id {names['id']} of one before it; expected every picture once")
        pictures[names["id"]] = CaptionedPicture(
            names, "", [], [], file_name=names.get("file_name"), size=_size(image, where)
        )
    for number, row in enumerate(annotations):
        where = f"{path}, annotation {number}"
        picture = pictures.get(_name(row, "image_id", where))
        if picture is None:
            raise DataError(f"{where} belongs to picture {row['image_id']}, which is not among its images")
        assert picture.caption_ids is not None
        picture.captions.append(_text(row, "caption", where))
        picture.caption_ids.append(_name(row, "id", where))
    return list(pictures.values())


def _listed(path: Path, rows: list[Any]) -> Iterator[CaptionedPicture]:
    for number, row in enumerate(rows):
        where = f"{path}, entry {number}"
        image = _text(row, "image", where)
        captions = _list(row, "captions", where)
        if not captions or not all(isinstance(text, str) and text.strip() for text in captions):
            raise DataError(f"{where} ({image}) has captions {shown(captions)}; expected a list of texts")
        names = {"image": image, "file of image": image.rsplit("/", 1)[-1]}
        split = _text(row, "split", where) if "split" in row else ""
        yield CaptionedPicture(names, split, captions, file_name=image)


def texts_beside_pictures(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures in a folder and below, each with the text file of its name beside it; others are passed over."""
    files = sorted(folder.rglob("*"))
    pictures = {path.with_suffix(""): path for path in files if path.suffix.lower() in SUFFIXES}
    texts = [(pictures.get(path.with_suffix("")), path) for path in files if path.suffix == ".txt"]
    return [(picture, text) for picture, text in texts if picture is not None]


def _beside_ids(path: Path) -> Iterator[CaptionedPicture]:
    """Pictures of `SPLIT_ids.txt`, each with its lines of `SPLIT_caps.txt`."""
    split = path.name.removesuffix(SCAN_CAPTIONS)
    ids_path = path.with_name(f"{split}{IDS}")
    if not ids_path.exists():
        raise DataError(f"there is no {ids_path}; {path.name} needs the ids of its pictures beside it")
    captions = read_caption_lines(path)
    ids = [line.strip() for line in read_caption_lines(ids_path, what="an id")]
    each, rest = divmod(len(captions), len(ids))
    if rest or not each:
        raise DataError(
            f"{path} has {len(captions):,} captions for the {len(ids):,} lines of {ids_path.name}; "
            "expected the same number of captions for every line",
            "one of the two files looks cut short; fetch it again",
        )
    start = 0
    while start < len(ids):  # equal ids in a row are one picture, stored once for each caption
        end = start + 1
        while end < len(ids) and ids[end] == ids[start]:
            end += 1
        yield CaptionedPicture({"id": ids[start]}, split, captions[start * each : end * each])
        start = end


def _text(row: Any, key: str, where: str) -> str:
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} has {key} {shown(value)}; expected a text")
    return value


def _name(row: Any, key: str, where: str) -> str:
    """A whole number or a text, as text."""
    value = row.get(key) if isinstance(row, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise DataError(f"{where} has {key} {shown(value)}; expected a number or a text")
    return str(value)


def _list(row: Any, key: str, where: str) -> list[Any]:
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, list):
        raise DataError(f"{where} has {key} {shown(value)}; expected a list")
    return value


def _size(row: dict[str, Any], where: str) -> tuple[float, float] | None:
    if "width" not in row and "height" not in row:
        return None
    width, height = row.get("width"), row.get("height")
    if not all(isinstance(side, int | float) and 0 < side < LARGEST_SIDE for side in (width, height)):
        raise DataError(f"{where} has width {shown(width)} and height {shown(height)}; expected positive numbers")
    return float(width), float(height)  # type: ignore[arg-type]
