"""What bottom-up-attention detectors write: a line a picture, boxes and features as base64 of little-endian float32.

    six fields   image_id image_w image_h num_boxes boxes features
    seven        the same and cls_prob (ViLBERT)
    ten          img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features (LXMERT)

No header; lines end with CR LF or LF, come in any order, and hold 36 regions or any other number of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from selfalign_cli.data.formats.pictures import Counted, Pictures, ReadPicture, Regions
from selfalign_cli.data.formats.tsv_rows import FETCH_AGAIN, Line, first_fields, opened, read_again, read_lines
from selfalign_cli.errors import DataError


@dataclass(frozen=True)
class _Columns:
    """Positions of the fields."""

    count: int
    image_w: int
    image_h: int
    num_boxes: int
    boxes: int
    features: int


_DIALECTS = {
    6: _Columns(6, image_w=1, image_h=2, num_boxes=3, boxes=4, features=5),
    7: _Columns(7, image_w=1, image_h=2, num_boxes=3, boxes=4, features=5),
    10: _Columns(10, image_w=2, image_h=1, num_boxes=7, boxes=8, features=9),
}


@dataclass(frozen=True)
class _Location:
    """Where a picture's line starts."""

    path: Path
    number: int
    offset: int


def recognises(source: Path) -> bool:
    """Whether the first line of a file has as many fields as a dialect, and whole numbers where they belong."""
    fields = first_fields(source) if source.is_file() else []
    columns = _DIALECTS.get(len(fields))
    return columns is not None and fields[columns.num_boxes].isdigit()


def open_pictures(sources: Sequence[Path]) -> Pictures:
    """Find the lines of all pictures; nothing is decoded.

    Args:
        sources: files; a picture may be in one of them only.

    Raises:
        DataError: a file is missing or cut short, a line is faulty, or a picture occurs twice.
    """
    counted = Counted()
    locations = []
    for source in sources:
        columns = None
        for line in read_lines(source):
            columns = columns or _dialect(line)
            _count(counted, line, columns)
            locations.append(_Location(source, line.number, line.offset))
    return counted.pictures(sources, partial(_reading, locations, counted))


def _dialect(line: Line) -> _Columns:
    columns = _DIALECTS.get(len(line.fields))
    if columns is None:
        raise DataError(f"{line.where} has {len(line.fields)} fields; expected 6, 7 (ViLBERT) or 10 (LXMERT)")
    if not line.ended:
        raise DataError(f"{line.where} has no end", FETCH_AGAIN)
    return columns


def _count(counted: Counted, line: Line, columns: _Columns) -> None:
    if len(line.fields) != columns.count:
        raise DataError(f"{line.where} has {len(line.fields)} fields; expected {columns.count}", FETCH_AGAIN)
    boxes = line.whole(columns.num_boxes, "num_boxes")
    width = line.width(columns.features, boxes, "features")
    if boxes and line.width(columns.boxes, boxes, "boxes") != 4:
        raise DataError(
            f"{line.where} has {len(line.fields[columns.boxes]):,} characters of boxes; expected {boxes} x 4"
        )
    counted.add(line.text(0, "the id"), boxes, width, line.where)


@contextmanager
def _reading(locations: list[_Location], counted: Counted) -> Iterator[ReadPicture]:
    with ExitStack() as stack:
        files = {
            path: stack.enter_context(opened(path)) for path in dict.fromkeys(location.path for location in locations)
        }

        def read(row: int) -> Regions:
            location = locations[row]
            line = read_again(files[location.path], location.path, location.number, location.offset)
            columns = _DIALECTS.get(len(line.fields))
            if columns is None or line.fields[0].decode("utf-8", "replace") != counted.ids[row]:
                raise DataError(f"{line.where} changed while it was read", "start again")
            return _decode(line, columns, counted.feature_dim)

        yield read


def _decode(line: Line, columns: _Columns, width: int) -> Regions:
    boxes = line.whole(columns.num_boxes, "num_boxes")
    size = (line.whole(columns.image_w, "the width"), line.whole(columns.image_h, "the height"))
    return Regions(
        features=line.floats(columns.features, boxes, width, "features"),
        boxes=line.floats(columns.boxes, boxes, 4, "boxes"),
        size=(float(size[0]), float(size[1])),
    )
