"""The index folder behind the port: each `add` is a segment, each `delete` a list of dead rows."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.search import layout
from selfalign_cli.search.build import located, with_dead
from selfalign_cli.search.engines.port import Entry, Facts, Hit, Vectors
from selfalign_cli.search.index import Index
from selfalign_cli.search.layout import Manifest, ModelFacts, SegmentEntry
from selfalign_cli.search.segment import Content, id_hash, write_segment


class FolderEngine:
    """An index folder.

    Args:
        folder: of the index.
    """

    widest = 1 << 31

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, str(folder)

    def create(self, facts: Facts) -> None:
        """An index without pictures."""
        with layout.changing(self.folder):
            layout.write_manifest(
                self.folder,
                Manifest(
                    generation=1,
                    similarity="dot",
                    views=facts.views,
                    width=facts.width,
                    context=facts.context,
                    model=None if facts.model is None else ModelFacts(**facts.model),
                    extractor=facts.extractor,
                    pictures=facts.pictures,
                    segments=[],
                ),
            )

    def facts(self) -> Facts | None:
        """Of the manifest."""
        if not (self.folder / layout.MANIFEST).exists():
            return None
        known = layout.read_manifest(self.folder)
        model = None if known.model is None else known.model.model_dump()
        return Facts(known.views, known.width, known.context, model, known.extractor, known.pictures)

    def add(self, entries: Sequence[Entry]) -> None:
        """Write a segment, and name it."""
        with layout.changing(self.folder):
            index = Index.open(self.folder)
            width = index.manifest.width
            whole = torch.from_numpy(np.stack([entry.vectors for entry in entries]))
            texts = [text for entry in entries for text in entry.shown.get("captions", [])]
            nothing = torch.zeros(len(texts), width), torch.zeros(len(texts), index.manifest.context)
            names = [entry.shown.get("file_name") for entry in entries]
            content = Content(
                pictures=RetrievalVectors(whole[..., :width], whole[:, 0, width:]),
                captions=RetrievalVectors(*nothing),
                ids=[entry.id for entry in entries],
                captions_of=[len(entry.shown.get("captions", [])) for entry in entries],
                texts=texts,
                digests=np.stack([np.frombuffer(bytes.fromhex(entry.digest), np.uint8) for entry in entries]),
                source_rows=np.zeros(len(entries), np.int64),
                file_names=[str(name) for name in names] if all(name is not None for name in names) else None,
            )
            entry = write_segment(self.folder, f"{index.manifest.generation + 1:06}-{uuid.uuid4().hex[:12]}", content)
            self._commit(index, [one.id for one in entries], [entry])

    def delete(self, ids: Sequence[str]) -> None:
        """Name the dead."""
        with layout.changing(self.folder):
            self._commit(Index.open(self.folder), ids, [])

    def search(self, query: Vectors, k: int) -> list[Hit]:
        """The exact search."""
        index = Index.open(self.folder)
        width = index.manifest.width
        vectors = torch.from_numpy(query)
        top = index.search(RetrievalVectors(vectors[None, :, :width], vectors[:1, width:]), k)
        found = [index.picture(row) for row in top.candidates[0].tolist()]
        return [
            Hit(picture.id, score, {"file_name": picture.file_name, "captions": picture.captions})
            for picture, score in zip(found, top.scores[0].tolist(), strict=True)
        ]

    def count(self) -> int:
        """Those that live."""
        return len(Index.open(self.folder))

    def known(self, ids: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield ids and digests."""
        index = Index.open(self.folder)
        for name in index.ids() if ids is None else ids:
            row = index.find(name)
            if row is not None:
                yield name, index.digest(row)

    def vectors(self, picture_id: str) -> Vectors | None:
        """In full precision."""
        index = Index.open(self.folder)
        row = index.find(picture_id)
        return None if row is None else index.vectors(row).concatenated()[0].numpy()

    def close(self) -> None:
        """Nothing is open."""

    def _commit(self, index: Index, replaced: Sequence[str], added: Sequence[SegmentEntry]) -> None:
        dead: dict[str, Any] = {}
        hashes = np.array([id_hash(name) for name in replaced], dtype=np.uint64)
        for segment in index.segments:
            positions, rows = located(segment.arrays["id_hash"], segment.arrays["id_rows"], hashes)
            pairs = zip(positions.tolist(), rows.tolist(), strict=True)
            gone = np.array([row for at, row in pairs if segment.ids[row] == replaced[at]], dtype=np.int64)
            if len(np.setdiff1d(gone, segment.dead)):
                dead[segment.entry.name] = gone
        kept = with_dead(self.folder, index, dead)
        manifest = index.manifest.model_copy(
            update={"generation": index.manifest.generation + 1, "segments": [*kept, *added]}
        )
        layout.write_manifest(self.folder, manifest)
        layout.remove_unnamed(self.folder, manifest)
