"""Write captions and splits of pictures in every kind of file that convert-features and build-vocab take."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Captioned:
    """A picture and its captions.

    Attributes:
        number: its id, as COCO counts.
        split: train, dev or test.
        captions: at least one.
    """

    number: int
    split: str
    captions: tuple[str, ...]

    @property
    def file_name(self) -> str:
        return f"COCO_val2014_{self.number:012}.jpg"

    @property
    def caption_ids(self) -> list[str]:
        return [str(1000 * self.number + k) for k in range(len(self.captions))]


def write_karpathy(path: Path, pictures: Sequence[Captioned]) -> Path:
    """`dev` is called val; `imgid` is a number that means something else than the id."""
    images = []
    for row, p in enumerate(pictures):
        sentences = [
            {"tokens": text.split(), "raw": text, "imgid": 900 + row, "sentid": int(sentid)}
            for text, sentid in zip(p.captions, p.caption_ids, strict=True)
        ]
        entry: dict[str, Any] = {"filepath": "val2014", "sentids": [row["sentid"] for row in sentences]}
        entry |= {"filename": p.file_name, "imgid": 900 + row, "split": p.split.replace("dev", "val")}
        images.append({**entry, "sentences": sentences, "cocoid": p.number})
    path.write_text(json.dumps({"images": images, "dataset": "coco"}), encoding="utf-8")
    return path


def write_coco(path: Path, pictures: Sequence[Captioned]) -> Path:
    """No splits; annotations of all pictures, round about."""
    images = [{"id": p.number, "file_name": p.file_name, "width": 640, "height": 480} for p in pictures]
    rows = [
        {"image_id": p.number, "id": int(p.caption_ids[k]), "caption": p.captions[k]}
        for k in range(max(len(p.captions) for p in pictures))
        for p in pictures
        if k < len(p.captions)
    ]
    path.write_text(json.dumps({"images": images, "annotations": rows}), encoding="utf-8")
    return path


def write_list(path: Path, pictures: Sequence[Captioned]) -> Path:
    rows = [{"image": f"{p.number}.jpg", "split": p.split, "captions": list(p.captions)} for p in pictures]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def write_lines(path: Path, pictures: Sequence[Captioned]) -> Path:
    """SCAN's text files; each picture's id once for each of its captions."""
    path.mkdir()
    for split in dict.fromkeys(p.split for p in pictures):
        part = [p for p in pictures if p.split == split]
        lines = {
            "caps": [text for p in part for text in p.captions],
            "ids": [p.number for p in part for _ in p.captions],
        }
        for name, rows in lines.items():
            (path / f"{split}_{name}.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@dataclass(frozen=True)
class CaptionDialect:
    """A dialect of a format: captions as one program writes them.

    Attributes:
        write: (path, pictures) → what to name with --captions.
        splits: whether it knows splits.
        ids: whether captions have ids.
        names: whether pictures have names of files.
    """

    write: Callable[[Path, Sequence[Captioned]], Path]
    splits: bool = True
    ids: bool = True
    names: bool = True


CAPTION_DIALECTS = {
    "Karpathy": CaptionDialect(write_karpathy),
    "COCO": CaptionDialect(write_coco, splits=False),
    "list": CaptionDialect(write_list, ids=False),
    "lines": CaptionDialect(write_lines, ids=False, names=False),
}
