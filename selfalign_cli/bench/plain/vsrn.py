"""The VSRN encoders with SelfAlign written out (MODELS.md 2.1, 2.2): every map is a separate convolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from selfalign_cli.bench.plain.context import batch_norm, context_branch, length_one
from selfalign_cli.bench.plain.losses import unit
from selfalign_cli.models.hosts.vsrn import VsrnImageEncoder, VsrnTextEncoder
from selfalign_cli.models.parts.graph import RegionGraphLayer
from selfalign_cli.models.selfalign import ContextHead


@dataclass(frozen=True)
class PlainSide:
    """Encodings of B pictures or captions by VSRN with SelfAlign.

    Attributes:
        pooled: (B, D).
        concepts: (B, S, D) of unit length.
        regions: (B, R, D) input of the caption generator; of captions, their states.
        guide: (B, D) of unit length.
        locals: (B, S, D) of unit length.
        context: (B, D) of unit length.
    """

    pooled: Tensor
    concepts: Tensor
    regions: Tensor
    guide: Tensor
    locals: Tensor
    context: Tensor

    def image_vectors(self) -> Tensor:
        """(B, 3D) retrieval vectors of pictures: [f ; ½ context ; ½ mean of locals] (MODELS.md 2.4)."""
        return torch.cat([self.pooled, 0.5 * self.context, 0.5 * self.locals.mean(dim=1)], dim=1)

    def caption_vectors(self) -> Tensor:
        """(B, 3D) retrieval vectors of captions: [f ; mean of locals ; context]."""
        return torch.cat([self.pooled, self.locals.mean(dim=1), self.context], dim=1)


def convolution(linear: nn.Linear, x: Tensor) -> Tensor:
    """A map of (B, D, R) as a convolution of width one."""
    return functional.conv1d(x, linear.weight.unsqueeze(2), linear.bias)


def graph_layer(layer: RegionGraphLayer, x: Tensor) -> Tensor:
    """One region graph layer on (B, D, R)."""
    values = convolution(layer.g, x).permute(0, 2, 1)
    theta = convolution(layer.theta, x).permute(0, 2, 1)
    affinity = torch.matmul(theta, convolution(layer.phi, x)) / x.shape[2]
    gathered = torch.matmul(affinity, values).permute(0, 2, 1).contiguous()
    return batch_norm(layer.norm, convolution(layer.out, gathered)) + x


def encode_images(encoder: VsrnImageEncoder, head: ContextHead, features: Tensor) -> PlainSide:
    """Encode (B, R, F) pictures whose regions are all real."""
    embedded = encoder.fc(features)
    if encoder.normalize_regions:
        embedded = length_one(embedded)
    states = embedded.permute(0, 2, 1)
    for layer in encoder.graph:
        assert isinstance(layer, RegionGraphLayer)
        states = graph_layer(layer, states)
    states = states.permute(0, 2, 1)
    regions = length_one(states)
    pooled = encoder.gru(regions)[1][0]
    if encoder.norm is not None:
        pooled = batch_norm(encoder.norm, pooled)
    return PlainSide(length_one(pooled), unit(embedded), regions, *context_branch(head, states))


def encode_texts(encoder: VsrnTextEncoder, head: ContextHead, ids: Tensor, lengths: list[int]) -> PlainSide:
    """Encode (B, W) captions, longest first."""
    words = encoder.embed(ids)
    if encoder.word_map is not None:
        words = encoder.word_map(words)
    packed = encoder.gru(pack_padded_sequence(words, lengths, batch_first=True))[0]
    states = pad_packed_sequence(packed, batch_first=True)[0]
    last = torch.tensor(lengths, device=ids.device).view(-1, 1, 1).expand(-1, 1, states.shape[2]) - 1
    pooled = length_one(torch.gather(states, 1, last).squeeze(1))
    return PlainSide(pooled, unit(words), states, *context_branch(head, states))
