"""Captions whose picture was found, captions whose picture was missed by little, and why: with pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.picture_files import PictureFiles, picture_files
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.explain.explanation import Explanation, explain, leave_outs
from selfalign_cli.explain.page import view_of
from selfalign_cli.pages.pictures import pack_or_none
from selfalign_cli.pages.regions import RegionView
from selfalign_cli.scoring.evaluate import Evaluation

SHOWN = 3
"""Pictures beside the right one."""
NEAR = 10
"""Largest rank of a near miss."""
THUMBNAIL, EXPLAINED = 200, 420
"""Sides of pictures in pixels."""


@dataclass(frozen=True)
class Found:
    """A picture in the order of a caption: its id, address or None, score, and whether it is the right one."""

    image: str
    picture: str | None
    score: float
    right: bool


@dataclass(frozen=True)
class Example:
    """A caption, the rank of its picture, and the first pictures; the right one is always among them."""

    caption: str
    rank: int
    pictures: tuple[Found, ...]


@dataclass(frozen=True)
class Explained:
    """An explanation with what is drawn of it."""

    title: str
    found: Explanation
    view: RegionView


@dataclass(frozen=True)
class Examples:
    """What is shown of one model."""

    label: str
    queries: int
    hits: tuple[Example, ...]
    misses: tuple[Example, ...]
    explained: tuple[Explained, ...]


def choose(ranks: Sequence[int], texts: Sequence[str], wanted: int) -> tuple[list[int], list[int]]:
    """Some captions with their picture in first place, and some that missed it by little.

    They are drawn by a hash of their text, so nobody chose them, and every model shows the same where it can.

    Args:
        ranks: of each caption's picture, from 1.
        texts: the captions.
        wanted: how many of each.
    """
    order = sorted(range(len(texts)), key=lambda row: hashlib.sha256(texts[row].encode()).digest())
    hits = [row for row in order if ranks[row] == 1]
    near = [row for row in order if 1 < ranks[row] <= NEAR]
    return hits[:wanted], near[:wanted]


def make_examples(
    label: str,
    scored: Evaluation,
    retriever: Retriever,
    file: FeatureFile,
    *,
    wanted: int,
    explanations: int,
    given: Sequence[Path] = (),
    notify: Callable[[str], None],
) -> Examples:
    """Look at the answers of a model.

    Args:
        label: of the run.
        scored: its result on a split.
        retriever: the model.
        file: the features of the split.
        wanted: captions of each sort.
        explanations: how many of each sort are explained.
        given: folders of the pictures.
        notify: shows messages.
    """
    names = scored.names
    assert names.image_ids is not None
    assert names.caption_texts is not None
    ranks = (scored.report.ranks.t2i_rank + 1).tolist()
    hits, near = choose(ranks, names.caption_texts, wanted)
    places = picture_files(file, given)
    row_of = {image_id: row for row, image_id in enumerate(file.image_ids)}
    shown = Pictures(file, row_of, places)

    def example(row: int) -> Example:
        scores = retriever.score(names.images, _row(names.captions, row))[:, 0]
        right = int(names.image_of_caption[row])
        order = torch.argsort(scores, descending=True, stable=True)[:SHOWN].tolist()
        positions = order if right in order else [*order[:-1], right]
        pictures = [
            Found(names.image_ids[p], shown.thumbnail(names.image_ids[p]), float(scores[p]), p == right)  # type: ignore[index]
            for p in positions
        ]
        return Example(names.caption_texts[row], ranks[row], tuple(pictures))  # type: ignore[index]

    found = tuple(map(example, hits)), tuple(map(example, near))
    if shown.missing:
        notify(f"{shown.missing} pictures were not found; --pictures DIR names their folder")
    explained = []
    for one in found[0][:explanations]:
        explained.append(_explained(f"found: “{one.caption}”", one.caption, one.pictures[0].image, retriever, shown))
    for one in found[1][:explanations]:
        wrong, right = one.pictures[0].image, next(picture.image for picture in one.pictures if picture.right)
        explained.append(
            _explained(f"in first place, though wrong: “{one.caption}”", one.caption, wrong, retriever, shown)
        )
        explained.append(_explained(f"the right one, in place {one.rank}", one.caption, right, retriever, shown))
    return Examples(label, len(ranks), *found, tuple(part for part in explained if part is not None))


class Pictures:
    """The pictures of a feature file, by id, as addresses; and how many were not found."""

    def __init__(self, file: FeatureFile, row_of: dict[str, int], places: PictureFiles) -> None:
        self.file, self.row_of, self.places = file, row_of, places
        self.missing = 0
        self._known: dict[str, str | None] = {}

    def thumbnail(self, image_id: str) -> str | None:
        """A small picture, or None."""
        if image_id not in self._known:
            name = None if self.file.file_names is None else self.file.file_names[self.row_of[image_id]]
            packed = pack_or_none(self.places.find(image_id, name), side=THUMBNAIL)
            self.missing += packed is None
            self._known[image_id] = None if packed is None else packed.uri
        return self._known[image_id]


def _explained(title: str, caption: str, image_id: str, retriever: Retriever, shown: Pictures) -> Explained | None:
    """An explanation; None of a picture with one region."""
    row = shown.row_of[image_id]
    offsets = shown.file.facts.offsets
    if offsets[row + 1] - offsets[row] < 2:
        return None
    found = explain(retriever, leave_outs(retriever, shown.file, row), caption)
    return Explained(title, found, view_of(shown.file, row, shown.places, found.boxes, side=EXPLAINED))


def _row(vectors: RetrievalVectors, row: int) -> RetrievalVectors:
    return RetrievalVectors(vectors.pooled[row : row + 1], vectors.shared[row : row + 1])
