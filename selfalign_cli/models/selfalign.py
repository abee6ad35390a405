"""SelfAlign's context module on top of any pair of encoders (arXiv 2308.14009, context level; MODELS.md 2.1-2.4).

It sees a host only through `HostEncoding`: pooled vectors, states and masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from selfalign_cli.encodings import ContextEncoding, HostEncoding, RetrievalVectors
from selfalign_cli.models.parts.norm import MaskedBatchNorm, masked_mean, unit


class ContextHead(nn.Module):
    """Guide, locals and fused context of one side.

    With a the mean of the states x_s,

        u = BN(Lin(a)),  q_s = BN(x_s)  (ReLU on both),  g = σ(Lin(ReLU(Lin([a; u])))),  c = g·a + (1 - g)·u.

    Args:
        dim: D, width of the states.
        relu: ReLU on u and q.
    """

    def __init__(self, dim: int, *, relu: bool = True) -> None:
        super().__init__()
        self.relu = relu
        self.fc = nn.Linear(dim, dim)
        self.guide_norm = MaskedBatchNorm(dim)
        self.local_norm = MaskedBatchNorm(dim)
        self.gate = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, 1), nn.Sigmoid())

    def forward(
        self, states: Tensor, *, mean_mask: Tensor | None, norm_mask: Tensor | None, key_mask: Tensor | None
    ) -> ContextEncoding:
        """Read (B, S, D) states; each mask (B, S) is None where padded positions take part (published text side).

        Args:
            states: (B, S, D), not normalised.
            mean_mask: positions that the two means run over (M2).
            norm_mask: positions that the statistics of the locals see (M3).
            key_mask: positions that are keys of the context loss (M4).
        """
        mean = masked_mean(states, mean_mask)
        guide = self.guide_norm(self.fc(mean))
        locals_ = self.local_norm(states, norm_mask)
        if self.relu:
            guide, locals_ = functional.relu(guide), functional.relu(locals_)
        gate = self.gate(torch.cat([mean, guide], dim=-1))  # (B, 1)
        locals_ = unit(locals_)
        if key_mask is None:
            key_mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        return ContextEncoding(
            guide=unit(guide),
            locals=locals_,
            mask=key_mask,
            context=unit(gate * mean + (1 - gate) * guide),
            mean_local=masked_mean(locals_, mean_mask),
        )


class SelfAlign(nn.Module):
    """A context head per side, and the rule by which context joins the retrieval vectors.

    The halves are crossed between the sides: the picture's context meets the caption's mean local and the other way
    round, so the score gains w·(context_I · local_T + local_I · context_T), w the picture's factor.

    Args:
        dim: D.
        relu: see ContextHead.
        context_embedding: append the context block to the retrieval vectors.
        image_context_weight: w. Reference: 0.5 in the released code, on the picture's block only.
        context_first: order of the picture's block, (context, local) for VSRN and (local, context) for CAMERA in the
            released files; the caption's block has the other order.
        masked_means, masked_batchnorm, masked_keys: whether padded words stay out (M2, M3, M4). Padded regions
            always do.
    """

    def __init__(
        self,
        dim: int,
        *,
        relu: bool = True,
        context_embedding: bool = True,
        image_context_weight: float = 0.5,
        context_first: bool = True,
        masked_means: bool = True,
        masked_batchnorm: bool = True,
        masked_keys: bool = True,
    ) -> None:
        super().__init__()
        self.context_embedding = context_embedding
        self.image_context_weight = image_context_weight
        self.context_first = context_first
        self.masked_means = masked_means
        self.masked_batchnorm = masked_batchnorm
        self.masked_keys = masked_keys
        self.image_head = ContextHead(dim, relu=relu)
        self.text_head = ContextHead(dim, relu=relu)

    def encode_image(self, host: HostEncoding) -> tuple[ContextEncoding, RetrievalVectors]:
        """Context of B pictures, and their retrieval vectors."""
        mask = host.mask
        context = self.image_head(host.states, mean_mask=mask, norm_mask=mask, key_mask=mask)
        block = self._block(context, context_first=self.context_first)
        return context, RetrievalVectors(host.pooled, self.image_context_weight * block)

    def encode_text(self, host: HostEncoding) -> tuple[ContextEncoding, RetrievalVectors]:
        """Context of B captions, and their retrieval vectors."""
        context = self.text_head(
            host.states,
            mean_mask=host.mask if self.masked_means else None,
            norm_mask=host.mask if self.masked_batchnorm else None,
            key_mask=host.mask if self.masked_keys else None,
        )
        return context, RetrievalVectors(host.pooled, self._block(context, context_first=not self.context_first))

    def _block(self, context: ContextEncoding, *, context_first: bool) -> Tensor:
        if not self.context_embedding:
            return context.context[:, :0]
        parts = [context.context, context.mean_local]
        return torch.cat(parts if context_first else parts[::-1], dim=-1)
