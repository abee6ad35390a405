"""The VSRN encoders: region graph and GRU over regions; word table and GRU over words (MODELS.md 2.1, 2.2, 9)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from selfalign_cli.encodings import HostEncoding, ImageBatch, TextBatch
from selfalign_cli.models.parts.basics import last_state, word_table, xavier_linear
from selfalign_cli.models.parts.graph import RegionGraphLayer
from selfalign_cli.models.parts.norm import MaskedBatchNorm, affine, normalize_positions, unit, zero_padding


class VsrnImageEncoder(nn.Module):
    """Regions -> graph -> GRU in the given region order.

    Args:
        feature_dim: F, width of detector features.
        embed_dim: D.
        graph_layers: number of region graph layers.
        normalize_regions: normalise after the first map (every data set but Flickr30K in the released code).
        final_batchnorm: batch normalisation of the last GRU state (Flickr30K only in the released code).
        normalize_over: axis of the 3-D normalisations (M1).
        bounded_norm: bound their lengths below (M1).
        absolute: absolute value of the pooled vector.
        normalize_image: unit length of the pooled vector.
    """

    def __init__(
        self,
        feature_dim: int,
        *,
        embed_dim: int = 2048,
        graph_layers: int = 4,
        normalize_regions: bool = False,
        final_batchnorm: bool = False,
        normalize_over: Literal["places", "embedding"] = "places",
        bounded_norm: bool = True,
        absolute: bool = False,
        normalize_image: bool = True,
    ) -> None:
        super().__init__()
        self.normalize_regions = normalize_regions
        self.normalize_over: Literal["places", "embedding"] = normalize_over
        self.bounded_norm = bounded_norm
        self.absolute = absolute
        self.normalize_image = normalize_image
        self.fc = xavier_linear(feature_dim, embed_dim)
        self.graph = nn.ModuleList(RegionGraphLayer(embed_dim) for _ in range(graph_layers))
        self.gru = nn.GRU(embed_dim, embed_dim, batch_first=True)
        self.norm = MaskedBatchNorm(embed_dim) if final_batchnorm else None

    def forward(self, images: ImageBatch) -> HostEncoding:
        """Encode B pictures; `extras["regions"]` is the normalised graph output (B, R, D)."""
        mask = images.mask
        embedded = zero_padding(affine(images.features, self.fc.weight, self.fc.bias), mask)  # (B, R, D)
        if self.normalize_regions:
            embedded = self._normalize(embedded, mask)
        states = embedded
        for layer in self.graph:
            states = layer(states, mask)
        regions = self._normalize(states, mask)
        pooled = last_state(self.gru(regions)[0], mask)  # (B, D)
        if self.norm is not None:
            pooled = self.norm(pooled)
        if self.normalize_image:
            pooled = unit(pooled)
        if self.absolute:
            pooled = pooled.abs()
        return HostEncoding(pooled.unsqueeze(1), unit(embedded), states, mask, extras={"regions": regions})

    def _normalize(self, x: Tensor, mask: Tensor) -> Tensor:
        return normalize_positions(x, mask, over=self.normalize_over, bounded=self.bounded_norm)


class VsrnTextEncoder(nn.Module):
    """Word table -> (word map, with SelfAlign) -> GRU; the last real state is the caption.

    Args:
        vocab_size: number of words, special words included.
        word_dim: width of the word table.
        embed_dim: D.
        for_selfalign: put a map to D between word table and GRU, whose output feeds the concept loss; the host alone
            runs its GRU on the word vectors (MODELS.md 9).
        absolute: absolute value of the pooled vector.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        word_dim: int = 300,
        embed_dim: int = 2048,
        for_selfalign: bool = True,
        absolute: bool = False,
    ) -> None:
        super().__init__()
        self.absolute = absolute
        self.embed = word_table(vocab_size, word_dim)
        self.word_map = xavier_linear(word_dim, embed_dim) if for_selfalign else None
        self.gru = nn.GRU(embed_dim if for_selfalign else word_dim, embed_dim, batch_first=True)

    def forward(self, texts: TextBatch) -> HostEncoding:
        """Encode B captions; states are zero at padded positions."""
        words = self.embed(texts.ids)
        if self.word_map is not None:
            words = self.word_map(words)
        states = self.gru(words)[0]  # (B, W, D); running past the end is harmless, the states there are dropped
        pooled = unit(last_state(states, texts.mask))
        if self.absolute:
            pooled = pooled.abs()
        return HostEncoding(pooled, unit(words), zero_padding(states, texts.mask), texts.mask)
