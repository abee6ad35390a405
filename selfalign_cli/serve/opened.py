"""The index that is served: opened once, opened again when it is replaced, and asked by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from selfalign_cli.data.features.file import FeatureFile
from selfalign_cli.data.picture_files import PictureFiles, picture_files
from selfalign_cli.encodings import RetrievalVectors
from selfalign_cli.errors import DataError, SelfAlignError
from selfalign_cli.search.index import Index
from selfalign_cli.search.layout import MANIFEST
from selfalign_cli.similarity import similarity

UNRELATED = 256
"""Captions, evenly spread over the index, that stand for any caption."""
QUANTILE = 0.95
"""A score counts as unrelated where so many of them would have reached it."""
Stamp = tuple[int, int, int]


@dataclass
class Opened:
    """One state of an index, with what is read from it once.

    Attributes:
        index: the index.
        stamp: of its manifest, to notice that it was replaced.
        given: folders of pictures that the user named.
        device: where texts are encoded.
    """

    index: Index
    stamp: Stamp
    given: tuple[Path, ...]
    device: str
    _features: dict[Path, tuple[FeatureFile, PictureFiles] | None] = field(default_factory=dict)
    _unrelated: RetrievalVectors | None = None

    def picture_path(self, row: int) -> Path | None:
        """The file of a picture, or None."""
        picture = self.index.picture(row)
        if picture.path is not None and not self.given:
            return picture.path
        known = self.features_of(row)
        places = known[1] if known is not None else PictureFiles(tuple(f.resolve() for f in self.given), {})
        return places.find(picture.id, picture.file_name) or picture.path

    def features_of(self, row: int) -> tuple[FeatureFile, PictureFiles] | None:
        """The features a picture was encoded from, if they are still there, and where its pictures are."""
        source = self.index.picture(row).features
        if source is None:
            return None
        path = source[0]
        if path not in self._features:
            try:
                file = FeatureFile(path)
                self._features[path] = (file, picture_files(file, self.given))
            except SelfAlignError:
                self._features[path] = None
        return self._features[path]

    def feature_row(self, row: int) -> tuple[FeatureFile, int]:
        """The features of a picture, and its row there.

        Raises:
            DataError: they are gone, or hold another picture by now.
        """
        picture, known = self.index.picture(row), self.features_of(row)
        if picture.features is None or known is None:
            raise DataError(
                f"the features of {picture.id} are not there any more, so its score cannot be explained",
                "put the feature file back where it was",
            )
        file, place = known[0], picture.features[1]
        if place >= len(file) or file.image_ids[place] != picture.id:
            raise DataError(f"{file.path} holds other pictures by now", "index it again: selfalign index … --update")
        return file, place

    def unrelated_level(self, rows: Sequence[int]) -> float | None:
        """The score that captions which have nothing to do with these pictures rarely exceed; None without captions.

        For each picture, the `QUANTILE` of its scores with `UNRELATED` captions of the index; of these, the median.
        """
        if not rows or not self.index.caption_count or self.index.manifest.similarity == "order":
            return None
        if self._unrelated is None:
            self._unrelated = self._some_captions()
        parts = [self.index.vectors(row) for row in rows]
        pictures = RetrievalVectors(
            torch.cat([part.pooled for part in parts]), torch.cat([part.shared for part in parts])
        )
        scores = similarity(pictures, self._unrelated, self.index.manifest.similarity)
        return float(scores.quantile(QUANTILE, dim=1).median())

    def _some_captions(self) -> RetrievalVectors:
        pooled, shared = [], []
        for part in self.index.parts("captions"):
            fine = part.stored.fine
            living = np.setdiff1d(np.arange(len(fine.pooled)), part.dead)
            wanted = max(1, round(UNRELATED * len(living) / self.index.caption_count)) if len(living) else 0
            rows = living[np.linspace(0, len(living) - 1, wanted).astype(np.int64)] if wanted else living
            pooled.append(fine.pooled[rows][:, 0])
            shared.append(fine.shared[rows])
        return RetrievalVectors(torch.cat(pooled), torch.cat(shared))


class Served:
    """The index as it is on disk now.

    Args:
        folder: of the index.
        pictures: folders of pictures that the user names.
        device: where texts are encoded.
        notify: shows messages.

    Attributes:
        changed: called when the index was opened again.

    Raises:
        DataError: it is no index.
    """

    def __init__(
        self, folder: Path, *, pictures: Sequence[Path] = (), device: str = "auto", notify: Callable[[str], None]
    ) -> None:
        self.folder, self.pictures, self.device, self.notify = folder, tuple(pictures), device, notify
        self.changed: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._opened = self._open()

    @property
    def identity(self) -> str:
        """Of the state that is open."""
        return self._opened.index.identity

    def now(self) -> Opened:
        """The index; opened again if it was replaced. If that fails, the state that was open goes on."""
        try:
            stamp = _stamp(self.folder)
        except OSError:
            return self._opened
        with self._lock:
            if stamp != self._opened.stamp:
                self._open_again(stamp)
            return self._opened

    def _open_again(self, stamp: Stamp) -> None:
        try:
            self._opened = self._open(self._opened)
        except SelfAlignError as fault:
            self.notify(f"{self.folder} has changed and cannot be opened, so it is served as it was: {fault.message}")
            self._opened.stamp = stamp  # not tried again before the next change
            return
        self.notify(f"{self.folder} has changed: {len(self._opened.index):,} pictures")
        if self.changed is not None:
            self.changed()

    def warm(self) -> None:
        """Load the model and answer once, so that the first query is as fast as the next."""
        opened = self.now()
        if opened.index.manifest.model is not None:
            retriever = opened.index.retriever(self.device)
            opened.index.search(retriever.encode_texts(["warm"]), 1)

    def _open(self, before: Opened | None = None) -> Opened:
        stamp = _stamp(self.folder) if (self.folder / MANIFEST).exists() else (0, 0, 0)  # before what it stamps
        index = Index.open(self.folder)
        if before is not None and before.index.manifest.model == index.manifest.model:
            index._retrievers.update(before.index._retrievers)  # the same model
        return Opened(index, stamp, self.pictures, self.device)


def _stamp(folder: Path) -> Stamp:
    found = (folder / MANIFEST).stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
