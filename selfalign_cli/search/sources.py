"""What an index is made from: a feature file read by a model, or the vectors of an embedding file."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from selfalign_cli.assembly.checkpoint import load_checkpoint, save_checkpoint
from selfalign_cli.assembly.encode import OnRows
from selfalign_cli.assembly.retriever import Retriever
from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError
from selfalign_cli.recipe.compat import Preset
from selfalign_cli.scoring.embeddings import EmbeddingFile, read_embeddings
from selfalign_cli.search.layout import ModelFacts
from selfalign_cli.search.segment import Content
from selfalign_cli.similarity import Similarity

Rows = npt.NDArray[np.int64]
DIGEST_BYTES = 16


class Source(Protocol):
    """Pictures to put into an index, by their position among `ids`."""

    ids: list[str]
    similarity: Similarity
    extractor: dict[str, Any] | None
    pictures: str
    vectors_of: dict[str, Any]
    batch: int

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def identity(self) -> str:
        """Changes when anything changes that decides the vectors."""

    def model(self) -> ModelFacts | None:
        """The model; None for foreign vectors."""

    def save_model(self, path: Path) -> None:
        """Write what reads a query."""

    def digests(self, positions: Rows) -> npt.NDArray[np.uint8]:
        """(n, 16) bytes that change when anything of a picture does."""

    def content(self, positions: Rows, progress: OnRows, *, captions: bool = True) -> Content:
        """Vectors and records of some pictures; without `captions`, no vectors of theirs."""


class FeatureSource:
    """The pictures of a feature file, encoded when they are asked for.

    Args:
        retriever: the model.
        checkpoint: where it was loaded from.
        file: the features, which fit it.
        split: name of a split; None for all pictures.
        batch_size: rows encoded at once; None for the recipe's.
    """

    def __init__(
        self, retriever: Retriever, checkpoint: Path, file: FeatureFile, split: str | None, batch_size: int | None
    ) -> None:
        self.retriever, self.checkpoint, self.file = retriever, checkpoint, file
        self.rows = np.arange(len(file), dtype=np.int64) if split is None else file.split_images(split)
        self.split = split
        self.batch = retriever.batch_size(batch_size)
        self.ids = [file.image_ids[row] for row in self.rows.tolist()]
        self.similarity: Similarity = retriever.identity.similarity
        self.extractor = None if file.origin is None else file.origin.extractor
        self.pictures = "" if file.origin is None else file.origin.pictures
        self.vectors_of: dict[str, Any] = {}
        _require_unique(self.ids, str(file.path))
        order = np.argsort(file.facts.caption_image, kind="stable")
        bounds = np.searchsorted(file.facts.caption_image[order], np.arange(len(file) + 1))
        self._captions, self._bounds = order, bounds

    @property
    def name(self) -> str:
        """The feature file."""
        return str(self.file.path)

    @property
    def identity(self) -> str:
        """Model, features and rows."""
        facts = [asdict(self.retriever.identity), self.file.content_hash, self.split, self.batch]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def model(self) -> ModelFacts:
        """Hashes of the model, and the name of its copy."""
        known = self.retriever.identity
        return ModelFacts(
            weights=known.weights,
            recipe=known.recipe,
            vocabulary=known.vocabulary,
            compat=known.compat,
            file=f"model-{known.weights[:12]}{known.recipe}.ckpt",
            source=str(self.checkpoint.resolve()),
        )

    def save_model(self, path: Path) -> None:
        """Copy the checkpoint, without what only training needs."""
        checkpoint = load_checkpoint(self.checkpoint)
        save_checkpoint(path, replace(checkpoint, recipe=self.retriever.recipe, training=None))

    def digests(self, positions: Rows) -> npt.NDArray[np.uint8]:
        """Hash regions, boxes, size and texts."""
        return _packed(self._digest(row) for row in self.rows[positions].tolist())

    def content(self, positions: Rows, progress: OnRows, *, captions: bool = True) -> Content:
        """Encode pictures and their captions."""
        file, rows = self.file, self.rows[positions]
        spans = [self._captions[self._bounds[row] : self._bounds[row + 1]].tolist() for row in rows.tolist()]
        numbers = [caption for span in spans for caption in span]
        texts = [file.captions[number] for number in numbers]
        facts = file.facts
        found = [file.boxes(row) for row in rows.tolist()]
        return Content(
            pictures=self.retriever.encode_pictures(file, rows=rows, batch_size=self.batch, progress=progress),
            captions=self.retriever.encode_texts(texts if captions else [], batch_size=self.batch),
            ids=[self.ids[position] for position in positions.tolist()],
            captions_of=[len(span) for span in spans],
            texts=texts,
            digests=self.digests(positions),
            source_rows=rows,
            file_names=None if file.file_names is None else [file.file_names[row] for row in rows.tolist()],
            caption_ids=None if file.caption_ids is None else [file.caption_ids[number] for number in numbers],
            sizes=None if facts.image_size is None else facts.image_size[rows],
            boxes=None if facts.boxes is None else [boxes for boxes in found if boxes is not None],
            features=str(file.path.resolve()),
            content_hash=file.content_hash,
        )

    def texts_of(self, row: int) -> list[str]:
        """The captions of a picture of the file."""
        numbers = self._captions[self._bounds[row] : self._bounds[row + 1]].tolist()
        return [self.file.captions[number] for number in numbers]

    def _digest(self, row: int) -> bytes:
        file = self.file
        digest = hashlib.blake2b(np.ascontiguousarray(file.regions(row)).data, digest_size=DIGEST_BYTES)
        boxes = file.boxes(row)
        if boxes is not None:
            digest.update(np.ascontiguousarray(boxes).data)
        captions = self._captions[self._bounds[row] : self._bounds[row + 1]].tolist()
        facts = file.facts
        described = [
            None if facts.image_size is None else facts.image_size[row].tolist(),
            None if file.file_names is None else file.file_names[row],
            [file.captions[caption] for caption in captions],
            None if file.caption_ids is None else [file.caption_ids[caption] for caption in captions],
        ]
        digest.update(json.dumps(described).encode())
        return digest.digest()


class EmbeddingSource:
    """The vectors of an embedding file, of any program.

    Args:
        path: `.h5`, `.hdf5` or `.npz`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: EmbeddingFile = read_embeddings(path)
        count = len(self.found.images.pooled)
        self.ids = self.found.image_ids or [str(row) for row in range(count)]
        self.similarity: Similarity = "order" if self.found.attributes.get("similarity") == "order" else "dot"
        self.extractor: dict[str, Any] | None = None
        self.pictures = ""
        self.vectors_of = {"file": str(path.resolve()), **self.found.attributes}
        self.batch = 1
        _require_unique(self.ids, str(path))
        truth = self.found.image_of_caption.numpy()
        self._captions = np.argsort(truth, kind="stable")
        self._bounds = np.searchsorted(truth[self._captions], np.arange(count + 1))

    @property
    def name(self) -> str:
        """The embedding file."""
        return str(self.path)

    @property
    def identity(self) -> str:
        """The vectors themselves."""
        digest = hashlib.sha256()
        for side in self.found.vectors:
            for part in (side.pooled, side.shared):
                digest.update(np.ascontiguousarray(part.numpy()).reshape(-1).view(np.uint8).data)
        digest.update(json.dumps([self.ids, self.found.caption_texts, self.found.image_of_caption.tolist()]).encode())
        return digest.hexdigest()

    def model(self) -> None:
        """Nobody's that can read a text."""
        return

    def save_model(self, path: Path) -> None:
        """Nothing to save."""

    def digests(self, positions: Rows) -> npt.NDArray[np.uint8]:
        """Hash vectors and texts."""
        return _packed(self._digest(row) for row in positions.tolist())

    def content(self, positions: Rows, progress: OnRows, *, captions: bool = True) -> Content:
        """The vectors, and what the file knows of the pictures."""
        found = self.found
        spans = [self._span(row).tolist() for row in positions.tolist()]
        numbers = np.array([caption for span in spans for caption in span], dtype=np.int64)
        texts, names, caption_ids = found.caption_texts, found.file_names, found.caption_ids
        progress(len(positions))
        return Content(
            pictures=RetrievalVectors(found.images.pooled[positions], found.images.shared[positions]),
            captions=RetrievalVectors(found.captions.pooled[numbers], found.captions.shared[numbers]),
            ids=[self.ids[row] for row in positions.tolist()],
            captions_of=[len(span) for span in spans],
            texts=[f"caption {row}" if texts is None else texts[row] for row in numbers.tolist()],
            digests=self.digests(positions),
            source_rows=positions,
            file_names=None if names is None else [names[row] for row in positions.tolist()],
            caption_ids=None if caption_ids is None else [caption_ids[row] for row in numbers.tolist()],
        )

    def _span(self, row: int) -> Rows:
        return self._captions[self._bounds[row] : self._bounds[row + 1]]

    def _digest(self, row: int) -> bytes:
        found, captions = self.found, self._span(row)
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for side, rows in ((found.images, np.array([row])), (found.captions, captions)):
            for part in (side.pooled, side.shared):
                digest.update(np.ascontiguousarray(part[rows].numpy()).reshape(-1).view(np.uint8).data)
        texts, names = found.caption_texts, found.file_names
        described = [
            None if names is None else names[row],
            texts and [texts[caption] for caption in captions.tolist()],
        ]
        digest.update(json.dumps(described).encode())
        return digest.digest()


def _packed(digests: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)


def _require_unique(ids: Sequence[str], where: str) -> None:
    name, times = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if times > 1:
        raise DataError(f"{where}: the picture id {name!r} occurs {times:,} times; an index needs ids that differ")


def open_feature_source(
    checkpoint: Path,
    data: Path | None,
    split: str | None,
    *,
    batch_size: int | None = None,
    compat: Preset | None = None,
    device: str = "auto",
) -> FeatureSource:
    """Load a model and open the features to encode; None for those it was trained on.

    Raises:
        SelfAlignError: a faulty checkpoint, features that do not fit it, or no such split.
    """
    retriever = Retriever.load(checkpoint, device=device, compat=compat)
    return FeatureSource(retriever, checkpoint, retriever.open_features(data), split, batch_size)
