"""An index, opened: pictures with all that is known of them, and exact search by text or by picture."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import CheckpointError, DataError
from selfalign_cli.metrics.top_k import Top
from selfalign_cli.search.layout import Manifest, read_manifest
from selfalign_cli.search.scan import Part, exact_top, fine_scores, merged_views
from selfalign_cli.search.segment import Segment, Side, open_segment

if TYPE_CHECKING:
    from selfalign_cli.assembly.retriever import Retriever


SUFFIXES = (".jpg", ".png", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".JPG", ".PNG", ".JPEG")
"""Tried where a picture goes by its id alone."""


@dataclass(frozen=True)
class Picture:
    """What an index knows of a picture.

    Attributes:
        row: in the index, over all rows that its segments store; stays the same until the index is made anew.
        id: its name.
        file_name: name of the picture file, or None.
        folder: of the index's pictures; empty where it is not known.
        size: width and height in pixels, or None.
        boxes: (r, 4) x1, y1, x2, y2 in pixels, or None.
        captions: its captions; may be none.
        features: feature file that it was encoded from, and its row there; None for foreign vectors.
    """

    row: int
    id: str
    file_name: str | None
    folder: str
    size: tuple[float, float] | None
    boxes: npt.NDArray[np.float32] | None
    captions: list[str]
    features: tuple[Path, int] | None

    @property
    def path(self) -> Path | None:
        """The picture file; None where it is not there. Looked for when it is asked for, which takes a while."""
        return picture_file(self.folder, self.file_name or self.id)


@dataclass(frozen=True)
class Caption:
    """A caption: its row among captions, its text, and the row of its picture."""

    row: int
    text: str
    picture: int


class Index:
    """An index that is open for reading. It shows one state: what is changed later is seen by who opens it again.

    ```python
    from selfalign_cli.search.index import Index

    index = Index.open("INDEX")
    retriever = index.retriever()                    # the model that encoded it, loaded once
    found = index.search(retriever.encode_texts(["a dog in snow"]), k=10)
    for row, score in zip(found.candidates[0].tolist(), found.scores[0].tolist()):
        picture = index.picture(row)
        print(picture.id, picture.path, picture.size, picture.captions, score)
    similar = index.search(index.vectors(index.row_of("dog.jpg")), k=10)            # pictures like this one
    told = index.search_captions(index.vectors(index.row_of("dog.jpg")), k=5)       # captions for it
    ```

    Attributes:
        folder: where it is.
        manifest: what it is: similarity, V, D and C, model, extractor, folder of the pictures.
    """

    def __init__(self, folder: Path, manifest: Manifest, segments: Sequence[Segment]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.segments = segments
        self._starts = {
            "pictures": _starts([segment.entry.pictures for segment in segments]),
            "captions": _starts([segment.entry.captions for segment in segments]),
        }
        self._retrievers: dict[str, Retriever] = {}

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Open an index folder; costs the same for any number of pictures.

        Raises:
            DataError: missing, unfinished, damaged, or of another kind.
        """
        place = Path(folder)
        manifest = read_manifest(place)
        shape = manifest.views, manifest.width, manifest.context
        return cls(place, manifest, [open_segment(place, entry, shape) for entry in manifest.segments])

    def __len__(self) -> int:
        """Number of pictures that can be found."""
        return sum(segment.entry.pictures - len(segment.dead) for segment in self.segments)

    @property
    def identity(self) -> str:
        """Sixteen hexadecimal digits that change with every change of the index."""
        return self.manifest.identity

    @property
    def caption_count(self) -> int:
        """Number of captions that can be found."""
        return sum(segment.entry.captions - len(segment.dead_captions) for segment in self.segments)

    def rows(self) -> Iterator[int]:
        """Yield the rows of all pictures that can be found, in order."""
        for segment, start in zip(self.segments, self._starts["pictures"], strict=False):
            dead = set(segment.dead.tolist())
            yield from (start + row for row in range(segment.entry.pictures) if row not in dead)

    def picture(self, row: int) -> Picture:
        """What is known of a picture.

        Raises:
            DataError: there is no such row, or it was removed.
        """
        segment, own = self._at("pictures", row)
        if own in segment.dead:
            raise DataError(f"{self.folder} has no picture in row {row} any more")
        file_name = segment.optional_text("file_name", own)
        name = segment.ids[own]
        sizes = segment.arrays["sizes"][own].tolist() if "sizes" in segment.arrays else None
        source = int(segment.arrays["source_rows"][own])
        return Picture(
            row=row,
            id=name,
            file_name=file_name,
            folder=self.manifest.pictures,
            size=None if sizes is None else (sizes[0], sizes[1]),
            boxes=segment.boxes(own),
            captions=[segment.texts[caption] for caption in segment.captions_of(own)],
            features=(Path(segment.facts.features), source) if segment.facts.features else None,
        )

    def caption(self, row: int) -> Caption:
        """What is known of a caption: rows are those that `search_captions` finds.

        Raises:
            DataError: there is no such row.
        """
        segment, own = self._at("captions", row)
        picture = int(np.searchsorted(segment.arrays["caption_ends"], own, "right"))
        start = self._starts["pictures"][self.segments.index(segment)]
        return Caption(row, segment.texts[own], start + picture)

    def picture_file(self, name: str) -> Path | None:
        """The file of a picture, by its file name or id; None where there is none."""
        return picture_file(self.manifest.pictures, name)

    def row_of(self, picture_id: str) -> int:
        """Row of a picture.

        Raises:
            DataError: there is no picture of that id; similar ids are named.
        """
        found = self.find(picture_id)
        if found is None:
            hint = "ids are those of the feature file; the search by text prints them"
            if len(self) <= 100_000:
                close = difflib.get_close_matches(picture_id, self.ids(), 3)
                hint = f"similar ids: {', '.join(close)}" if close else hint
            raise DataError(f"{self.folder} has no picture {picture_id!r}", hint)
        return found

    def find(self, picture_id: str) -> int | None:
        """Row of a picture, None where it is not in the index."""
        for segment, start in zip(self.segments, self._starts["pictures"], strict=False):
            own = segment.row_of(picture_id)
            if own is not None and own not in segment.dead:
                return start + own
        return None

    def ids(self) -> list[str]:
        """Ids of all pictures, in row order."""
        found: list[str] = []
        for segment in self.segments:
            dead = set(segment.dead.tolist())
            found += [name for row, name in enumerate(segment.ids.all()) if row not in dead]
        return found

    def vectors(self, row: int) -> RetrievalVectors:
        """The vectors of a picture: pooled (1, V, D), shared (1, C), float32."""
        segment, own = self._at("pictures", row)
        fine = segment.pictures.fine
        return RetrievalVectors(fine.pooled[own : own + 1], fine.shared[own : own + 1])

    def digest(self, row: int) -> str:
        """32 hexadecimal digits that change when anything of a picture does."""
        segment, own = self._at("pictures", row)
        return bytes(segment.arrays["digest"][own]).hex()

    def search(self, queries: RetrievalVectors, k: int = 10) -> Top:
        """Find the k best pictures for each query, exactly.

        Args:
            queries: of texts, pooled (Q, D) and shared (Q, C); or of pictures, pooled (Q, V, D): the score of two
                pictures is the largest inner product of their views plus that of their shared blocks.
            k: how many; all pictures where there are fewer.

        Returns:
            Rows for `picture` and scores, (Q, k) each, best first, equal scores in row order.

        Raises:
            DataError: other widths than those of the index, or numbers that are not finite.
        """
        return self._search("pictures", queries, k)

    def search_captions(self, queries: RetrievalVectors, k: int = 10) -> Top:
        """Find the k best captions for each query, as `search` finds pictures; rows are for `caption`."""
        return self._search("captions", queries, k)

    def scores(self, queries: RetrievalVectors, rows: Sequence[int]) -> Tensor:
        """(Q, len(rows)) exact scores of pictures with texts."""
        wanted = torch.tensor([list(rows)] * len(queries.pooled), dtype=torch.int64)
        return fine_scores(self.parts("pictures"), queries, wanted, self.manifest.similarity)

    def parts(self, side: Side) -> list[Part]:
        """One side of the index as `scan` takes it."""
        return self._pictures if side == "pictures" else self._captions

    def retriever(self, device: str = "auto") -> Retriever:
        """The model that encoded the index, loaded from the copy in the folder; loaded once for each device.

        Raises:
            DataError: an index of foreign vectors has none.
            CheckpointError: the copy is missing, damaged, or of another model.
        """
        model = self.manifest.model
        if model is None:
            raise DataError(
                f"{self.folder} holds vectors of another program, and no model to read a text with",
                "search by picture (--image ID), or index a checkpoint of ours",
            )
        if device not in self._retrievers:
            from selfalign_cli.assembly.retriever import Retriever

            path = self.folder / model.file
            loaded = Retriever.load(path, device=device)
            if (loaded.captions.content_hash, loaded.recipe_hash) != (model.vocabulary, model.recipe):
                raise CheckpointError(f"{path} is not the model that the index was encoded by", "make the index again")
            self._retrievers[device] = loaded
        return self._retrievers[device]

    @cached_property
    def _pictures(self) -> list[Part]:
        pairs = zip(self.segments, self._starts["pictures"], strict=False)
        return [Part(segment.pictures, start, segment.dead) for segment, start in pairs]

    @cached_property
    def _captions(self) -> list[Part]:
        pairs = zip(self.segments, self._starts["captions"], strict=False)
        return [Part(segment.captions, start, segment.dead_captions) for segment, start in pairs]

    def _search(self, side: Side, queries: RetrievalVectors, k: int) -> Top:
        kind = self.manifest.similarity
        if queries.pooled.dim() == 2:
            return exact_top(self.parts(side), queries, k, kind)
        count, views, width = queries.pooled.shape
        shared = queries.shared.repeat_interleave(views, dim=0)
        single = RetrievalVectors(queries.pooled.reshape(count * views, width), shared)
        return merged_views(exact_top(self.parts(side), single, k, kind), views, k)

    def _at(self, side: Side, row: int) -> tuple[Segment, int]:
        starts = self._starts[side]
        if not 0 <= row < starts[-1]:
            raise DataError(f"{self.folder} has no row {row} of {side}; it has {starts[-1]:,}")
        number = int(np.searchsorted(np.asarray(starts), row, "right")) - 1
        return self.segments[number], row - starts[number]


def picture_file(folder: str, name: str) -> Path | None:
    """A file below a folder, by its name with or without suffix; None where there is none.

    Nothing but files below the folder is ever returned, whatever a name says.
    """
    if not folder or "\0" in name:
        return None
    root = Path(folder).resolve()
    for suffix in ("", *SUFFIXES):
        path = (root / f"{name}{suffix}").resolve()
        if path.is_relative_to(root) and path.is_file():
            return path
    return None


def _starts(counts: Sequence[int]) -> list[int]:
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    return starts
