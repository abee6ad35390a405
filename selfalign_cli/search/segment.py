"""A segment: vectors and everything to show of some thousands of pictures and of their captions.

Arrays in data.bin, for n pictures and m captions, the captions in the order of their pictures:

    pictures.views.f16  (n, V, D)   pictures.shared.f16  (n, C)   for scanning, times the scale of the segment
    pictures.views.f32  (n, V, D)   pictures.shared.f32  (n, C)   for the scores that count
    captions.views.*    (m, 1, D)   captions.shared.*    (m, C)
    id, caption; file_name, caption_id where known: texts, each as NAME.text and NAME.ends
    id_hash (n,) uint64, sorted, and id_rows (n,): to find an id without reading all of them
    digest (n, 16) bytes: changes when anything of a picture does
    caption_ends (n,), source_rows (n,); sizes (n, 2), boxes (sum, 4) and box_ends (n,) where known
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import NonNegativeInt

from selfalign_cli.data.atomic import writing_failed
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.metrics.score_blocks import require_finite
from selfalign_cli.search.arrays import Array, ArrayFile, Texts, packed_texts, write_arrays
from selfalign_cli.search.layout import SEGMENTS, SegmentEntry, _Stored, parsed, sync_folder

Side = Literal["pictures", "captions"]
DATA = "data.bin"
FACTS = "segment.json"


class SegmentFacts(_Stored):
    """What segment.json says.

    Attributes:
        pictures, captions: n and m.
        features: feature file that the pictures were read from; empty for foreign vectors.
        content_hash: of that file.
        scales: what the float16 vectors of each side were multiplied by, powers of two.
        lengths: the largest norm of each side, views and shared block together.
        arrays: see `arrays.write_arrays`.
    """

    version: Literal[1] = 1
    pictures: NonNegativeInt
    captions: NonNegativeInt
    features: str
    content_hash: str
    scales: dict[str, float]
    lengths: dict[str, float]
    arrays: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Content:
    """What goes into a segment.

    Attributes:
        pictures: pooled (n, V, D), shared (n, C).
        captions: pooled (m, D), shared (m, C), those of the first picture first.
        ids: n names, all different.
        captions_of: n numbers of captions.
        texts: m captions.
        digests: (n, 16) bytes.
        source_rows: (n,) rows in the feature file, or in the embedding file.
        file_names, caption_ids, sizes, boxes: None where they are not known.
    """

    pictures: RetrievalVectors
    captions: RetrievalVectors
    ids: Sequence[str]
    captions_of: Sequence[int]
    texts: Sequence[str]
    digests: npt.NDArray[np.uint8]
    source_rows: npt.NDArray[np.int64]
    file_names: Sequence[str] | None = None
    caption_ids: Sequence[str] | None = None
    sizes: npt.NDArray[np.float32] | None = None
    boxes: Sequence[npt.NDArray[np.float32]] | None = None
    features: str = ""
    content_hash: str = ""


def write_segment(folder: Path, name: str, content: Content) -> SegmentEntry:
    """Write a segment; its folder gets its name when it is complete and on disk.

    Raises:
        DataError: vectors that are not finite; the folder cannot be written to.
        RunError: the disk is full.
    """
    final = folder / SEGMENTS / name
    temporary = folder / SEGMENTS / f".{name}.tmp"
    arrays, scales, lengths = _vector_arrays(content)
    arrays.update(_record_arrays(content))
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        facts = SegmentFacts(
            pictures=len(content.ids),
            captions=len(content.texts),
            features=content.features,
            content_hash=content.content_hash,
            scales=scales,
            lengths=lengths,
            arrays=write_arrays(temporary / DATA, arrays),
        )
        with open(temporary / FACTS, "x", encoding="utf-8") as file:
            file.write(facts.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(temporary)
        os.rename(temporary, final)
        sync_folder(final.parent)
    except OSError as fault:
        shutil.rmtree(temporary, ignore_errors=True)
        raise writing_failed(final, fault) from fault
    return SegmentEntry(name=name, pictures=facts.pictures, captions=facts.captions)


def _vector_arrays(content: Content) -> tuple[dict[str, Array], dict[str, float], dict[str, float]]:
    arrays: dict[str, Array] = {}
    scales, lengths = {}, {}
    captions = RetrievalVectors(content.captions.pooled.unsqueeze(1), content.captions.shared)
    for side, vectors in (("pictures", content.pictures), ("captions", captions)):
        require_finite(vectors, side)
        fine = RetrievalVectors(vectors.pooled.float(), vectors.shared.float())
        lengths[side] = longest(fine)
        scales[side] = power_of_two(lengths[side])
        for part, tensor in (("views", fine.pooled), ("shared", fine.shared)):
            arrays[f"{side}.{part}.f16"] = (tensor * scales[side]).half().numpy()
            arrays[f"{side}.{part}.f32"] = tensor.numpy()
    return arrays, scales, lengths


def longest(vectors: RetrievalVectors) -> float:
    """The largest norm of a view together with the shared block; 0 where there is none."""
    if not len(vectors.pooled):
        return 0.0
    views = torch.linalg.vector_norm(vectors.pooled, dim=-1).amax(dim=-1)
    return float(torch.hypot(views, torch.linalg.vector_norm(vectors.shared, dim=-1)).max())


def power_of_two(length: float) -> float:
    """What brings a length into [1, 2): so float16 neither overflows nor loses digits. 1 for a length of 0."""
    return 2.0 ** -math.floor(math.log2(length)) if length > 0 else 1.0


def _record_arrays(content: Content) -> dict[str, Array]:
    hashes = np.array([id_hash(name) for name in content.ids], dtype=np.uint64)
    order = np.argsort(hashes, kind="stable")
    arrays: dict[str, Array] = {
        **packed_texts("id", content.ids),
        **packed_texts("caption", content.texts),
        "id_hash": hashes[order],
        "id_rows": order.astype(np.int64),
        "digest": content.digests,
        "caption_ends": np.cumsum(np.asarray(content.captions_of, dtype=np.int64), dtype=np.int64),
        "source_rows": content.source_rows.astype(np.int64),
    }
    if content.file_names is not None:
        arrays |= packed_texts("file_name", content.file_names)
    if content.caption_ids is not None:
        arrays |= packed_texts("caption_id", content.caption_ids)
    if content.sizes is not None:
        arrays["sizes"] = content.sizes.astype(np.float32)
    if content.boxes is not None:
        arrays["boxes"] = np.concatenate([np.empty((0, 4), np.float32), *content.boxes])
        arrays["box_ends"] = np.cumsum([len(boxes) for boxes in content.boxes], dtype=np.int64)
    return arrays


def id_hash(name: str) -> int:
    """64 bits of an id."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True)
class Stored:
    """The vectors of one side of a segment.

    Attributes:
        coarse: float16, pooled (n, V, D) and shared (n, C), times `scale`.
        fine: float32.
        scale: a power of two.
        length: the largest norm among `fine`.
    """

    coarse: RetrievalVectors
    fine: RetrievalVectors
    scale: float
    length: float


@dataclass
class Segment:
    """A segment, opened.

    Attributes:
        entry: what the manifest says of it.
        facts: what it says of itself.
        arrays: its arrays, mapped.
        dead: rows that do not count any more, sorted.
    """

    entry: SegmentEntry
    facts: SegmentFacts
    arrays: ArrayFile
    dead: npt.NDArray[np.int64] = field(repr=False)

    @cached_property
    def pictures(self) -> Stored:
        """Vectors of the pictures."""
        return self._stored("pictures")

    @cached_property
    def captions(self) -> Stored:
        """Vectors of the captions, with one view."""
        return self._stored("captions")

    @cached_property
    def ids(self) -> Texts:
        """n picture ids."""
        return Texts(self.arrays, "id")

    @cached_property
    def texts(self) -> Texts:
        """m captions."""
        return Texts(self.arrays, "caption")

    def optional_text(self, name: str, row: int) -> str | None:
        """A file name or a caption id; None where the segment has none."""
        return Texts(self.arrays, name)[row] if f"{name}.ends" in self.arrays else None

    def captions_of(self, row: int) -> range:
        """Caption rows of a picture."""
        return _between(self.arrays["caption_ends"], row)

    def boxes(self, row: int) -> npt.NDArray[np.float32] | None:
        """(r, 4) boxes of a picture in pixels; None where they are not known."""
        if "boxes" not in self.arrays:
            return None
        span = _between(self.arrays["box_ends"], row)
        return self.arrays["boxes"][span.start : span.stop]

    def row_of(self, name: str) -> int | None:
        """Row of an id, dead or not; None where it is not here."""
        hashes, wanted = self.arrays["id_hash"], np.uint64(id_hash(name))
        first, last = np.searchsorted(hashes, wanted, "left"), np.searchsorted(hashes, wanted, "right")
        for row in self.arrays["id_rows"][first:last].tolist():
            if self.ids[row] == name:
                return int(row)
        return None

    @cached_property
    def dead_captions(self) -> npt.NDArray[np.int64]:
        """Rows of the captions of dead pictures."""
        ends = self.arrays["caption_ends"]
        last = ends[self.dead]
        first = np.where(self.dead > 0, ends[self.dead - 1], 0)
        counts = last - first
        inside = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: npt.NDArray[np.int64] = np.repeat(first, counts) + inside
        return rows

    def _stored(self, side: Side) -> Stored:
        coarse, fine = (
            RetrievalVectors(*(torch.from_numpy(self.arrays[f"{side}.{part}.{kind}"]) for part in ("views", "shared")))
            for kind in ("f16", "f32")
        )
        return Stored(coarse, fine, self.facts.scales[side], self.facts.lengths[side])


def _between(ends: Array, row: int) -> range:
    return range(int(ends[row - 1]) if row else 0, int(ends[row]))


def open_segment(folder: Path, entry: SegmentEntry, shape: tuple[int, int, int]) -> Segment:
    """Open a segment of an index.

    Args:
        folder: the index.
        entry: what the manifest says.
        shape: V, D and C of the index.

    Raises:
        DataError: missing, damaged, or not what the manifest says.
    """
    place = folder / SEGMENTS / entry.name
    facts = read_facts(place)
    arrays = ArrayFile(place / DATA, facts.arrays)
    counts = {"pictures": entry.pictures, "captions": entry.captions}
    for side, views in (("pictures", shape[0]), ("captions", 1)):
        expected = {"views": (counts[side], views, shape[1]), "shared": (counts[side], shape[2])}
        for part, wanted in expected.items():
            for kind in ("f16", "f32"):
                found = arrays[f"{side}.{part}.{kind}"].shape
                if found != wanted:
                    raise DataError(
                        f"{place}: {side}.{part}.{kind} is {found}; the manifest says {wanted}", "make the index again"
                    )
    return Segment(entry, facts, arrays, _dead(folder, entry))


def read_facts(place: Path) -> SegmentFacts:
    """Read segment.json of a segment's folder.

    Raises:
        DataError: missing or damaged.
    """
    try:
        text = (place / FACTS).read_bytes()
    except OSError as fault:
        raise DataError(
            f"{place} cannot be read: {fault.strerror}", "copy the index again, or make it again"
        ) from fault
    facts: SegmentFacts = parsed(SegmentFacts, text, place / FACTS)
    return facts


def _dead(folder: Path, entry: SegmentEntry) -> npt.NDArray[np.int64]:
    if entry.dead is None:
        return np.empty(0, np.int64)
    path = folder / "dead" / entry.dead
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        raise DataError(f"{path} cannot be read: {fault}", "copy the index again, or make it again") from fault
    if rows.dtype != np.int64 or rows.ndim != 1 or not ((rows >= 0) & (rows < entry.pictures)).all():
        raise DataError(f"{path} does not hold rows of {entry.name}", "copy the index again, or make it again")
    return np.unique(rows)
