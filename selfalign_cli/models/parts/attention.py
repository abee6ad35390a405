"""What CAMERA is made of: gated self-attention over regions or words, and the views that summarise a picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from selfalign_cli.models.parts.norm import MaskedBatchNorm, unit, zero_padding

CONVOLUTIONS = ((256, 1, 1), (128, 3, 1), (128, 3, 2), (128, 3, 3), (128, 5, 1), (128, 5, 2), (128, 5, 3))
"""Channels, kernel size and dilation of the convolutions that read a region with its neighbours in the list."""


class GatedAttention(nn.Module):
    """Multi-head attention whose queries and keys are gated by what they have in common.

    With q, k, v three linear maps of the input, cut into heads of width d, per head and position

        [m_q; m_k] = σ(Lin(Lin(q) ⊙ Lin(k))),    z = softmax((q ⊙ m_q)(k ⊙ m_k)ᵀ / √d) v,

    the gate maps being shared by all heads. The heads are concatenated without an output map.

    Args:
        dim: D.
        heads: number of heads; divides D.
        dropout: on attention probabilities.
        equal_start: query, key and value maps start as equal copies. Reference: the released code clones one map
            (M10); otherwise the three are drawn independently.

    Source: MODELS.md 3.1; equations 2-5 of CAMERA (Qu et al., ACM MM 2020).
    """

    def __init__(self, dim: int, *, heads: int, dropout: float = 0.0, equal_start: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        self.heads = heads
        self.dropout = dropout
        width = dim // heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.query_gate = nn.Linear(width, width)
        self.key_gate = nn.Linear(width, width)
        self.gate = nn.Linear(width, 2 * width)
        if equal_start:
            self.key.load_state_dict(self.query.state_dict())
            self.value.load_state_dict(self.query.state_dict())

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Let every position read all positions: (B, S, D) -> (B, S, D).

        Args:
            x: (B, S, D); finite at padded positions too.
            key_mask: (B, S) bool, True on positions that are read; None for all. Padded positions still read.
        """
        query, key, value = (self._cut(linear(x)) for linear in (self.query, self.key, self.value))
        gates = torch.sigmoid(self.gate(self.query_gate(query) * self.key_gate(key)))  # (B, S, H, 2d)
        query_gate, key_gate = gates.chunk(2, dim=-1)
        read = functional.scaled_dot_product_attention(
            (query * query_gate).transpose(1, 2),  # (B, H, S, d)
            (key * key_gate).transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=None if key_mask is None else key_mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return read.transpose(1, 2).reshape(x.shape)

    def _cut(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, H, d)."""
        return x.view(*x.shape[:-1], self.heads, -1)


class GatedSelfAttention(nn.Module):
    """Gated attention layers, each with batch normalisation and a residual connection ("AGSA").

    Layer l adds dropout(BN(attention(x ⊙ p))) to its input x; only the first layer knows the position gate p.

    Args:
        dim: D.
        heads: attention heads.
        layers: number of layers.
        dropout: on attention probabilities and on what a layer adds.
        equal_start: see GatedAttention.

    Source: MODELS.md 3.1.
    """

    def __init__(
        self, dim: int, *, heads: int, layers: int = 1, dropout: float = 0.0, equal_start: bool = True
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            GatedAttention(dim, heads=heads, dropout=dropout, equal_start=equal_start) for _ in range(layers)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(dim) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        position: Tensor | None = None,
        *,
        key_mask: Tensor | None = None,
        norm_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, S, D) -> (B, S, D).

        Args:
            x: (B, S, D); finite at padded positions too.
            position: (B, S, D) gate on the input of the first layer, or None.
            key_mask: (B, S), True on positions that are read (M4); None for all.
            norm_mask: (B, S), True on positions that batch normalisation sees (M3); None for all. The others keep
                their input.
        """
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            gated = x if position is None or number else x * position
            x = x + self.dropout(norm(layer(gated, key_mask), norm_mask))
        return x


class ViewSummary(nn.Module):
    """Summarise the regions of a picture in several views, each a weighted mean with learnt weights.

    The weights are a softmax over regions of a (R, V) matrix, computed from each region and its neighbours in the
    given region order by parallel convolutions of several widths and dilations.

    Args:
        dim: D.
        views: V.

    Source: MODELS.md 3.2 step 5; `Summarization` of the released CAMERA.
    """

    def __init__(self, dim: int, *, views: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(dim, channels, kernel, dilation=dilation, padding=dilation * (kernel // 2))
            for channels, kernel, dilation in CONVOLUTIONS
        )
        self.out = nn.Linear(sum(channels for channels, _, _ in CONVOLUTIONS), views)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the views of B pictures.

        Args:
            x: (B, R, D) regions.
            mask: (B, R), True on real regions; None when all are. Padded ones count as zeros, as beyond the list.

        Returns:
            Views (B, V, D) of unit length, and the raw matrix (B, R, V), zero at padded positions.
        """
        x = zero_padding(x, mask)
        logits = zero_padding(self.logits(x), mask)
        weights = logits if mask is None else logits.masked_fill(~mask.unsqueeze(-1), float("-inf"))
        return unit(weights.softmax(dim=1).transpose(1, 2) @ x), logits

    def logits(self, x: Tensor) -> Tensor:
        """Raw matrix of the weights: (B, R, D), zero at padded positions -> (B, R, V)."""
        channels_first = x.transpose(1, 2)
        neighbourhoods = torch.cat([functional.relu(conv(channels_first)) for conv in self.convs], dim=1)
        logits: Tensor = self.out(neighbourhoods.transpose(1, 2))
        return logits
