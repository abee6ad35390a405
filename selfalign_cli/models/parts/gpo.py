"""The generalized pooling operator: a learned mean of sorted values (VSE∞, arXiv 2011.04305; MODELS.md 13.2)."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

POSITION_DIM, HIDDEN_DIM = 32, 32
TEMPERATURE = 0.1  # of the softmax over positions
PADDED = -10000.0  # what stands in padded positions while values are sorted


class GeneralizedPooling(nn.Module):
    """Sort every coordinate over the positions, largest first, and average with learned weights.

    The weight of a rank is a softmax over the scores of a bidirectional GRU that reads the sinusoidal code of every
    position: it depends on the number of positions alone, not on what is pooled. (1, 0, …) would be a maximum, equal
    weights a mean.

    Args:
        position_dim: width of the code of a position, even.
        hidden_dim: width of the GRU, each way.
    """

    def __init__(self, position_dim: int = POSITION_DIM, hidden_dim: int = HIDDEN_DIM) -> None:
        super().__init__()
        self.position_dim = position_dim
        self.gru = nn.GRU(position_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(hidden_dim, 1, bias=False)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Pool the real positions of features (B, S, D), mask (B, S), into (B, D)."""
        width = features.shape[1]
        masked = features.masked_fill(~mask.unsqueeze(2), PADDED) if _padded(mask) else features
        ordered = masked.transpose(1, 2).sort(dim=2, descending=True).values  # (B, D, S)
        return (ordered @ self.weights(mask.sum(dim=1), width).unsqueeze(2)).squeeze(2)

    def weights(self, lengths: Tensor, width: int) -> Tensor:
        """Weights of the ranks, (B, width), for lengths (B,); zero beyond a length."""
        distinct, which = torch.unique(lengths, return_inverse=True)
        return self._weights_of(distinct, width)[which]

    def _weights_of(self, lengths: Tensor, width: int) -> Tensor:
        """Weights for n different lengths: (n, width)."""
        weight = self.linear.weight
        table = position_table(width, self.position_dim).to(weight.device, weight.dtype)
        packed = pack_padded_sequence(
            table.expand(len(lengths), -1, -1), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=width)
        both = states.view(len(lengths), width, 2, -1).mean(dim=2)  # (n, width, h)
        outside = torch.arange(width, device=weight.device) >= lengths.unsqueeze(1)
        scores = self.linear(both).squeeze(2).masked_fill(outside, PADDED)
        return torch.softmax(scores / TEMPERATURE, dim=1)


@cache
def position_table(positions: int, width: int) -> Tensor:
    """Sine and cosine codes of positions 0, 1, …: (positions, width) float32 on the CPU.

    Reference: single precision in every step, which is 1e-6 off an exact table at 36 positions (G2).
    """
    with torch.inference_mode(False), torch.device("cpu"):
        rates = torch.exp(torch.arange(0, width, 2).float() * -(math.log(10000.0) / width))
        angles = torch.arange(positions).float().unsqueeze(1) * rates
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def _padded(mask: Tensor) -> bool:
    """Whether there may be padding; a look is free on CPUs only."""
    return mask.device.type != "cpu" or not bool(mask.all())
