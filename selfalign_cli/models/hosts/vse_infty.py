"""The VSE∞ encoders: a map and an MLP over regions; a GRU both ways over words, or BERT; learned pooling on each side.

What is computed is in MODELS.md 13; the paper is arXiv 2011.04305.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from selfalign_cli.encodings import HostEncoding, ImageBatch, TextBatch
from selfalign_cli.models.parts.basics import word_table, xavier_linear
from selfalign_cli.models.parts.gpo import GeneralizedPooling
from selfalign_cli.models.parts.norm import MaskedBatchNorm, unit

LENGTH_TERM = 1e-8


def unit_with_term(x: Tensor) -> Tensor:
    """Divide x (…, D) by its length + 1e-8 (G1)."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / (length + LENGTH_TERM)


class VseInftyImageEncoder(nn.Module):
    """Regions -> linear map plus a residual MLP -> learned pooling.

    Args:
        feature_dim: F, width of region features.
        embed_dim: D.
        mask_regions: batch normalisation sees real regions only; otherwise padded ones too, so that its statistics
            depend on the largest picture of a batch (G3).
        normalize_image: unit length of the pooled vector.
    """

    def __init__(
        self, feature_dim: int, *, embed_dim: int = 1024, mask_regions: bool = True, normalize_image: bool = True
    ) -> None:
        super().__init__()
        self.mask_regions = mask_regions
        self.normalize_image = normalize_image
        self.fc = xavier_linear(feature_dim, embed_dim)
        self.hidden = nn.Linear(feature_dim, embed_dim // 2)
        self.norm = MaskedBatchNorm(embed_dim // 2)
        self.out = nn.Linear(embed_dim // 2, embed_dim)
        self.pool = GeneralizedPooling()

    def forward(self, images: ImageBatch) -> HostEncoding:
        """Encode B pictures; `states` at padded regions are what the maps make of zeros."""
        features, mask = images.features, images.mask
        hidden = self.norm(self.hidden(features), mask if self.mask_regions else None)
        states = self.fc(features) + self.out(functional.relu(hidden))  # (B, R, D)
        pooled = self.pool(states, mask)
        if self.normalize_image:
            pooled = unit_with_term(pooled)
        return HostEncoding(pooled.unsqueeze(1), unit(states), states, mask)


class VseInftyTextEncoder(nn.Module):
    """Word table -> (word map) -> GRU both ways, averaged -> learned pooling, start and end marks included.

    Args:
        vocab_size: number of words, special words included.
        word_dim: width of the word table.
        embed_dim: D.
        concepts: what the concept loss learns from: `words`, for which SelfAlign puts a map to D between word table
            and GRU as on VSRN; or `states` of the GRU, which leaves the host as published, for its weights to fit.
        for_selfalign: whether SelfAlign is on top.
        normalize_text: unit length of the pooled vector.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        word_dim: int = 300,
        embed_dim: int = 1024,
        concepts: Literal["words", "states"] = "words",
        for_selfalign: bool = True,
        normalize_text: bool = True,
    ) -> None:
        super().__init__()
        self.normalize_text = normalize_text
        self.embed = word_table(vocab_size, word_dim)
        mapped = for_selfalign and concepts == "words"
        self.word_map = xavier_linear(word_dim, embed_dim) if mapped else None
        self.gru = nn.GRU(embed_dim if mapped else word_dim, embed_dim, batch_first=True, bidirectional=True)
        self.pool = GeneralizedPooling()

    def forward(self, texts: TextBatch) -> HostEncoding:
        """Encode B captions; states are zero at padded positions."""
        words = self.embed(texts.ids)
        if self.word_map is not None:
            words = self.word_map(words)
        packed = pack_padded_sequence(words, texts.lengths.cpu(), batch_first=True, enforce_sorted=False)
        both, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])
        states = both.view(*texts.ids.shape, 2, -1).mean(dim=2)  # (B, W, D)
        pooled = self.pool(states, texts.mask)
        if self.normalize_text:
            pooled = unit_with_term(pooled)
        concepts = states if self.word_map is None else words
        return HostEncoding(pooled, unit(concepts), states, texts.mask)


class VseInftyBertTextEncoder(nn.Module):
    """Token states of BERT -> linear map -> learned pooling, [CLS] and [SEP] included.

    Args:
        token_dim: E, width of the token states.
        embed_dim: D.
        normalize_text: unit length of the pooled vector.
    """

    def __init__(self, token_dim: int, *, embed_dim: int = 1024, normalize_text: bool = True) -> None:
        super().__init__()
        self.normalize_text = normalize_text
        self.word_map = nn.Linear(token_dim, embed_dim)
        self.pool = GeneralizedPooling()

    def forward(self, texts: TextBatch) -> HostEncoding:
        """Encode B captions, which bring their token states along; states at padded positions mean nothing."""
        assert texts.states is not None
        states = self.word_map(texts.states)  # (B, W, D)
        pooled = self.pool(states, texts.mask)
        if self.normalize_text:
            pooled = unit_with_term(pooled)
        return HostEncoding(pooled, unit(states), states, texts.mask)
