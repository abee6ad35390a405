"""The named tensors that travel between data, encoders, SelfAlign, losses and scores.

Shapes use one alphabet: B pairs in a batch, N images, M captions, R regions, W padded words, F feature width,
D embedding width, V views, C width of the context block, S positions (regions or words).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def _moved(batch: T, device: torch.device | str, dtype: torch.dtype | None) -> T:
    """Copy a dataclass of tensors to a device; floating tensors also to `dtype` when one is given."""
    changes: dict[str, object] = {}
    for name, value in vars(batch).items():
        if isinstance(value, Tensor):
            target = dtype if dtype is not None and value.is_floating_point() else value.dtype
            changes[name] = value.to(device=device, dtype=target, non_blocking=True)
    return replace(batch, **changes)  # type: ignore[type-var]


def _rows(batch: T, rows: slice) -> T:
    """Take some rows of every tensor of a dataclass."""
    tensors = {name: value[rows] for name, value in vars(batch).items() if isinstance(value, Tensor)}
    return replace(batch, **tensors)  # type: ignore[type-var]


@dataclass(frozen=True)
class ImageBatch:
    """The regions of B pictures, zero-padded to the largest region count of the batch.

    Attributes:
        features: (B, R, F) detector features, floating point.
        mask: (B, R) bool, True on real regions.
        index: (B,) int64, row of the picture in the data set; equal numbers mean the same picture.
        boxes: (B, R, 4) x1, y1, x2, y2 in pixels, or None when the file has none.
        size: (B, 2) width and height in pixels, or None.
    """

    features: Tensor
    mask: Tensor
    index: Tensor
    boxes: Tensor | None = None
    size: Tensor | None = None

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> ImageBatch:
        """Copy to a device (and floating tensors to a dtype)."""
        return _moved(self, device, dtype)


@dataclass(frozen=True)
class TextBatch:
    """The token ids of B captions, zero-padded to the longest of the batch (or to a fixed width).

    Attributes:
        ids: (B, W) int64, 0 at padded positions; start and end marks included.
        mask: (B, W) bool, True on real tokens, which come first in every row.
        states: (B, W, E) token states of a frozen token encoder, computed beforehand, zero at padded positions; None
            leaves them to the model.
    """

    ids: Tensor
    mask: Tensor
    states: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """(B,) int64 number of real tokens."""
        return self.mask.sum(dim=1)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> TextBatch:
        """Copy to a device."""
        return _moved(self, device, dtype)


@dataclass(frozen=True)
class PairBatch:
    """B (picture, caption) pairs: row b of `images` belongs to row b of `texts`.

    Attributes:
        images: the pictures.
        texts: the captions.
        captions: (B,) int64 caption rows in the data set.
    """

    images: ImageBatch
    texts: TextBatch
    captions: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> PairBatch:
        """Copy to a device (and floating tensors to a dtype)."""
        return PairBatch(self.images.to(device, dtype), self.texts.to(device, dtype), self.captions)

    def rows(self, rows: slice) -> PairBatch:
        """Take some of the pairs, with the padding they have."""
        return PairBatch(_rows(self.images, rows), _rows(self.texts, rows), self.captions[rows])


@dataclass(frozen=True)
class HostEncoding:
    """What an image or text encoder of any host yields; all that SelfAlign may know of it.

    Attributes:
        pooled: pictures (B, V, D), V = 1 without views; captions (B, D).
        concepts: (B, S, D) region or word vectors of unit length, for the concept loss.
        states: (B, S, D) region or word states, not normalised, for the context head.
        mask: (B, S) bool, True on real positions.
        extras: what only some hosts have, by name, for the loss terms that read it; B rows each.
    """

    pooled: Tensor
    concepts: Tensor
    states: Tensor
    mask: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ContextEncoding:
    """What the SelfAlign context head makes of a host's states (arXiv 2308.14009, context level).

    Attributes:
        guide: (B, D) unit-length global guide, the query of the other side's context loss.
        locals: (B, S, D) unit-length local features, the keys of the context loss.
        mask: (B, S) bool, True on positions that count in `mean_local` and as keys.
        context: (B, D) unit-length fusion of mean state and guide.
        mean_local: (B, D) mean of the locals; not of unit length.
    """

    guide: Tensor
    locals: Tensor
    mask: Tensor
    context: Tensor
    mean_local: Tensor


@dataclass(frozen=True)
class RetrievalVectors:
    """What is stored and searched. Score of a pair: max_v(pooled_v · pooled) + shared · shared.

    Attributes:
        pooled: pictures (N, V, D); captions (M, D).
        shared: (N, C) / (M, C), the context block, the same for all views; C = 0 without one.
    """

    pooled: Tensor
    shared: Tensor

    def concatenated(self) -> Tensor:
        """The vectors as the published programs store them: (N, V, D + C) or (M, D + C)."""
        shared = self.shared
        if self.pooled.dim() == 3:
            shared = shared.unsqueeze(1).expand(-1, self.pooled.shape[1], -1)
        return torch.cat([self.pooled, shared], dim=-1)


@dataclass(frozen=True)
class Encoding:
    """One side of a batch, encoded: the host's part, SelfAlign's part if there is one, and the vectors to search."""

    host: HostEncoding
    context: ContextEncoding | None
    vectors: RetrievalVectors


@dataclass(frozen=True)
class EncodedBatch:
    """A batch with both of its sides encoded: what a loss term may read."""

    images: Encoding
    texts: Encoding
    batch: PairBatch

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Look up tensors by their paths, such as `images.context.guide` or `texts.host.extras.NAME`; B rows each.

        Raises:
            LookupError: there is no such tensor.
        """
        return {name: self._tensor(name) for name in names}

    def _tensor(self, name: str) -> Tensor:
        value: object = self
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        if not isinstance(value, Tensor):
            raise LookupError(f"a loss term reads {name}, which this model does not give")
        return value
