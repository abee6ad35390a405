"""The CAMERA encoders: gated attention and views over regions; gated attention and a mean over token states."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from selfalign_cli.encodings import HostEncoding, ImageBatch, TextBatch
from selfalign_cli.errors import DataError
from selfalign_cli.models.parts.attention import GatedSelfAttention, ViewSummary
from selfalign_cli.models.parts.basics import xavier_linear
from selfalign_cli.models.parts.norm import MaskedBatchNorm, masked_mean, normalize_positions, unit
from selfalign_cli.models.parts.positions import BoxGate


class CameraImageEncoder(nn.Module):
    """Regions and boxes -> gated self-attention -> views. Padded regions never take part.

    Args:
        feature_dim: F, width of detector features.
        embed_dim: D.
        heads: attention heads; they divide D.
        views: V, vectors per picture.
        attention_layers: gated self-attention layers.
        dropout: in the attention layers.
        equal_start: query, key and value maps start as equal copies (M10).
        guard_boxes: bound box heights away from zero (M11).
        normalize_over: axis of the 3-D normalisations (M1).
        bounded_norm: bound their lengths below (M1).
    """

    def __init__(
        self,
        feature_dim: int,
        *,
        embed_dim: int = 2048,
        heads: int = 64,
        views: int = 12,
        attention_layers: int = 1,
        dropout: float = 0.0,
        equal_start: bool = True,
        guard_boxes: bool = True,
        normalize_over: Literal["places", "embedding"] = "places",
        bounded_norm: bool = True,
    ) -> None:
        super().__init__()
        self.normalize_over: Literal["places", "embedding"] = normalize_over
        self.bounded_norm = bounded_norm
        self.fc = xavier_linear(feature_dim, embed_dim)
        self.box_gate = BoxGate(embed_dim, guard=guard_boxes)
        self.attention = GatedSelfAttention(
            embed_dim, heads=heads, layers=attention_layers, dropout=dropout, equal_start=equal_start
        )
        self.summary = ViewSummary(embed_dim, views=views)

    def forward(self, images: ImageBatch) -> HostEncoding:
        """Encode B pictures into V views each.

        Raises:
            DataError: the pictures come without boxes or without their sizes.
        """
        if images.boxes is None or images.size is None:
            raise DataError(
                "CAMERA reads region boxes and picture sizes, and this feature file lacks them",
                "convert features that come with boxes, or train VSRN, which needs none",
            )
        mask = images.mask
        embedded = self._normalize(self.fc(images.features), mask)  # (B, R, D)
        position = self.box_gate(images.boxes, images.size, mask)
        states = self.attention(embedded, position, key_mask=mask, norm_mask=mask)
        views, logits = self.summary(self._normalize(states, mask), mask)
        return HostEncoding(views, unit(embedded), states, mask, extras={"view_logits": logits})

    def _normalize(self, x: Tensor, mask: Tensor) -> Tensor:
        return normalize_positions(x, mask, over=self.normalize_over, bounded=self.bounded_norm)


class CameraTextEncoder(nn.Module):
    """Token states -> gated self-attention -> feed-forward -> mean over words.

    Args:
        token_dim: E, width of the token states.
        embed_dim: D.
        heads: attention heads; they divide D.
        attention_layers: gated self-attention layers.
        dropout: in attention and feed-forward layers.
        equal_start: query, key and value maps start as equal copies (M10).
        normalize_over: axis of the 3-D normalisation (M1).
        bounded_norm: bound its lengths below (M1).
        for_selfalign: normalise the mapped tokens, which feed the concept loss; the host alone does not, and its map
            starts with default weights (MODELS.md 9).
        masked_means: the normalisation over words and the final mean leave padding out (M2).
        masked_batchnorm: batch normalisation leaves padding out (M3).
        masked_attention: padded words are not read (M4).
    """

    def __init__(
        self,
        token_dim: int,
        *,
        embed_dim: int = 2048,
        heads: int = 64,
        attention_layers: int = 1,
        dropout: float = 0.0,
        equal_start: bool = True,
        normalize_over: Literal["places", "embedding"] = "places",
        bounded_norm: bool = True,
        for_selfalign: bool = True,
        masked_means: bool = True,
        masked_batchnorm: bool = True,
        masked_attention: bool = True,
    ) -> None:
        super().__init__()
        self.normalize_over: Literal["places", "embedding"] = normalize_over
        self.bounded_norm = bounded_norm
        self.for_selfalign = for_selfalign
        self.masked_means = masked_means
        self.masked_batchnorm = masked_batchnorm
        self.masked_attention = masked_attention
        self.word_map = xavier_linear(token_dim, embed_dim) if for_selfalign else nn.Linear(token_dim, embed_dim)
        self.attention = GatedSelfAttention(
            embed_dim, heads=heads, layers=attention_layers, dropout=dropout, equal_start=equal_start
        )
        self.feed_forward = nn.Sequential(
            nn.Linear(embed_dim, embed_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(embed_dim, embed_dim)
        )
        self.norm = MaskedBatchNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, texts: TextBatch) -> HostEncoding:
        """Encode B captions, which bring their token states along; `concepts` and `states` are (B, W, D)."""
        assert texts.states is not None
        mean_mask, norm_mask, key_mask = (
            texts.mask if masked else None
            for masked in (self.masked_means, self.masked_batchnorm, self.masked_attention)
        )
        words = self.word_map(texts.states)  # (B, W, D)
        if self.for_selfalign:
            words = normalize_positions(words, mean_mask, over=self.normalize_over, bounded=self.bounded_norm)
        states = self.attention(words, key_mask=key_mask, norm_mask=norm_mask)
        read = states + self.dropout(self.norm(self.feed_forward(states), norm_mask))
        return HostEncoding(unit(masked_mean(read, mean_mask)), unit(words), states, texts.mask)
