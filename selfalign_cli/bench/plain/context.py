"""Common parts of VSRN and CAMERA, written out: normalisations, and SelfAlign's context branch (MODELS.md 0, 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from selfalign_cli.bench.plain.losses import unit
from selfalign_cli.models.parts.norm import MaskedBatchNorm
from selfalign_cli.models.selfalign import ContextHead

EPS = 1e-5
MOMENTUM = 0.1


def length_one(x: Tensor) -> Tensor:
    """`norm_axis1` of MODELS.md: along axis 1, whatever that is, without a lower bound."""
    return x / x.pow(2).sum(dim=1, keepdim=True).sqrt()


def batch_norm(norm: MaskedBatchNorm, x: Tensor) -> Tensor:
    """Batch normalisation of (n, C) or (B, C, S) by torch; running values move in training."""
    running = (norm.running_mean, norm.running_var)
    return functional.batch_norm(x, *running, norm.weight, norm.bias, norm.training, MOMENTUM, EPS)


def context_branch(head: ContextHead, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Guide, locals and context of (B, S, D) states."""
    mean = states.mean(dim=1)
    guide = batch_norm(head.guide_norm, head.fc(mean))
    locals_ = batch_norm(head.local_norm, states.permute(0, 2, 1).contiguous()).permute(0, 2, 1)
    if head.relu:
        guide, locals_ = functional.relu(guide), functional.relu(locals_)
    gate = head.gate(torch.cat([mean, guide], dim=1))
    return unit(guide), unit(locals_), unit(gate * mean + (1 - gate) * guide)
